"""Checks of lesson 18: each calls what you wrote, and says what is wrong with it."""

import torch


def merge(candidate):
    torch.manual_seed(0)
    weight, A, B = torch.randn(6, 6), torch.randn(2, 6), torch.randn(6, 2)
    before = weight.clone()
    found = candidate(weight, A, B, 2, 8.0)
    assert torch.equal(weight, before), "the weight you were given has changed; give back a new one"
    assert not torch.allclose(found, weight + B @ A), "the change is scaled by alpha / r, here 4"
    assert torch.allclose(found, weight + 4 * B @ A, atol=1e-5), "it is W + alpha / r * (B @ A), B before A"
    small = torch.randn(64, 64).bfloat16()
    A, B = torch.randn(16, 64) * 0.1, torch.randn(64, 16) * 0.1
    found = candidate(small, A, B, 16, 32.0)
    assert found.dtype == torch.bfloat16, f"a bf16 weight comes back as bf16, not {found.dtype}"
    assert torch.equal(found, (small.float() + 2 * B @ A).bfloat16()), "add in fp32 and round once, at the end"


def adapter_bytes(candidate):
    assert candidate([], 16, 8, 100) == 3200, "8 rows of 100 numbers at 4 bytes each: 3,200 bytes"
    found = candidate([(30, 20)], 4, 0, 100)
    assert found == 800, f"A is [4, 20] and B [30, 4]: 200 numbers at 4 bytes each, not {found} bytes"
    assert candidate([(30, 20), (20, 30)], 4, 2, 10) == 1680, "two layers of 200 numbers, two rows of 10: 1,680 bytes"


def moved(candidate):
    wanted = torch.tensor([[1.0, 2.0, -8.0], [4.0, 0.0, 3.0]])
    assert candidate(wanted, wanted.clone()) == (0.0, 0.0), "the same logits: nothing has moved"
    found = wanted.clone()
    found[0, 2] -= 2
    assert candidate(wanted, found)[0] == 0.25, "a logit fell from -8 to -10, the largest absolute value is 8: 0.25"
    found = wanted.clone()
    found[1, 2] += 2
    distance, other = candidate(wanted, found)
    assert distance == 0.25, "a logit rose by 2, the largest absolute value is 8: 0.25"
    assert other == 0.5, f"at one of two places another token leads: 0.5, not {other}"
