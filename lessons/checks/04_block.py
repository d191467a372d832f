"""Checks of lesson 4: each calls what you wrote, and says what is wrong with it."""

import torch


def gated(candidate):
    one = torch.ones(1, 1)
    found = candidate(torch.tensor([1.0]), 2 * one, 3 * one, 5 * one)
    assert found.shape == (1,), f"[E] goes in and [E] comes out; yours has the shape {list(found.shape)}"
    assert abs(float(found) - 29.319) < 0.01, "gate 2, up 3, down 5: GELU(2) is 1.9546, times 3, times 5"
    found = float(candidate(torch.tensor([1.0]), -one, one, one))
    assert found < 0, "GELU of -1 is a little below zero, not zero: it is not a ReLU"
    assert abs(found + 0.15881) < 2e-5, "the tanh form gives -0.15881 at -1; other forms of GELU differ a little"
    gate, up, down = torch.eye(3, 2), torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), torch.ones(2, 3)
    found = candidate(torch.tensor([1.0, 2.0]), gate, up, down)
    assert torch.allclose(found, torch.tensor([3.6370, 3.6370]), atol=1e-3), (
        "each of the F places has a gate of its own: GELU(gate x) times (up x), place by place, then down"
    )


def block(candidate):
    x = torch.tensor([[1.0, 10.0]])
    nothing = [lambda _: torch.zeros(1, 2)] * 4
    assert torch.equal(candidate(x, lambda v: v, lambda v: v, nothing), x), (
        "norms that let nothing through leave x as it was: each part adds to the road"
    )
    order = []

    def note(name, change):
        return lambda v: (order.append(name), change(v))[1]

    steps = [note("norm 1", lambda v: v + 1), note("norm 2", lambda v: 2 * v)]
    steps += [note("norm 3", lambda v: v + 3), note("norm 4", lambda v: 5 * v)]
    found = candidate(x, note("attention", lambda v: 7 * v), note("feed-forward", lambda v: 11 * v), steps)
    wanted = ["norm 1", "attention", "norm 2", "norm 3", "feed-forward", "norm 4"]
    assert order == wanted, f"the order is {', '.join(wanted)}; yours is {', '.join(order)}"
    middle = x + 2 * 7 * (x + 1)
    wanted = middle + 5 * 11 * (middle + 3)
    assert torch.allclose(found, wanted), (
        "each part reads from the road as it is, and its second norm comes before the sum"
    )


def chances(candidate):
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = candidate(torch.tensor([1.0, 3.0]), lambda v: v, table, 30.0)
    assert found.shape == (3,), f"three rows, three probabilities; yours have the shape {list(found.shape)}"
    assert torch.allclose(found.sum(), torch.tensor(1.0)), "probabilities add up to 1: the softmax is missing"
    found = candidate(torch.tensor([100.0, 300.0]), lambda v: v, table, 30.0)
    assert abs(float(found[1] - found[2])) < 1e-3, "scores 300 and 400 are both past the cap: equally likely"
    found = candidate(torch.tensor([2.0, 6.0]), lambda v: v / 2, table, 2.0)
    wanted = (2 * torch.tanh(torch.tensor([1.0, 3.0, 4.0]) / 2)).softmax(0)
    assert torch.allclose(found, wanted, atol=1e-4), "the norm comes first; scores 1, 3, 4 and cap 2: 2 tanh(s / 2)"
