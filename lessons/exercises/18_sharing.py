"""Exercises of lesson 18. Replace each `raise` by your code, then: python -m lessons.check 18"""

from torch import Tensor


def merge(weight: Tensor, A: Tensor, B: Tensor, r: int, alpha: float) -> Tensor:
    """The weight [out, in] with LoRA's change in it. A is [r, in], B is [out, r], both fp32.

    Computed in fp32, and given back in the weight's own precision. The weight itself stays as it is.
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
