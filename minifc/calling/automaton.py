"""Byte by byte: what may come next in the text of a value, written in the one canonical way.

How strings, keys and what stands between them are spelled is the dialect's to say: its Syntax.

A *stack* is what is still to be written, the next thing on top. A byte that a stack accepts leaves one or
more stacks, since a schema may leave open what it was the beginning of (`"a` of `"add"` or of `"ask"`), so a
*state* is a set of stacks. States are made when they are first reached and remember where each byte leads, and every
state can be finished: what has no value is never begun, and numbers and forms look ahead.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

from minifc.calling.kinds import (
    NEVER,
    AnyOf,
    Array,
    Checked,
    Constants,
    Number,
    Object,
    Reference,
    Schema,
    String,
)
from minifc.calling.number import CHARACTERS, LARGEST, MOST_DIGITS, can_become_number, complete_number, is_number
from minifc.calling.regular import (
    LAST,
    Dfa,
    Language,
    automaton_of,
    both,
    characters,
    other_characters,
    repeat,
    untaken,
)
from minifc.errors import SchemaError
from minifc.text.calls import MAX_DEPTH, MAX_LENGTH
from minifc.text.dialects import Characters, Syntax, to_bytes

BACKSLASH = ord("\\")

# The bytes that may follow the first byte of a character, per byte a range (Unicode 15, table 3-7).
_ANY = (0x80, 0xBF)
_FOLLOWING: dict[int, tuple[tuple[int, int], ...]] = {
    **dict.fromkeys(range(194, 224), (_ANY,)),
    **dict.fromkeys(range(224, 240), (_ANY, _ANY)),
    **dict.fromkeys(range(240, 245), (_ANY, _ANY, _ANY)),
    0xE0: ((0xA0, 0xBF), _ANY),
    0xED: ((0x80, 0x9F), _ANY),
    0xF0: ((0x90, 0xBF), _ANY, _ANY),
    0xF4: ((0x80, 0x8F), _ANY, _ANY),
}  # fmt: skip


@lru_cache
def _following(characters: Characters) -> dict[int, tuple[tuple[int, int], ...]]:
    """The same with the ASCII characters that stand for themselves."""
    return {byte: () for byte in range(128) if byte not in characters.reserved} | _FOLLOWING


def begins_character(begun: bytes, characters: Characters) -> bool:
    """Whether one character is begun inside a string, and not ended."""
    if begun[0] == BACKSLASH and characters.escaped:
        return any(len(begun) <= len(escaped) and escaped.startswith(begun[1:]) for escaped in characters.escaped)
    following = _FOLLOWING.get(begun[0], ())
    in_range = (low <= byte <= high for byte, (low, high) in zip(begun[1:], following, strict=False))
    return len(begun) <= len(following) and all(in_range)


@dataclass(frozen=True)
class InString:
    """Inside a string of any characters."""

    characters: Characters
    shortest: int
    longest: int | None
    length: int = 0  # counted only as far as it matters
    following: tuple[tuple[int, int], ...] = ()  # of a character that is begun

    def after(self, count: int) -> "InString":
        """After `count` more characters."""
        return replace(self, length=self._count(count))

    def _count(self, more: int) -> int:
        length = self.length + more
        return length if self.longest is not None else min(length, self.shortest)

    @property
    def room(self) -> int | None:
        """How many more characters fit."""
        return None if self.longest is None else self.longest - self.length

    def ending(self) -> bytes:
        """A short end of the string, with what closes it."""
        text = bytes(low for low, _ in self.following) + b"a" * max(self.shortest - self.length, 0)
        return text + self.characters.closing

    def step(self, byte: int, rest: "Stack") -> Iterator["Stack"]:
        if self.following:
            low, high = self.following[0]
            if low <= byte <= high:
                yield (replace(self, following=self.following[1:]), rest)
        elif byte == self.characters.closing[0]:
            if self.length >= self.shortest:
                yield rest
        elif self.room == 0:
            return
        elif byte == BACKSLASH and self.characters.escaped:
            for escaped in self.characters.escaped:
                yield (escaped, (replace(self, length=self._count(1)), rest))
        elif (following := _following(self.characters).get(byte)) is not None:
            yield (replace(self, length=self._count(1), following=following), rest)


@dataclass(frozen=True)
class InForm:
    """Inside a string that has a form, or a key: the form's own automaton is followed, character by character."""

    characters: Characters
    form: Dfa
    state: int = 0
    begun: bytes = b""  # of a character
    key_of: "Members | None" = None  # the object, if this is a key beside the listed ones
    text: str = ""  # of a key, as far as it is written
    kind: Schema = NEVER  # of what follows the key

    def ending(self) -> bytes:
        """A short end of the string, with what closes it."""
        if not self.begun:
            return self.characters.write(self.form.endings[self.state]) + self.characters.closing
        low, high = _span(self.begun)
        character = chr(self.form.first(self.state, low, high))
        after = self.after(character)
        assert after is not None
        return character.encode()[len(self.begun) :] + after.ending()

    def step(self, byte: int, rest: "Stack") -> Iterator["Stack"]:
        if byte == self.characters.closing[0] and not self.begun:
            if self.form.accepting[self.state]:
                yield self.key_of.value_of(self.text, self.kind, rest) if self.key_of else rest
        elif self.begun or byte >= 0x80:
            yield from self._go_on(self.begun + bytes([byte]), rest)
        elif byte == BACKSLASH and self.characters.escaped:
            for escaped in self.characters.escaped:
                if (after := self.after(chr(self.characters.meaning(escaped)))) is not None:
                    yield (escaped, (after, rest))
        elif byte not in self.characters.reserved and (after := self.after(chr(byte))) is not None:
            yield (after, rest)

    def after(self, character: str) -> "InForm | None":
        """After one more character; None if it must not come here."""
        state = self.form.step(self.state, ord(character))
        text = self.text + character if self.key_of else ""
        return replace(self, state=state, begun=b"", text=text) if state >= 0 else None

    def _go_on(self, begun: bytes, rest: "Stack") -> Iterator["Stack"]:
        """With the first bytes of a character, or all of them."""
        following = _FOLLOWING.get(begun[0], ())
        if len(begun) > 1 and not following[len(begun) - 2][0] <= begun[-1] <= following[len(begun) - 2][1]:
            return
        if not following or not self.form.goes_on(self.state, *_span(begun)):
            return
        if len(begun) <= len(following):
            yield (replace(self, begun=begun), rest)
        else:
            after = self.after(begun.decode())
            assert after is not None
            yield (after, rest)

    def next_bytes(self) -> Iterable[int]:
        """All bytes that may come, and some that may not."""
        if self.begun:
            return range(0x80, 0xC0)
        more = _FOLLOWING if self.form.goes_on(self.state, 0x80, LAST) else ()
        return (self.characters.closing[0], *range(128), *more)


def _span(begun: bytes) -> tuple[int, int]:
    """The first and the last character that begin with these bytes."""
    following = _FOLLOWING[begun[0]][len(begun) - 1 :]
    low, high = (begun + bytes(bounds[end] for bounds in following) for end in (0, 1))
    return ord(low.decode()), ord(high.decode())


@dataclass(frozen=True)
class InNumber:
    """In a number, of which `text` is written."""

    number: Number
    text: str = ""

    @property
    def complete(self) -> bool:
        return is_number(self.text, self.number.integer, self.number.within)

    def ending(self) -> bytes:
        return complete_number(self.text, self.number.integer, self.number.within)[len(self.text) :].encode()

    def step(self, byte: int, rest: "Stack") -> Iterator["Stack"]:
        text = self.text + chr(byte)
        if (
            byte < 0x80
            and len(text) <= MOST_DIGITS
            and can_become_number(text, self.number.integer, self.number.within)
            and (len(text) < MOST_DIGITS - 1 or abs(int(text)) <= LARGEST)
        ):
            yield (replace(self, text=text), rest)


@dataclass(frozen=True)
class Value:
    """A value of a kind, inside `depth` brackets."""

    schema: Schema
    depth: int


@dataclass(frozen=True)
class Elements:
    """The rest of an array, of which `count` elements are written."""

    array: Array
    count: int
    depth: int


@dataclass(frozen=True)
class Members:
    """The rest of an object: its properties from number `index` on, in the canonical order, and others.

    Others come last, or, where keys are sorted, in any place: that they come in order is not checked.
    """

    syntax: Syntax
    object: Object
    index: int
    count: int  # of what is written, as far as it matters
    depth: int
    others: frozenset[str] = frozenset()  # keys beside the listed ones that are written

    @property
    def begun(self) -> bool:
        return self.count > 0

    def counted(self) -> int:
        """The count after one more property."""
        most = self.object.most
        return min(self.count + 1, max(self.object.fewest, 1)) if most is None else self.count + 1

    def value_of(self, key: str, kind: Schema, rest: "Stack") -> "Stack":
        """What follows the key of another property."""
        index = self.index if self.syntax.sorted_keys else len(self.object.properties)
        after = replace(self, index=index, count=self.counted(), others=self.others | {key})
        return _written(self.syntax.colon, (Value(kind, self.depth), (after, rest)))


Item = bytes | InString | InForm | InNumber | Value | Elements | Members
Stack: TypeAlias = "tuple[Item, Stack] | None"  # None: nothing is left to write


class State:
    """What may be written next, and where it leads."""

    __slots__ = ("__weakref__", "_ending", "_moves", "automaton", "stacks")

    def __init__(self, automaton: "Automaton", stacks: frozenset[Stack]) -> None:
        self.automaton, self.stacks = automaton, stacks
        self._moves: dict[int, State | None] = {}
        self._ending: bytes | None = None

    @property
    def ending(self) -> bytes:
        """A short way to complete what is begun."""
        if self._ending is None:
            self._ending = min(map(self.automaton.ending, self.stacks), key=len)
        return self._ending

    @property
    def complete(self) -> bool:
        return None in self.stacks

    def step(self, byte: int) -> "State | None":
        """The state after this byte; None if it must not come here."""
        if byte not in self._moves:
            stacks = [after for stack in self.stacks if stack is not None for after in _after(stack, byte)]
            self._moves[byte] = self.automaton.state(stacks) if stacks else None
        return self._moves[byte]

    def steps(self, text: bytes) -> "State | None":
        """The state after a text; None if it must not come here."""
        following: State | None = self
        for byte in text:
            following = following.step(byte) if following else None
        return following

    def only_byte(self) -> int | None:
        """The byte that must come; None if there is a choice, or nothing left to write."""
        for stack in self.stacks:
            if stack is None or (isinstance(stack[0], InString) and stack[0].room != 0 and not stack[0].following):
                return None
            if isinstance(stack[0], InForm) and not stack[0].begun and stack[0].form.chooses(stack[0].state):
                return None
        following = self.next_bytes()
        return following[0] if len(following) == 1 else None

    def next_bytes(self) -> list[int]:
        """All bytes that may come."""
        return [byte for byte in sorted(self.candidates()) if self.step(byte)]

    def candidates(self) -> set[int]:
        """All bytes that may come, and some that may not."""
        candidates: set[int] = set()
        for stack in self.stacks:
            match stack:
                case (bytes() as text, _):
                    candidates.add(text[0])
                case (InNumber(), _):
                    candidates.update(map(ord, CHARACTERS))
                case (InForm() as string, _):
                    candidates.update(string.next_bytes())
                case (InString(following=((low, high), *_)), _):
                    candidates.update(range(low, high + 1))
                case (InString() as string, _):
                    candidates.add(string.characters.closing[0])
                    candidates.update([] if string.room == 0 else [BACKSLASH, *_following(string.characters)])
        return candidates


def _after(stack: tuple[Item, Stack], byte: int) -> Iterable[Stack]:
    item, rest = stack
    if isinstance(item, bytes):
        if item[0] != byte:
            return ()
        return ((item[1:], rest),) if len(item) > 1 else (rest,)
    assert isinstance(item, (InString, InForm, InNumber))
    return item.step(byte, rest)


class Automaton:
    """The states of one grammar.

    nesting: `schema.nesting` of every schema that can occur in it.
    """

    def __init__(self, nesting: Mapping[Schema, float], syntax: Syntax) -> None:
        self.nesting, self.syntax = nesting, syntax
        self.listed = {schema: self._in_order(schema) for schema in nesting if isinstance(schema, Object)}
        self._states: dict[frozenset[Stack], State] = {}
        self._after_members: dict[Stack, list[Stack]] = {}
        self.short: dict[Schema, bytes] = {}
        self._shortest()

    def state(self, stacks: Iterable[Stack]) -> State:
        """The one state of these stacks."""
        key = frozenset(ready for stack in stacks for ready in self._ready(stack))
        if key not in self._states:
            self._states[key] = State(self, key)
        return self._states[key]

    def ending(self, stack: Stack) -> bytes:
        """A short way to write all that is on the stack."""
        text = b""
        while stack is not None:
            item, stack = stack
            match item:
                case bytes():
                    text += item
                case InForm(key_of=Members() as members):
                    ending = item.ending()
                    text, stack = text + ending, members.value_of(f"{item.text} and on", item.kind, stack)
                case InString() | InForm() | InNumber():
                    text += item.ending()
                case Value():
                    text += self.short[item.schema]
                case Elements():
                    text += self._missing_items(item) + b"]"
                case Members():
                    text += self._missing_properties(item) + b"}"
        return text

    def _shortest(self) -> None:
        """Work out a short value of every kind; one that needs another's waits for it."""
        settled = False
        while not settled:
            settled = True
            for schema in self.nesting:
                try:
                    text = self._short(schema)
                except KeyError:
                    continue
                if schema not in self.short or len(text) < len(self.short[schema]):
                    self.short[schema], settled = text, False

    def _short(self, schema: Schema) -> bytes:
        string = self.syntax.string
        match schema:
            case String(form=Language() as form):
                return string.opening + InForm(string, automaton_of(form)).ending()
            case String():
                return string.opening + b"a" * schema.shortest + string.closing
            case Number():
                return complete_number("", schema.integer, schema.within).encode()
            case Constants():
                return min(map(self._constant, schema.values), key=len)
            case Array():
                return b"[" + self.ending((Elements(schema, 0, 0), None))
            case AnyOf():
                known = [self.short[option] for option in schema.options if option in self.short]
                return min(known, key=len) if known else self.short[schema]
            case Reference():
                return self.short[schema.target]
            case Checked():
                return self.short[schema.schema]
        assert isinstance(schema, Object)
        return b"{" + self.ending((Members(self.syntax, schema, 0, 0, 0), None))

    def _missing_items(self, item: Elements) -> bytes:
        """The items that an array still needs."""
        missing: list[bytes] = []
        length = 0
        for place in range(item.count, item.array.fewest):
            kind = item.array.kind_at(place)
            assert kind is not None
            missing.append(self.short[kind])
            length += len(missing[-1]) + 1
            if length > MAX_LENGTH:
                raise SchemaError(f"a tool's shortest call is longer than the {MAX_LENGTH} that are read")
        return self.syntax.comma.join([b""] * bool(item.count and missing) + missing)

    def _missing_properties(self, item: Members) -> bytes:
        """The properties that an object still needs: those that it requires, and then any, as many as are missing."""
        kind = item.object
        left = [(name, schema) for name, schema in self.listed[kind][item.index :] if self.alive(schema, 0)]
        needed = kind.fewest - item.count - sum(name in kind.required for name, _ in left)
        written = []
        for name, schema in left:
            if name in kind.required or needed > 0:
                needed -= name not in kind.required
                written.append(_before_value(self.syntax, name) + self.short[schema])
        others = set(item.others)
        while needed > 0 and (more := next(self.other_keys(item, frozenset(others)), None)):
            form, schema = more
            key = form.endings[0]
            written.append(_before_value(self.syntax, key) + self.short[schema])
            others.add(key)
            needed -= 1
        return self.syntax.comma.join([b""] * bool(item.begun and written) + written)

    def alive(self, schema: Schema, depth: int) -> bool:
        """Whether a value of this kind can stand inside so many brackets."""
        return depth + self.nesting[schema] <= MAX_DEPTH

    def other_keys(self, item: Members, written: frozenset[str]) -> Iterator[tuple[Dfa, Schema]]:
        """The keys beside the listed ones that may come, as automata, and what follows them."""
        taken = frozenset(item.object.properties) | written
        for names, kind in item.object.others:
            form = _untaken(names, taken, self.syntax.name)
            if form.accepting and self.alive(kind, item.depth):
                yield form, kind

    def _in_order(self, schema: Object) -> list[tuple[str, Schema]]:
        """The listed properties in the order in which they are written."""
        listed = list(schema.properties.items())
        return sorted(listed, key=lambda item: item[0].lower()) if self.syntax.sorted_keys else listed

    def _constant(self, value: Any) -> bytes:
        return to_bytes(self.syntax.value(value))

    def _ready(self, stack: Stack) -> Iterator[Stack]:
        """The stack as stacks whose top accepts a byte."""
        if stack is None:
            yield None
            return
        item, rest = stack
        match item:
            case bytes() | InString() | InForm():
                yield stack
            case InNumber():
                yield stack
                if item.complete:
                    yield from self._ready(rest)
            case Value():
                yield from self._value(item.schema, item.depth, rest)
            case Elements():
                yield from self._elements(item, rest)
            case Members():  # asked for again after each digit of a number before it
                if stack not in self._after_members:
                    self._after_members[stack] = list(self._members(item, rest))
                yield from self._after_members[stack]

    def _value(self, schema: Schema, depth: int, rest: Stack) -> Iterator[Stack]:
        if not self.alive(schema, depth):
            return
        string = self.syntax.string
        match schema:
            case String(form=Language() as form):
                yield (string.opening, (InForm(string, automaton_of(form)), rest))
            case String():
                yield (string.opening, (InString(string, schema.shortest, schema.longest), rest))
            case Number():
                yield (InNumber(schema), rest)
            case Constants():
                for value in schema.values:
                    yield (self._constant(value), rest)
            case AnyOf():
                for option in schema.options:
                    yield from self._value(option, depth, rest)
            case Reference():
                yield from self._value(schema.target, depth, rest)
            case Checked():
                yield from self._value(schema.schema, depth, rest)
            case Array():
                yield (b"[", (Elements(schema, 0, depth + 1), rest))
            case Object():
                yield (b"{", (Members(self.syntax, schema, 0, 0, depth + 1), rest))

    def _elements(self, item: Elements, rest: Stack) -> Iterator[Stack]:
        array = item.array
        if item.count >= array.fewest:
            yield (b"]", rest)
        kind = array.kind_at(item.count)
        if kind is not None and (array.most is None or item.count < array.most) and self.alive(kind, item.depth):
            # Counted only as far as it matters, so that a long array does not need ever more states.
            most = array.most if array.most is not None else max(array.fewest, len(array.first), 1)
            following = (replace(item, count=min(item.count + 1, most)), rest)
            if item.count:
                yield (self.syntax.comma, (Value(kind, item.depth), following))
            else:
                yield from self._value(kind, item.depth, following)

    def _members(self, item: Members, rest: Stack) -> Iterator[Stack]:
        kind, comma = item.object, self.syntax.comma if item.begun else b""
        left = self.listed[kind][item.index :]
        others = list(self.other_keys(item, item.others))
        room = (
            math.inf if kind.most is None else kind.most - item.count - sum(name in kind.required for name, _ in left)
        )
        if self.syntax.sorted_keys and room > 0:
            yield from self._other_members(item, others, rest)
        possible = sum(self.alive(schema, item.depth) for _, schema in left)
        possible += sum(form.count(kind.fewest) for form, _ in others)
        for index, (name, schema) in enumerate(left, item.index):
            required = name in kind.required
            if self.alive(schema, item.depth):
                if required or room > 0:
                    following = (replace(item, index=index + 1, count=item.counted()), rest)
                    yield (comma + _before_value(self.syntax, name), (Value(schema, item.depth), following))
                possible -= 1
            if required or item.count + possible < kind.fewest:  # it must not be left out
                return
        if item.count >= kind.fewest:
            yield (b"}", rest)
        if not self.syntax.sorted_keys and room > 0:
            yield from self._other_members(item, others, rest)

    def _other_members(self, item: Members, others: list[tuple[Dfa, Schema]], rest: Stack) -> Iterator[Stack]:
        name, comma = self.syntax.name, self.syntax.comma if item.begun else b""
        for form, kind in others:
            yield _written(comma + name.opening, (InForm(name, form, key_of=item, kind=kind), rest))


@lru_cache(4096)
def _untaken(names: Language, taken: frozenset[str], written: Characters) -> Dfa:
    """The names that are not taken and that can be written."""
    return automaton_of(both(_writable(written), untaken(names, taken)))


@lru_cache
def _writable(written: Characters) -> Language:
    """The texts that can be written between such an opening and closing."""
    left_out = () if written.escaped else sorted((byte, byte) for byte in written.reserved)
    return repeat(characters(other_characters(tuple(left_out))), written.shortest)


def _written(text: bytes, rest: Stack) -> Stack:
    """A stack with a text on top, if there is one."""
    return (text, rest) if text else rest


@lru_cache(1024)
def _before_value(syntax: Syntax, name: str) -> bytes:
    """A key with all that stands around it."""
    return syntax.name.opening + _key(syntax, name) + syntax.name.closing + syntax.colon


@lru_cache(1024)
def _key(syntax: Syntax, name: str) -> bytes:
    return syntax.key(name).encode()
