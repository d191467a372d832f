"""Calls that cannot be malformed: which tokens may come next in a model's turn.

Outside a call the model writes what it likes. After the token `<tool_call>` it can only write a call of one
of the tools, with arguments that the tool's schema allows, in the one canonical form, and then `</tool_call>`.
`Grammar` is a `gemma.generate.Constraint`; another call format is another class with these methods.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from minifc.calling.automaton import Automaton, Stack, State, Value
from minifc.calling.schema import Object, Reference, Schema, nesting, read_schema
from minifc.calling.trie import Trie
from minifc.errors import CallError, SchemaError, TokenizerError
from minifc.text.calls import END_THINK, END_TOOL_CALL, THINK, TOOL_CALL, tool_schema, write_json
from minifc.text.tokenizer import Tokenizer

MOST_MASKS = 256  # kept; each is a byte per id
_tries: WeakKeyDictionary[Tokenizer, Trie] = WeakKeyDictionary()


class Grammar:
    """One model turn. Made from the tools once; `fresh()` is the same grammar for another turn."""

    def __init__(self, tools: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> None:
        """Raises SchemaError for a tool that cannot be registered, TokenizerError without the tags of calls."""
        for tag in (TOOL_CALL, END_TOOL_CALL):
            if tag not in tokenizer.control:
                raise TokenizerError(f"the tokenizer has no {tag}; register it: minifc.add_tokens")
        self._calls = _Calls(tools, tokenizer)
        self._state: State | None = None  # None: outside a call
        self._thinking = False

    def fresh(self) -> "Grammar":
        """At the beginning of another turn. What was worked out so far is shared."""
        other = object.__new__(Grammar)
        other._calls, other._state, other._thinking = self._calls, None, False
        return other

    @property
    def finished(self) -> bool:
        """Whether the turn may end here: no call is open."""
        return self._state is None

    def allowed(self) -> Tensor:
        """Which ids may come next: bool [V]. Not to be written to."""
        return self._calls.anything if self._state is None else self._calls.mask(self._state)

    def forced(self, left: int | None = None) -> list[int]:
        """The ids up to the next real choice, as the tokenizer writes that text; [] where there is a choice now.

        left: how many more ids there may be. A call that is about to run out of them is brought to its end.
        """
        if self._state is None:
            return []
        if left is not None and (ending := self._calls.ending(self._state, left)):
            return ending
        return self._calls.forced(self._state)

    def advance(self, id_: int) -> None:
        """Take the id that was written. Raises CallError if it is not allowed."""
        calls = self._calls
        if self._state is not None:
            self._state = calls.after(self._state, id_)
        elif id_ == calls.begin and not self._thinking:
            self._state = calls.start
        elif id_ in calls.thoughts:
            self._thinking = calls.thoughts[id_]


class _Calls:
    """What is worked out once for a set of tools, and what was met of it so far."""

    def __init__(self, tools: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> None:
        self.tokenizer, self.size = tokenizer, tokenizer.size
        self.begin, self.end = tokenizer.control[TOOL_CALL], tokenizer.control[END_TOOL_CALL]
        self.thoughts = {tokenizer.control[t]: t == THINK for t in (THINK, END_THINK) if t in tokenizer.control}
        self.anything = torch.ones(self.size, dtype=torch.bool)
        self.anything[self.end] = False  # nothing is open
        if tokenizer not in _tries:
            _tries[tokenizer] = Trie((text, id_) for id_, text in tokenizer.written().items())
        self.trie = _tries[tokenizer]
        self.written = tokenizer.written()
        schemas = read_tools(tools)
        depths: dict[Schema, int] = {}
        stacks: list[Stack] = []
        for name, schema in schemas.items():
            depths |= nesting(schema)
            opening = f'\n{{"name": {write_json(name)}, "arguments": '.encode()
            stacks.append((opening, (Value(schema, 1), (b"}\n", None))))
        automaton = Automaton(depths)
        self.start = automaton.state(stacks)
        longest = max(map(len, self.written.values()))
        self.reserve = longest + max(map(len, automaton.short.values()))
        self._masks: dict[State, Tensor] = {}

    def mask(self, state: State) -> Tensor:
        if state not in self._masks:
            mask = torch.zeros(self.size, dtype=torch.bool)
            self.trie.allowed(state, mask)
            mask[self.end] = state.complete
            if len(self._masks) >= MOST_MASKS:
                del self._masks[next(iter(self._masks))]  # the oldest
            self._masks[state] = mask
        return self._masks[state]

    def after(self, state: State, id_: int) -> State | None:
        """The state after an id; None after the end of the call."""
        if id_ == self.end and state.complete:
            return None
        following: State | None = state if id_ in self.written else None
        for byte in self.written.get(id_, b""):
            following = following.step(byte) if following else None
        if following is None:
            raise CallError(f"{self.tokenizer.decode([id_])!r} is not allowed here")
        return following

    def forced(self, state: State) -> list[int]:
        text = bytearray()
        following = state
        while (byte := following.only_byte()) is not None:
            text.append(byte)
            following = following.step(byte) or state
        if text and text[0] & 0xC0 == 0x80:  # inside a character: there only single bytes can follow
            return []
        ids = self.tokenizer.encode(text.decode(errors="ignore"))  # it may break off inside a character too
        if following.stacks == {None} and b"".join(self.written[id_] for id_ in ids) == text:
            return [*ids, self.end]
        # What follows may belong into one token with the last piece: that is the model's to choose.
        return self._leading(ids[:-1], text)

    def ending(self, state: State, left: int) -> list[int]:
        """The ids that complete the call, if it is high time; else []."""
        # A byte is at most one id, so this is far from late; and one id more may call for another value.
        if left > len(state.ending) + self.reserve:
            return []
        ids = [*self.tokenizer.encode(state.ending.decode(errors="ignore")), self.end]
        return ids if b"".join(self.written[id_] for id_ in ids[:-1]) == state.ending else []

    def _leading(self, ids: list[int], text: bytes | bytearray) -> list[int]:
        """The ids that spell a beginning of `text`: the tokenizer takes U+2581 for a space."""
        spelled, count = b"", 0
        while count < len(ids) and text.startswith(spelled + self.written[ids[count]]):
            spelled, count = spelled + self.written[ids[count]], count + 1
        return ids[:count]


def read_tools(tools: Sequence[Mapping[str, Any]]) -> dict[str, Schema]:
    """The arguments that each tool takes, by its name. Raises SchemaError for a tool that cannot be registered."""
    schemas: dict[str, Schema] = {}
    for tool in tools:
        try:
            described = tool_schema(tool)
            name = described["name"]
            write_json(name).encode()
        except (CallError, UnicodeEncodeError) as error:
            raise SchemaError(str(error)) from None
        if name in schemas:
            raise SchemaError(f"there are two tools called {name}")
        if not described.get("parameters"):
            raise SchemaError(
                f"tool {name} has no schema; without arguments it is {{'type': 'object', 'properties': {{}}}}"
            )
        schema = read_schema(described["parameters"], f"tool {name}")
        if not isinstance(schema.target if isinstance(schema, Reference) else schema, Object):
            raise SchemaError(f"tool {name}: its parameters are not of type object")
        schemas[name] = schema
    if not schemas:
        raise SchemaError("a grammar needs at least one tool")
    return schemas
