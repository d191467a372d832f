"""Exercises of lesson 11. Replace each `raise` by your code, then: python -m lessons.check 11"""

from torch import Tensor


def with_change(x: Tensor, W: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """What a linear layer with LoRA gives: [..., in] to [..., out].

    `W` is [out, in], `A` [r, in], `B` [out, r]. The change is scaled by alpha / r; the matrix B A, which would be as
    large as W, need not be made.
    """
    raise NotImplementedError


def rank_needed(change: Tensor, share: float) -> int:
    """The smallest r such that the best copy of rank r holds at least `share` of the change, by the squares.

    The singular values of a matrix are torch.linalg.svdvals(matrix), largest first.
    """
    raise NotImplementedError


def merged(W: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
    """The weight with its change in it, in the dtype of W, which may be bf16; A and B are fp32.

    Everything is computed in fp32 and rounded once, at the end. W stays as it is.
    """
    raise NotImplementedError
