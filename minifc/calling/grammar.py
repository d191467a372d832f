"""Calls that cannot be malformed: which tokens may come next in a model's turn.

Outside a call the model writes what it likes. After the token `<tool_call>` it can only write a call of one
of the tools, with arguments that the tool's schema allows, in the one canonical form, and then `</tool_call>`.
Which tokens and which form these are, the dialect says; in some, nothing follows a call but another one.
`Grammar` is a `gemma.generate.Constraint`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minifc.calling.automaton import Automaton, Stack, State, Value
from minifc.calling.guide import SLACK, Guide
from minifc.calling.kinds import UNSTATED, AnyOf, Constants, Object, Schema, bare, nesting
from minifc.calling.schema import read_schema
from minifc.errors import CallError, SchemaError, TokenizerError
from minifc.text.calls import tool_schema
from minifc.text.dialects import Dialect, Part, dialect_of, to_bytes
from minifc.text.template import Format, stop_ids
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import turn_marks


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

    @property
    def called(self) -> bool:
        """Whether a call of this turn has ended."""
        return self._called

    @property
    def room(self) -> int:
        """The number of ids, or a few more, that the shortest call takes, of the tool where this number is largest."""
        return self._calls.room

    def allowed(self, budget: int | None = None) -> Tensor:
        """Which ids may come next: a new bool [V], over the tokenizer's ids.

        budget: the number of ids left to write, the next one included; None is no limit. An id is disallowed if the
        call that is open, or that it opens, could not be completed within the rest of the budget.
        """
        calls = self._calls
        if self._state is not None:
            return calls.guide.mask(self._state, budget)
        return calls.outside(self._called, budget).clone()  # it is kept: a caller may write to what it gets

    def forced(self, budget: int | None = None) -> list[int]:
        """The ids up to the next real choice, as the tokenizer writes that text; [] where there is a choice now.

        budget: as for `allowed`. A call whose budget is nearly spent is brought to its end.
        """
        if self._state is None:
            return []
        return self._calls.guide.forced(self._state, budget)

    def advance(self, id_: int) -> None:
        """Take the id that was written. Raises CallError if it is not allowed."""
        calls = self._calls
        if self._state is not None:
            self._state = calls.guide.after(self._state, id_)
            self._called = self._called or self._state is None
        elif not (0 <= id_ < calls.guide.size and calls.outside(self._called)[id_]):
            raise calls.guide.not_allowed(id_)
        if id_ in calls.marks:
            self._part = calls.dialect.part_after(self._part, calls.marks[id_])
            if self._part == "call" and self._state is None:
                self._state = calls.guide.start


class _Calls:
    """What is computed for a set of tools: once, or when it is first needed."""

    def __init__(
        self, tools: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, format: Format, notes: list[str] | None
    ) -> None:
        self.dialect = dialect = dialect_of(format, tokenizer)
        for token in dialect.call_tokens:
            if token not in tokenizer.control:
                raise TokenizerError(f"the tokenizer has no {token}; register it: minifc.add_tokens")
        self.begin, end = tokenizer.control[dialect.begin], tokenizer.control[dialect.end]
        self.marks = turn_marks(tokenizer, dialect)
        self.anything = torch.ones(tokenizer.size, dtype=torch.bool)
        self.anything[end] = False  # nothing is open
        self.after_call = self.anything
        if dialect.calls_end_turn:
            self.after_call = torch.zeros(tokenizer.size, dtype=torch.bool)
            self.after_call[[self.begin, *stop_ids(tokenizer, format)]] = True
        schemas = check_tools(tools, dialect, notes)
        syntax = dialect.syntax
        depths: dict[Schema, float] = {}
        stacks: list[Stack] = []
        for name, schema in schemas.items():
            depths |= nesting(schema)
            rest: Stack = (to_bytes(syntax.closing), None) if syntax.closing else None
            stacks.append((to_bytes(syntax.opening(name)), (Value(schema, syntax.depth), rest)))
        delimiter = tokenizer.control[dialect.delimiter] if dialect.delimiter else None
        self.guide = Guide(Automaton(depths, syntax), stacks, tokenizer, end, delimiter)

    def outside(self, called: bool, budget: int | None = None) -> Tensor:
        """Which ids may come outside a call, before or after the first one. One may begin only if each tool's shortest
        call fits."""
        mask = self.after_call if called else self.anything
        if budget is None or budget > self.room:
            return mask
        mask = mask.clone()
        mask[self.begin] = False
        return mask

    @property
    def room(self) -> int:
        """The number of ids of the shortest call, of the tool where this number is largest."""
        return self.guide.shortest + 1 + SLACK


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
