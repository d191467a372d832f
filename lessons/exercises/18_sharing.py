"""Exercises of lesson 18. Replace each `raise` by your code, then: python -m lessons.check 18"""

from torch import Tensor


def two_tables(
    table: Tensor, reading: tuple[Tensor, Tensor], writing: tuple[Tensor, Tensor], scaling: float
) -> tuple[Tensor, Tensor]:
    """What a tied table [V, E] becomes when LoRA on both its uses is merged: one to read from, one to write with.

    Each change is (A, B). For writing, as around any linear layer, A is [r, E] and B is [V, r]. For reading, around an
    embedding, A is [r, V] and B is [E, r]. Both are scaled by `scaling`. The tied table stays as it is.
    """
    raise NotImplementedError


def adapter_bytes(layers: list[tuple[int, int]], r: int, new_tokens: int, width: int) -> int:
    """How many bytes an adapter's numbers take in fp32.

    `layers` are the (out_features, in_features) of the linear layers with LoRA of rank r; each new token has a row
    of `width` numbers.
    """
    raise NotImplementedError


def moved(wanted: Tensor, found: Tensor) -> tuple[float, float]:
    """How far two models' logits [T, V] on the same text are apart.

    First the largest distance of two logits, as a share of the largest absolute value in `wanted`. Then the share
    of places at which another token is the likeliest.
    """
    raise NotImplementedError
