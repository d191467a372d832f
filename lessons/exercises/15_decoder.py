"""Exercises of lesson 15. Replace each `raise` by your code, then: python -m lessons.check 15"""


def next_bytes(strings: list[bytes], written: bytes) -> tuple[set[int], bool]:
    """What may come after `written`, if the whole must become one of `strings`.

    The bytes that may come next, and whether `written` may end here. Both can hold: after b"red", for
    [b"red", b"reddish"].
    """
    raise NotImplementedError


def allowed(tokens: dict[int, bytes], strings: list[bytes], written: bytes) -> set[int]:
    """The ids of the tokens that may be written next, if the whole must become one of `strings`.

    A token may come if a string goes on with all of its bytes. `tokens` says what each id writes.
    """
    raise NotImplementedError


def pick(logits: list[float], ids: set[int]) -> int:
    """The id with the largest logit among `ids`, which are allowed. Logits may be negative, all of them."""
    raise NotImplementedError
