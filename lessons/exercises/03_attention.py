"""Exercises of lesson 3. Replace each `raise` by your code, then: python -m lessons.check 03"""

from torch import Tensor


def weights(query: Tensor, keys: Tensor, scalar: float, cap: float) -> Tensor:
    """The weights [S] that a query [D] gives to the keys [S, D], all of them in sight and turned already.

    The dot products are divided by the root of `scalar`, soft-capped at `cap`, and put through a softmax.
    """
    raise NotImplementedError


def sees(now: int, then: int, window: int | None) -> bool:
    """Whether the token at position `now` sees the one at position `then`.

    `window` is how many tokens a sliding layer sees, the token itself among them; None on a full layer.
    """
    raise NotImplementedError


def mates(head: int, heads: int, sets: int) -> list[int]:
    """All heads that share their keys and values with this one, itself among them, in order.

    There are `heads` heads and `sets` sets of keys and values, and neighbouring heads share.
    """
    raise NotImplementedError
