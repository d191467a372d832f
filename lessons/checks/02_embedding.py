"""Checks of lesson 2: each calls what you wrote, and says what is wrong with it."""

import math

import torch


def to_the_door(candidate):
    table = torch.arange(36.0).view(4, 9)
    found = candidate(table, [2, 2])
    assert found.shape == (2, 9), f"two ids and a width of 9 make [2, 9]; yours is {list(found.shape)}"
    assert torch.equal(found[0], found[1]), "the same id twice is the same vector twice"
    assert not torch.allclose(found, table[[2, 2]]), "the rows are there, but not yet multiplied by anything"
    assert torch.allclose(found, 3 * table[[2, 2]]), "the width is 9, so each row is multiplied by 3"
    assert torch.allclose(candidate(table, [3, 0, 1]), 3 * table[[3, 0, 1]]), "each id finds its own row"


def rms_norm(candidate):
    x = torch.tensor([[3.0, -4.0, 0.0, 0.0], [30.0, -40.0, 0.0, 0.0]])
    plain = candidate(x, torch.zeros(4), 1e-6)
    assert plain.abs().max() > 0, "with w = 0 the gain is 1, not 0: the weight is a distance from 1"
    assert torch.allclose(plain[0], plain[1], atol=1e-4), "ten times the vector must give the same"
    assert torch.allclose(plain[0], torch.tensor([1.2, -1.6, 0.0, 0.0]), atol=1e-4), (
        "[3, -4, 0, 0] has a root mean square of 2.5 and becomes [1.2, -1.6, 0, 0]; no mean is subtracted"
    )
    weighed = candidate(x, torch.tensor([1.0, 0.0, 0.0, 0.0]), 1e-6)
    assert torch.allclose(weighed[0], torch.tensor([2.4, -1.6, 0.0, 0.0]), atol=1e-4), "w = 1 means a gain of 2"
    heavy = candidate(x[0], torch.zeros(4), 2.75)
    assert torch.allclose(heavy, torch.tensor([1.0, -4 / 3, 0.0, 0.0]), atol=1e-4), (
        "eps stands under the root: 6.25 + 2.75 is 9, its root 3, and [3, -4, 0, 0] becomes [1, -1.33, 0, 0]"
    )
    assert not candidate(torch.zeros(4), torch.zeros(4), 1e-6).any(), "a vector of zeros stays zeros: mind eps"
    large = candidate((x * 100).half(), torch.zeros(4), 1e-6)
    assert large.dtype == torch.float16, f"16 bits came in and {large.dtype} went out"
    assert torch.allclose(large.float(), plain, atol=1e-2), (
        "300 squared does not fit 16 bits: x.float() before squaring"
    )


def turn(candidate):
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.allclose(candidate(x, 0, 10000.0), x), "at position 0 nothing is turned"
    found = candidate(torch.tensor([1.0, 0.0, 0.0, 0.0]), 1, 10000.0)
    cos, sin = math.cos(1), math.sin(1)
    assert torch.allclose(found[[0, 2]].norm(), torch.tensor(1.0)), "the partner of place 0 is place D/2, here 2"
    assert torch.allclose(found, torch.tensor([cos, 0.0, sin, 0.0]), atol=1e-5), (
        "[1, 0, 0, 0] at position 1 is turned by one radian, anticlockwise: [cos 1, 0, sin 1, 0]"
    )
    found = candidate(torch.tensor([0.0, 0.0, 1.0, 0.0]), 1, 10000.0)
    assert torch.allclose(found, torch.tensor([-sin, 0.0, cos, 0.0]), atol=1e-5), (
        "its partner turns with it: [0, 0, 1, 0] at position 1 is [-sin 1, 0, cos 1, 0]"
    )
    found = candidate(torch.tensor([0.0, 1.0, 0.0, 0.0]), 3, 10000.0)
    assert torch.allclose(found, torch.tensor([0.0, math.cos(0.03), 0.0, math.sin(0.03)]), atol=1e-5), (
        "pair 1 of 2 turns by 10000 to the power of -1/2, a hundredth, per token: by 0.03 at position 3"
    )
