"""Exercises of lesson 9. Replace each `raise` by your code, then: python -m lessons.check 09"""

from torch import Tensor


def encode_with(tokenizer, text: str, new: dict[str, int]) -> list[int]:
    """The ids of a text in which new tokens count: each spelling in `new` becomes its one id.

    What stands between them is encoded by tokenizer.encode, each stretch by itself. Where two spellings begin at the
    same place, the longer one counts.
    """
    raise NotImplementedError


def lookup(table: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
    """The vectors [T, E] of ids [T], from the old table [V, E] and the new rows [N, E].

    Id V + i is row i of `rows`. Neither table is copied, and a gradient reaches `rows`.
    """
    raise NotImplementedError


def registered_in_vain(registered: list[str], texts: list[str]) -> tuple[list[str], list[str]]:
    """Which registered tags occur in no text, and which tags of the texts are not registered; each list sorted.

    A tag of the texts is `<name>` or `</name>` with a name of small letters and underscores.
    """
    raise NotImplementedError
