"""What a dialect is: all that template, reader, grammar and training must agree on about calls.

In a call's text, DELIMITER stands for the *token* on either side of a string, in dialects that have one. It is half a
surrogate pair, which no text holds, so that a spelled `<escape>` is never mistaken for the token; as a byte it is 0xFF,
which UTF-8 never uses.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from minifc.text.calls import END_THINK, THINK, Call
from minifc.text.tokenizer import END_OF_TURN, EOS, START_OF_TURN

DELIMITER = "\udcff"
Part = Literal["text", "thought", "call"]


def to_bytes(text: str) -> bytes:
    """A call's text in UTF-8, with 0xFF for DELIMITER."""
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, eq=False)
class Characters:
    """How a string or a key is written, byte by byte."""

    opening: bytes
    closing: bytes  # one byte, that stands nowhere inside
    reserved: frozenset[int]  # of ASCII: what does not stand for itself, the closing byte included
    escaped: tuple[bytes, ...] = ()  # what may follow a backslash, each of them one character
    shortest: int = 0  # in characters

    @cached_property
    def _meanings(self) -> dict[bytes, int]:
        return {escaped: ord(json.loads(f'"\\{escaped.decode()}"')) for escaped in self.escaped}

    def meaning(self, escaped: bytes) -> int:
        """The character that is written by what may follow a backslash."""
        return self._meanings[escaped]

    def write(self, text: str) -> bytes:
        """The text as it is written inside a string."""
        by_character = {meaning: b"\\" + escaped for escaped, meaning in self._meanings.items()}
        return b"".join(by_character.get(ord(c)) or c.encode() for c in text)


@dataclass(frozen=True, eq=False)
class Syntax:
    """How the text of a call is put together from a name and arguments."""

    opening: Callable[[str], str]  # of a tool's name: what stands before the arguments
    closing: str  # and behind them
    value: Callable[[Any], str]  # of any JSON value. Raises CallError for one that could not be read back
    key: Callable[[str], str]  # the same of a key, without what stands around it
    string: Characters
    name: Characters  # of an object's key
    colon: bytes  # between the closing of a key and its value
    comma: bytes
    sorted_keys: bool  # whether keys come in alphabetical order, not in the schema's
    depth: int  # brackets around the arguments


@dataclass(frozen=True)
class Dialect:
    """A way of writing calls in a model's turn."""

    tokens: tuple[str, ...]  # control tokens that its templates write, beside the markers of turns
    begin: str  # the token before a call
    end: str  # the token behind it
    write: Callable[[Call, Mapping[str, Any] | None], str]  # the canonical text between them; takes the tool's schema
    read: Callable[[str], Call]  # Raises CallError that says what is wrong
    syntax: Syntax  # of that text, for the grammar
    example: str  # of that text, for people
    parser: Mapping[str, Any]  # of a call, in transformers' response_template
    delimiter: str | None = None  # the token on either side of a string
    stops: tuple[str, ...] = ()  # tokens that end a model's turn, beside <eos> and <end_of_turn>
    resumes: tuple[str, ...] = ()  # tokens behind which a model's turn goes on
    calls_end_turn: bool = False  # whether nothing follows a call but another one
    ids: Mapping[str, int] = field(default_factory=dict)  # where its tokens are in the vocabulary of its own model
    shown: tuple[str, ...] = ()  # tokens that are not flagged as special there: decoding without those keeps them

    @property
    def call_tokens(self) -> tuple[str, ...]:
        """The tokens that a call is written with."""
        return (self.begin, self.end, self.delimiter) if self.delimiter else (self.begin, self.end)

    @property
    def marks(self) -> tuple[str, ...]:
        """The tokens that mean something in a model's turn."""
        return (*self.call_tokens, THINK, END_THINK)

    @property
    def response_template(self) -> dict[str, Any]:
        """How transformers' `parse_response` takes a model's turn apart."""
        return {
            "start_anchor": [f"{START_OF_TURN}model\n", *self.resumes],
            "defaults": {"role": "assistant"},
            "fields": {
                "thinking": {"open": THINK, "close": END_THINK},
                "tool_calls": {"close": self.end, "content": "json", "repeats": True, **self.parser},
                "content": {"close": [END_OF_TURN, EOS, *self.stops], "repeats": True, "join": ""},
            },
        }

    def part_after(self, part: Part, token: str) -> Part:
        """The part of a turn that a token leads to from another; the same one where it has no business there."""
        leads_to: dict[tuple[Part, str], Part] = {
            ("text", THINK): "thought",
            ("thought", END_THINK): "text",
            ("text", self.begin): "call",
            ("call", self.end): "text",
        }
        return leads_to.get((part, token), part)
