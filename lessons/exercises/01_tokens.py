"""Exercises of lesson 1. Replace each `raise` by your code, then: python -m lessons.check 01"""


def oldest_pair(pieces: list[str], rank: dict[tuple[str, str], int]) -> int | None:
    """Where the two neighbours stand that are to be joined next: the place of the first of them.

    `rank` gives the number of each merge, the oldest being 0. If no two neighbours are a merge, None.
    If the oldest merge occurs twice, its first place.
    """
    raise NotImplementedError


def byte_pieces(character: str) -> list[str]:
    """A character as byte pieces, one for each byte that it has in UTF-8: "é" is ["<0xC3>", "<0xA9>"].

    A byte is written with two hexadecimal digits, in capitals.
    """
    raise NotImplementedError


def turn(tokenizer, role: str, content: str) -> list[int]:
    """The ids of one turn of a conversation, from `<start_of_turn>` to `<end_of_turn>` and the line break after it:

        <start_of_turn>role
        content<end_of_turn>

    `content` comes from somebody else. Whatever it holds, the turn has two control tokens. As in the lesson,
    `tokenizer.control` has the id of each control token by its spelling, and `tokenizer.encode` takes text for text.
    """
    raise NotImplementedError
