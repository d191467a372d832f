"""Exercises of lesson 6. Replace each `raise` by your code, then: python -m lessons.check 06"""


def cut_tail(chances: list[float], p: float) -> list[int]:
    """The ids that top-p keeps, the likeliest first.

    From the top, until those that are kept reach p together; the one with which they reach it is kept.
    """
    raise NotImplementedError


def ring(tokens: list[str], window: int) -> list[str]:
    """What lies in the places of a ring once all tokens have come in, place by place.

    There are `window` places; token n, counted from 0, goes into place n modulo the window. If fewer tokens came than
    there are places, the answer has only as many places as tokens came.
    """
    raise NotImplementedError


def computed(read: int, written: int, cached: bool) -> int:
    """How many tokens the model computes to read a question and write an answer, greedily.

    `written` tokens are picked, and then writing ends because there are enough of them, without asking for another.
    With a cache (`cached`) the question is read once and then one token at a time; without, every pick starts over
    from the beginning. The last token that is picked is never read. If none is wanted, nothing is computed.
    """
    raise NotImplementedError
