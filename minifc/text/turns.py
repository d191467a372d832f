"""What a model wrote in one turn: what it says, thinks and calls, told apart by tokens and not by their spelling."""

import re
from collections.abc import Sequence

from minifc.errors import CallError
from minifc.text.calls import Call
from minifc.text.dialects import DELIMITER, Dialect, Part, dialect_of
from minifc.text.template import Format
from minifc.text.tokenizer import Tokenizer


def parse_calls(ids: Sequence[int], tokenizer: Tokenizer, format: Format = "gemma") -> list[Call]:
    """The calls in one model turn's ids. Raises CallError on the first that cannot be read.

    A call lies between two *tokens*, `<tool_call>` and `</tool_call>` in the formats gemma and course: a tag that is
    merely spelled, quoted from a user or a tool, is none. Only where the tokenizer has no such tokens (a model that
    was never given them) does the spelling count. What the model thinks, between `<think>` and
    `</think>`, is not searched.
    """
    dialect = dialect_of(format, tokenizer)
    return [dialect.read(text) for text in call_texts(ids, tokenizer, format)]


def call_texts(ids: Sequence[int], tokenizer: Tokenizer, format: Format = "gemma") -> list[str]:
    """What stands between the tags of each call in one model turn, unread. Raises CallError if one is left open."""
    dialect = dialect_of(format, tokenizer)
    if tokenizer.control.keys() >= {dialect.begin, dialect.end}:
        parts = read_turn(ids, tokenizer, format)
    else:
        spelled = re.split(f"({'|'.join(map(re.escape, dialect.marks))})", tokenizer.decode(ids))
        parts = _parts([(text, number % 2 == 1) for number, text in enumerate(spelled)], dialect)
    return [text for kind, text in parts if kind == "call"]


def turn_marks(tokenizer: Tokenizer, dialect: Dialect) -> dict[int, str]:
    """The ids of the tokens that divide a model's turn, as far as the tokenizer has them."""
    return {tokenizer.control[name]: name for name in dialect.marks if name in tokenizer.control}


def read_turn(ids: Sequence[int], tokenizer: Tokenizer, format: Format = "gemma") -> list[tuple[Part, str]]:
    """One model turn in parts: what it says, thinks and calls, in its order, without the tags.

    Only tokens are tags here, and no spelling. A call's text has DELIMITER for the token around strings, if its
    dialect has one. Raises CallError for a call that is left open or holds the beginning of another.
    """
    dialect = dialect_of(format, tokenizer)
    marks, pieces, run = turn_marks(tokenizer, dialect), list[tuple[str, bool]](), list[int]()
    for id_ in ids:
        if id_ in marks:
            pieces += [(tokenizer.decode(run), False), (marks[id_], True)]
            run = []
        else:
            run.append(id_)
    return _parts([*pieces, (tokenizer.decode(run), False)], dialect)


def _parts(pieces: Sequence[tuple[str, bool]], dialect: Dialect) -> list[tuple[Part, str]]:
    """The parts of a turn. pieces: a text, and whether it is a mark."""
    parts: list[tuple[Part, str]] = [("text", "")]
    for text, mark in pieces:
        kind = parts[-1][0]
        if mark and text == dialect.begin and kind == "call":
            raise CallError(f"{dialect.begin} inside a call")
        if mark and (following := dialect.part_after(kind, text)) != kind:
            parts.append((following, ""))
        else:
            delimits = mark and kind == "call" and text == dialect.delimiter
            parts[-1] = (kind, parts[-1][1] + (DELIMITER if delimits else text))
    if parts[-1][0] == "call":
        raise CallError(f"a call is not closed by {dialect.end}")
    return [(kind, text) for kind, text in parts if text or kind == "call"]
