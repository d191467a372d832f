"""Exercises of lesson 5. Replace each `raise` by your code, then: python -m lessons.check 05"""

from torch import Tensor


def tensors(data: bytes) -> dict[str, bytes]:
    """The bytes of each tensor in a safetensors file, by its name. `data` is the whole file.

    The file: 8 bytes with the length of the list (an unsigned whole number, lowest byte first), the list as JSON, and
    the numbers. An entry's "data_offsets" are where its bytes begin and end, counted from the end of the list. What is
    called __metadata__ is not a tensor.
    """
    raise NotImplementedError


def bfloat16(two_bytes: bytes) -> float:
    """The number that two bytes of a file stand for: the upper half of a 32-bit number, the lower byte first."""
    raise NotImplementedError


def first_mismatch(expected: dict[str, Tensor], found: dict[str, Tensor], allowed: float) -> str | None:
    """The first name in `expected`, in its order, at which the two differ; None if they differ nowhere.

    They differ if the largest difference, as a share of the largest value expected there, is more than `allowed`,
    or is not a number.
    """
    raise NotImplementedError
