"""Solutions of lesson 3, and mistakes that its checks must find."""

import torch


def weights(query, keys, scalar, cap):
    scores = keys @ query / scalar**0.5
    return (torch.tanh(scores / cap) * cap).softmax(0)


def weights__without_the_cap(query, keys, scalar, cap):
    return (keys @ query / scalar**0.5).softmax(0)


def weights__divides_by_the_scalar_itself(query, keys, scalar, cap):
    scores = keys @ query / scalar
    return (torch.tanh(scores / cap) * cap).softmax(0)


def weights__clamps_hard(query, keys, scalar, cap):
    return (keys @ query / scalar**0.5).clamp(-cap, cap).softmax(0)


def weights__divides_by_the_root_of_the_size_of_a_head(query, keys, scalar, cap):
    scores = keys @ query / len(query) ** 0.5
    return (torch.tanh(scores / cap) * cap).softmax(0)


def sees(now, then, window):
    return 0 <= now - then < (now + 1 if window is None else window)


def sees__one_too_many(now, then, window):
    return then <= now and (window is None or now - then <= window)


def sees__forgets_that_time_has_a_direction(now, then, window):
    return window is None or abs(now - then) < window


def sees__not_itself(now, then, window):
    return then < now and (window is None or now - then < window)


def mates(head, heads, sets):
    size = heads // sets
    first = head // size * size
    return list(range(first, first + size))


def mates__deals_them_out_like_cards(head, heads, sets):
    return [other for other in range(heads) if other % sets == head % sets]


def mates__divides_by_the_sets(head, heads, sets):
    return [other for other in range(heads) if other // sets == head // sets]
