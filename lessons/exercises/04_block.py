"""Exercises of lesson 4. Replace each `raise` by your code, then: python -m lessons.check 04"""

from collections.abc import Callable

from torch import Tensor

Part = Callable[[Tensor], Tensor]


def gated(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The feed-forward part of one token, [E] -> [E]: x [E], gate and up [F, E], down [E, F].

    Contents (up x) and gate (gate x) are multiplied place by place, and `down` brings the product back to the width.
    The gate is bent first, by GELU in its tanh form: 0.5 g (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))).
    """
    raise NotImplementedError


def block(x: Tensor, attention: Part, feed_forward: Part, norms: list[Part]) -> Tensor:
    """A block of Gemma-2 on x [T, E], out of its parts: what comes out, [T, E].

    Each part is a function from [T, E] to [T, E]. `norms` are four, in the order in which they are used.
    """
    raise NotImplementedError


def chances(x: Tensor, norm: Part, table: Tensor, cap: float) -> Tensor:
    """The probability [V] of each piece to come next, from the last token's vector x [E] at the end of the road.

    First the last norm, then a score for each row of the table [V, E], soft-capped at `cap`, then the softmax.
    """
    raise NotImplementedError
