"""Exercises of lesson 10. Replace each `raise` by your code, then: python -m lessons.check 10"""


def read_call(text: str) -> dict:
    """A call from JSON or from what Python prints of a dictionary: {"name": ..., "arguments": {...}}, in that order.

    Nothing in the text may be executed. Raises ValueError for a text that is neither (ast.literal_eval may raise a
    SyntaxError, which is no ValueError), and for a value that is not a dictionary with a name. A call without arguments
    gets {}.
    """
    raise NotImplementedError


def targets(ids: list[int], learned: list[bool]) -> list[int]:
    """What each position learns to write: the id that follows it, or -100 where that is not to be learned from.

    As many as there are ids. Nothing follows the last.
    """
    raise NotImplementedError


def sees(documents: list[int]) -> list[list[bool]]:
    """For a packed row, whether position i (the outer list) may look at position j.

    A position looks at itself and at those before it, of its own document. -1 is padding, which nobody looks at, and
    which looks at nothing.
    """
    raise NotImplementedError
