"""Checks of lesson 3: each calls what you wrote, and says what is wrong with it."""

import torch


def weights(candidate):
    query = torch.tensor([3.0, 0.0, 4.0, 0.0])
    keys = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 5.0, 0.0, 0.0]])
    found = candidate(query, keys, 4.0, 50.0)
    assert found.shape == (3,), f"three keys, three weights; yours have the shape {list(found.shape)}"
    assert torch.allclose(found.sum(), torch.tensor(1.0)), f"weights add up to 1; yours to {found.sum():.3f}"
    assert found[1] > found[0] > found[2], "products 3, 4 and 0: the second key gets most, the third least"
    wanted = torch.tensor([1.5, 2.0, 0.0]).softmax(0)
    assert torch.allclose(found, wanted, atol=1e-3), "products 3, 4, 0 and scalar 4: the scores are 1.5, 2 and 0"
    found = candidate(1000 * query, keys, 4.0, 50.0)
    assert found.isfinite().all(), "large scores give numbers that are not finite"
    assert torch.allclose(found[0], found[1], atol=1e-3), "1500 and 2000 are both past the cap and weigh the same"
    assert found[2] < 1e-15, "the cap is 50, so that a key past it still outweighs one that scores 0 by far"
    odd = candidate(query, keys, 9.0, 2.0)
    wanted = (2 * torch.tanh(torch.tensor([1.0, 4 / 3, 0.0]) / 2)).softmax(0)
    assert torch.allclose(odd, wanted, atol=1e-4), "scalar 9 and cap 2: divide by 3, then 2 tanh(s / 2), then softmax"


def sees(candidate):
    assert candidate(5, 5, None), "a token sees itself"
    assert candidate(5, 0, None), "on a full layer it sees all that came before"
    assert not candidate(5, 6, None), "nobody sees what comes later"
    assert candidate(9, 6, 4), "with a window of 4, position 9 sees 6, 7, 8 and itself"
    assert not candidate(9, 5, 4), "with a window of 4, position 9 sees four tokens: 5 is one too many"
    assert not candidate(5, 6, 4), "nobody sees what comes later, on a sliding layer either"
    assert candidate(3, 3, 1), "a window of 1 holds the token itself"


def mates(candidate):
    assert candidate(0, 4, 2) == [0, 1], "4 heads on 2 sets: heads 0 and 1 share the first"
    assert candidate(3, 4, 2) == [2, 3], "4 heads on 2 sets: heads 2 and 3 share the second"
    assert candidate(2, 4, 4) == [2], "as many sets as heads: nobody shares"
    assert candidate(2, 4, 1) == [0, 1, 2, 3], "one set: all share it"
    assert candidate(5, 12, 3) == [4, 5, 6, 7], "12 heads on 3 sets: four heads to a set"
