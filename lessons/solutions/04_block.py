"""Solutions of lesson 4, and mistakes that its checks must find."""

import math

import torch


def _gelu(g):
    return 0.5 * g * (1 + torch.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)))


def gated(x, gate, up, down):
    return down @ (_gelu(gate @ x) * (up @ x))


def gated__bends_the_wrong_one(x, gate, up, down):
    return down @ ((gate @ x) * _gelu(up @ x))


def gated__takes_a_relu(x, gate, up, down):
    return down @ ((gate @ x).relu() * (up @ x))


def gated__takes_the_exact_gelu(x, gate, up, down):
    return down @ (torch.nn.functional.gelu(gate @ x) * (up @ x))


def block(x, attention, feed_forward, norms):
    x = x + norms[1](attention(norms[0](x)))
    return x + norms[3](feed_forward(norms[2](x)))


def block__norms_after_the_sum(x, attention, feed_forward, norms):
    x = norms[1](x + attention(norms[0](x)))
    return norms[3](x + feed_forward(norms[2](x)))


def block__adds_to_what_was_normed(x, attention, feed_forward, norms):
    first = norms[0](x)
    x = first + norms[1](attention(first))
    third = norms[2](x)
    return third + norms[3](feed_forward(third))


def block__both_parts_side_by_side(x, attention, feed_forward, norms):
    return x + norms[1](attention(norms[0](x))) + norms[3](feed_forward(norms[2](x)))


def chances(x, norm, table, cap):
    return (cap * torch.tanh(table @ norm(x) / cap)).softmax(0)


def chances__without_the_cap(x, norm, table, cap):
    return (table @ norm(x)).softmax(0)


def chances__without_the_norm(x, norm, table, cap):
    return (cap * torch.tanh(table @ x / cap)).softmax(0)


def chances__caps_the_vector(x, norm, table, cap):
    return (table @ (cap * torch.tanh(norm(x) / cap))).softmax(0)
