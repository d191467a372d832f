"""Exercises of lesson 17. Replace each `raise` by your code, then: python -m lessons.check 17"""


def wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval as a formula: the two p for which (count/total - p)^2 = z^2 p (1 - p) / total.

    It is a quadratic equation in p. With s = count/total, its solutions are
    (s + z^2/(2 total) ± z sqrt(s(1 - s)/total + z^2/(4 total^2))) / (1 + z^2/total).
    """
    raise NotImplementedError


def exact(calls: list[tuple[str, dict]], wanted: list[tuple[str, dict]]) -> bool:
    """Whether these are the wanted calls, in any order, each as often as it is wanted, and no others.

    Calls hold dicts, which cannot be put into a set. Don't change the lists.
    """
    raise NotImplementedError


def false_shares(fits: list[bool], called: list[bool]) -> tuple[float, float]:
    """The shares of false refusals and of false calls.

    `fits` says for each question whether there was a tool for it, `called` whether the model called one. Each share is
    out of the questions in which this mistake could be made at all. There is at least one of either kind.
    """
    raise NotImplementedError
