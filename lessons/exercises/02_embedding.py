"""Exercises of lesson 2. Replace each `raise` by your code, then: python -m lessons.check 02"""

from torch import Tensor


def to_the_door(table: Tensor, ids: list[int]) -> Tensor:
    """What the first layer is given: for each id its row of the table [V, E], times the root of the width. [T, E]"""
    raise NotImplementedError


def rms_norm(x: Tensor, w: Tensor, eps: float) -> Tensor:
    """The norm of every vector in x [..., E], with gains 1 + w.

    x may be in float16, where 300 squared is already infinite: compute in 32 bits (`x.float()`), and give the result
    in the format that x came in.
    """
    raise NotImplementedError


def turn(x: Tensor, position: int, theta: float) -> Tensor:
    """A vector x [D] as it looks at a position.

    The pair (x[i], x[i + D/2]) is turned by position times theta to the power of -2i/D, anticlockwise:
    (a, b) becomes (a cos - b sin, a sin + b cos).
    """
    raise NotImplementedError
