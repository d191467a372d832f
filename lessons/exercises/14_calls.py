"""Exercises of lesson 14. Replace each `raise` by your code, then: python -m lessons.check 14"""


def between(ids: list[int], opening: int, closing: int) -> list[list[int]]:
    """What stands between each `opening` and the next `closing`, without them: one list of ids for each pair.

    An `opening` that is never closed, or after which another `opening` comes before its `closing`, is a ValueError.
    A `closing` where nothing is open is passed over, as is everything else outside.
    """
    raise NotImplementedError


def depth(text: str) -> int:
    """How deep the brackets [ ] { } of a JSON text are nested: 0 for `1`, 2 for `{"a": [1]}`.

    Brackets inside strings don't count. A string stands in double quotes, and a backslash in it takes the
    character that follows for itself: `"\\""` is a string of one character.
    Without calling yourself: the text may be deep.
    """
    raise NotImplementedError


def canonical(name: str, arguments: dict, tool: dict) -> str:
    """The call in the one form: {"name": ..., "arguments": {...}}.

    Arguments in the order of tool["parameters"]["properties"], those that it does not list behind them, in the order in
    which they are given; one space after comma and colon; characters as they are, not as \\u and digits.
    """
    raise NotImplementedError
