"""Calls that cannot be malformed: which tokens may come next in a model's turn.

Outside a call the model writes what it likes. After the token `<tool_call>` it can only write a call of one
of the tools, with arguments that the tool's schema allows, in the one canonical form, and then `</tool_call>`.
Which tokens and which form these are, the dialect says; in some, nothing follows a call but another one.
`Grammar` is a `gemma.generate.Constraint`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from minifc.calling.automaton import Automaton, Stack, State, Value
from minifc.calling.kinds import UNSTATED, AnyOf, Constants, Object, Schema, bare, nesting
from minifc.calling.schema import read_schema
from minifc.calling.trie import Trie
from minifc.errors import CallError, SchemaError, TokenizerError
from minifc.text.calls import tool_schema
from minifc.text.dialects import DELIMITER, Dialect, Part, dialect_of, to_bytes
from minifc.text.template import Format, stop_ids
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import turn_marks

MOST_MASKS = 512  # kept for all grammars of a tokenizer; each is a byte per id
SLACK = 2  # ids by which the tokenizer may cut the rest of a text otherwise than the whole


@dataclass(frozen=True)
class _Vocabulary:
    """What is computed once for a tokenizer, and for whether it has a token around strings."""

    written: dict[int, bytes]
    trie: Trie
    # Weak, so that a mask goes with its grammar: kept states of many sets of tools make garbage collection slow.
    masks: "WeakKeyDictionary[State, _Mask]" = field(default_factory=WeakKeyDictionary)


@dataclass
class _Mask:
    allowed: Tensor  # bool [V]
    room: float  # the most ids that the call needs after any of these


_BETWEEN = to_bytes(DELIMITER)
_vocabularies: "WeakKeyDictionary[Tokenizer, dict[str | None, _Vocabulary]]" = WeakKeyDictionary()  # by the delimiter


class Grammar:
    """The grammar of one model turn. It is made from the tools once; `fresh()` returns it for another turn."""

    def __init__(
        self, tools: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, format: Format = "gemma", strict: bool = True
    ) -> None:
        """strict: whether all that the tools' schemas say must be followed. If not, what cannot be is left out: single
        keywords, so that arguments are allowed that they forbid, or a whole tool, which then cannot be called. `notes`
        says which.

        Raises SchemaError for a tool that cannot be registered, or if none is left; TokenizerError without the tokens
        of calls.
        """
        self.notes: list[str] = []
        self._calls = _Calls(tools, tokenizer, format, None if strict else self.notes)
        self._begin()

    def _begin(self) -> None:
        self._state: State | None = None  # None: outside a call
        self._part: Part = "text"
        self._called = False  # whether a call of this turn has ended

    def fresh(self) -> "Grammar":
        """The same grammar at the beginning of another turn; masks and states are shared."""
        other = object.__new__(Grammar)
        other.notes, other._calls = self.notes, self._calls
        other._begin()
        return other

    @property
    def finished(self) -> bool:
        """Whether the turn may end here: no call is open."""
        return self._state is None

    def allowed(self, budget: int | None = None) -> Tensor:
        """Which ids may come next: a new bool [V], over the tokenizer's ids.

        budget: the number of ids left to write, the next one included; None is no limit. An id is disallowed if the
        call that is open, or that it opens, could not be completed within the rest of the budget.
        """
        calls = self._calls
        mask = calls.outside(self._called, budget) if self._state is None else calls.mask(self._state, budget)
        return mask.clone()  # masks are kept: a caller that writes to one must not change the grammar

    def forced(self, budget: int | None = None) -> list[int]:
        """The ids up to the next real choice, as the tokenizer writes that text; [] where there is a choice now.

        budget: as for `allowed`. A call whose budget is nearly spent is brought to its end.
        """
        if self._state is None:
            return []
        if budget is not None and (ending := self._calls.ending(self._state, budget)):
            return ending
        return self._calls.forced(self._state)

    def advance(self, id_: int) -> None:
        """Take the id that was written. Raises CallError if it is not allowed."""
        calls = self._calls
        if self._state is not None:
            self._state = calls.after(self._state, id_)
            self._called = self._called or self._state is None
        elif not (0 <= id_ < calls.size and calls.outside(self._called)[id_]):
            raise calls.not_allowed(id_)
        if id_ in calls.marks:
            self._part = calls.dialect.part_after(self._part, calls.marks[id_])
            if self._part == "call" and self._state is None:
                self._state = calls.start


class _Calls:
    """What is computed for a set of tools: once, or when it is first needed."""

    def __init__(
        self, tools: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, format: Format, notes: list[str] | None
    ) -> None:
        self.dialect = dialect = dialect_of(format, tokenizer)
        for token in dialect.call_tokens:
            if token not in tokenizer.control:
                raise TokenizerError(f"the tokenizer has no {token}; register it: minifc.add_tokens")
        self.tokenizer, self.size = tokenizer, tokenizer.size
        self.begin, self.end = tokenizer.control[dialect.begin], tokenizer.control[dialect.end]
        self.delimiter = tokenizer.control[dialect.delimiter] if dialect.delimiter else None
        self.marks = turn_marks(tokenizer, dialect)
        self.anything = torch.ones(self.size, dtype=torch.bool)
        self.anything[self.end] = False  # nothing is open
        self.after_call = self.anything
        if dialect.calls_end_turn:
            self.after_call = torch.zeros(self.size, dtype=torch.bool)
            self.after_call[[self.begin, *stop_ids(tokenizer, format)]] = True
        self.vocabulary = _vocabulary(tokenizer, self.delimiter, dialect)
        self.written = self.vocabulary.written
        schemas = check_tools(tools, dialect, notes)
        syntax = dialect.syntax
        depths: dict[Schema, float] = {}
        stacks: list[Stack] = []
        for name, schema in schemas.items():
            depths |= nesting(schema)
            rest: Stack = (to_bytes(syntax.closing), None) if syntax.closing else None
            stacks.append((to_bytes(syntax.opening(name)), (Value(schema, syntax.depth), rest)))
        automaton = Automaton(depths, syntax)
        self.start = automaton.state(stacks)
        self._endings = [automaton.ending(stack) for stack in stacks]
        self._needed: dict[State, int] = {}

    def outside(self, called: bool, budget: int | None = None) -> Tensor:
        """Which ids may come outside a call, before or after the first one. One may begin only if each tool's shortest
        call fits."""
        mask = self.after_call if called else self.anything
        if budget is None or budget > self.room:
            return mask
        mask = mask.clone()
        mask[self.begin] = False
        return mask

    @cached_property
    def room(self) -> int:
        """The number of ids of the shortest call, of the tool where this number is largest."""
        return max(len(self.spell(ending)) for ending in self._endings) + 2 + SLACK

    def mask(self, state: State, budget: int | None) -> Tensor:
        """Which ids may come inside a call."""
        masks = self.vocabulary.masks
        if state not in masks:
            if len(masks) >= MOST_MASKS:
                del masks[next(iter(masks))]  # the oldest
            masks[state] = self._mask(state, _in_bytes if budget is not None else _unknown)
        known = masks[state]
        if budget is None or budget > known.room:
            return known.allowed
        # Room is counted in bytes first, of which an id may write several; only near the end in ids, which is slower.
        closer = self._mask(state, self.needed, budget)
        known.room = closer.room
        return closer.allowed

    def _mask(self, state: State, needed: Callable[[State], float], budget: int | None = None) -> _Mask:
        room = 0.0

        def fits(after: State) -> bool:
            nonlocal room
            more = needed(after)
            room = max(room, more)
            return budget is None or more < budget

        allowed = torch.zeros(self.size, dtype=torch.bool)
        self.vocabulary.trie.allowed(state, allowed, fits)
        allowed[self.end] = state.complete
        return _Mask(allowed, room)

    def needed(self, state: State) -> int:
        """The number of ids that complete the call."""
        if state not in self._needed:
            self._needed[state] = len(self.spell(state.ending)) + 1
        return self._needed[state]

    def after(self, state: State, id_: int) -> State | None:
        """The state after an id; None after the end of the call."""
        if id_ == self.end and state.complete:
            return None
        following: State | None = state if id_ in self.written else None
        for byte in self.written.get(id_, b""):
            following = following.step(byte) if following else None
        if following is None:
            raise self.not_allowed(id_)
        return following

    def not_allowed(self, id_: int) -> CallError:
        text = repr(self.tokenizer.decode([id_])) if 0 <= id_ < self.size else f"id {id_} of {self.size}"
        return CallError(f"{text} is not allowed here")

    def forced(self, state: State) -> list[int]:
        text = bytearray()
        following = state
        while (byte := following.only_byte()) is not None:
            text.append(byte)
            following = following.step(byte) or state
        if text and text[0] & 0xC0 == 0x80:  # inside a character: there only single bytes can follow
            return []
        before, delimiter, last = bytes(text).rpartition(_BETWEEN)  # text around a token is cut by itself
        ids = self.tokenizer.encode(last.decode(errors="ignore"))  # it may break off inside a character too
        if following.stacks == {None} and b"".join(self.written[id_] for id_ in ids) == last:
            return [*self.spell(before + delimiter), *ids, self.end]
        # What follows may belong into one token with the last piece: that is the model's to choose.
        return [*self.spell(before + delimiter), *self._leading(ids[:-1], last)]

    def ending(self, state: State, budget: int) -> list[int]:
        """The ids that complete the call, if the budget is hardly enough for more; else []."""
        # A byte is at most one id, so there is often no need to look closely.
        if budget > len(state.ending) + 1 + SLACK or budget > self.needed(state) + SLACK:
            return []
        return [*self.spell(state.ending), self.end]

    def spell(self, text: bytes) -> list[int]:
        """Ids that write this text, which may begin inside a character."""
        first, *others = text.split(_BETWEEN)
        ids = self._spell_text(first)
        for other in others:
            assert self.delimiter is not None
            ids += [self.delimiter, *self._spell_text(other)]
        return ids

    def _spell_text(self, text: bytes) -> list[int]:
        ids = self.tokenizer.encode(text.decode(errors="ignore"))
        if b"".join(self.written[id_] for id_ in ids) == text:
            return ids
        ids = []
        while text:
            ids.append(self.vocabulary.trie.longest(text))
            text = text[len(self.written[ids[-1]]) :]
        return ids

    def _leading(self, ids: list[int], text: bytes) -> list[int]:
        """The ids that spell a beginning of `text`: the tokenizer takes U+2581 for a space."""
        spelled, count = b"", 0
        while count < len(ids) and text.startswith(spelled + self.written[ids[count]]):
            spelled, count = spelled + self.written[ids[count]], count + 1
        return ids[:count]


def _vocabulary(tokenizer: Tokenizer, delimiter: int | None, dialect: Dialect) -> _Vocabulary:
    """What each id writes, kept for the next grammar; the token around strings writes 0xFF."""
    kept = _vocabularies.setdefault(tokenizer, {})
    if dialect.delimiter not in kept:
        written = tokenizer.written()
        if delimiter is not None:  # and no other id does: as a byte it is part of no character
            written = {id_: text for id_, text in written.items() if _BETWEEN not in text} | {delimiter: _BETWEEN}
        kept[dialect.delimiter] = _Vocabulary(written, Trie((text, id_) for id_, text in written.items()))
    return kept[dialect.delimiter]


def _in_bytes(state: State) -> int:
    """An upper bound for the number of ids that complete the call."""
    return len(state.ending) + 1


def _unknown(state: State) -> float:
    """Without a budget, what completes the call need not be worked out."""
    return math.inf


def check_tools(
    tools: Sequence[Mapping[str, Any]], dialect: Dialect, notes: list[str] | None = None
) -> dict[str, Schema]:
    """The arguments that each tool takes, by its name. Raises SchemaError for a tool that cannot be registered, or
    could not be called in a dialect.

    notes: where keywords that cannot be followed are noted, and tools that are left out, instead of an error.
    """
    schemas: dict[str, Schema] = {}
    for tool in tools:
        try:
            name, schema = _check_tool(tool, dialect, notes)
            if name in schemas:
                raise SchemaError(f"there are two tools called {name}")
        except SchemaError as error:
            if notes is None:
                raise
            notes.append(f"{error}; the tool is left out")
            continue
        schemas[name] = schema
    if not schemas:
        raise SchemaError(f"a grammar needs at least one tool{'; ' * bool(notes)}{'; '.join(notes or ())}")
    return schemas


def _check_tool(tool: Mapping[str, Any], dialect: Dialect, notes: list[str] | None) -> tuple[str, Schema]:
    try:
        described = tool_schema(tool)
        name = described["name"]
        dialect.syntax.opening(name).encode()
    except (CallError, UnicodeEncodeError) as error:
        raise SchemaError(str(error)) from None
    schema = arguments_of(described.get("parameters"), f"tool {name}", notes)
    _check_spelling(schema, dialect, f"tool {name}")
    return name, schema


def arguments_of(parameters: Any, where: str, notes: list[str] | None = None) -> Schema:
    """The arguments that a tool takes: an object. Without parameters there are none. Raises SchemaError.

    notes: as for `read_schema`.
    """
    stated = {"type": "object", "properties": {}} if parameters in (None, {}) else parameters
    schema = read_schema(stated, where, notes=notes)
    kind = bare(schema)
    if isinstance(kind, Object) and not kind.properties and all(one is UNSTATED for _, one in kind.groups):
        return Object({})
    if not _is_object(kind):
        raise SchemaError(f"{where}: its parameters are not of type object")
    return schema


def _is_object(schema: Schema) -> bool:
    kind = bare(schema)
    return all(map(_is_object, kind.options)) if isinstance(kind, AnyOf) else isinstance(kind, Object)


def _check_spelling(schema: Schema, dialect: Dialect, where: str) -> None:
    """Raise SchemaError for a key or a constant that the dialect cannot write."""
    try:
        for part in nesting(schema):
            if isinstance(part, Object):
                for name in part.properties:
                    dialect.syntax.key(name)
            elif isinstance(part, Constants):
                for value in part.values:
                    dialect.syntax.value(value)
    except CallError as error:
        raise SchemaError(f"{where}: {error}") from None
