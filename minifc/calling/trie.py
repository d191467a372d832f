"""Which tokens of a vocabulary a state allows.

The trie is a sorted list: tokens with a common beginning are neighbours, so that a node is a range of the list
and nothing has to be built. A walk follows only bytes that the state allows. Inside a string
nearly all bytes are allowed, so there the walk is replaced by what was found out once per node: whether a token stays
inside the string, and after how many or which characters, or closes it, and what it writes then. Only this is walked
through.
"""

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from minifc.calling.automaton import Automaton, InForm, InString, Stack, State, begins_character
from minifc.calling.regular import SURROGATES, Dfa
from minifc.errors import TokenizerError
from minifc.text.dialects import Characters

# Whole characters beyond ASCII.
_BEYOND_ASCII = (
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)
MOST_READ = 256  # states of forms of which it is kept what they allow, a byte per id


@lru_cache
def _plain(characters: Characters) -> "re.Pattern[bytes]":
    """Matches whole characters that stand for themselves inside a string."""
    ascii_ = b"".join(re.escape(bytes([byte])) for byte in range(128) if byte not in characters.reserved)
    return re.compile(b"(?:[" + ascii_ + b"]|" + _BEYOND_ASCII + b")*")


@lru_cache
def _escaped(characters: Characters) -> "re.Pattern[bytes]":
    """Matches one character that is written with a backslash."""
    return re.compile(rb"\\(" + b"|".join(map(re.escape, characters.escaped)) + b")" if characters.escaped else b"(?!)")


class Node(NamedTuple):
    """The entries low to high (exclusive), which share their first `depth` bytes."""

    low: int
    high: int
    depth: int


@dataclass
class Limit:
    """What may still be needed after an id."""

    needed: Callable[[State], int] | None = None  # what completes the text; None: it need not be known
    budget: int | None = None  # it must be less; None is no limit
    room: int = 0  # the most that is needed after any of the ids that were asked about, or more

    def fits(self, state: State) -> bool:
        if self.needed is None:
            return True
        more = self.needed(state)
        self.room = max(self.room, more)
        return self.budget is None or more < self.budget

    def note(self, automaton: Automaton, more: int, stack: Stack) -> None:
        """Without a budget: after some ids, at most `more` bytes, what is on the stack and the end are needed."""
        if self.needed is not None:
            self.room = max(self.room, more + len(automaton.ending(stack)) + 1)


class _Texts:
    """Many texts, which an automaton reads all at once: the first characters of all, then the second ones.."""

    def __init__(self, texts: list[str]) -> None:
        """texts: in order."""
        self.lengths = torch.tensor([len(text) for text in texts], dtype=torch.long)
        self.places = self.lengths.cumsum(0) - self.lengths
        joined = bytearray("".join(texts).encode("utf-32-le"))
        self.characters = torch.frombuffer(joined, dtype=torch.int32).long() if joined else torch.arange(0)
        self.empty = sum(not text for text in texts)  # the first ones
        self.firsts = [ord(text[0]) for text in texts[self.empty :]]

    def read(self, form: Dfa, state: int) -> tuple[Tensor, Tensor]:
        """Which texts can be read from a state, int64 [m], and the states after them, int64 [m]."""
        found, ends = [torch.arange(self.empty)], [torch.full((self.empty,), state)]
        reading, states = self._first(form, state)
        edges, following, steady = _table(form)
        for place in range(1, int(self.lengths.max()) + 1 if len(self.lengths) else 0):
            longer = (self.lengths[reading] > place) & ~steady[states]
            found.append(reading[~longer])
            ends.append(states[~longer])
            reading, states = reading[longer], states[longer]
            kinds = torch.bucketize(self.characters[self.places[reading] + place], edges, right=True)
            states = following[states, kinds]
            reading, states = reading[states >= 0], states[states >= 0]
            if not len(reading):
                break
        return torch.cat(found), torch.cat(ends)

    def _first(self, form: Dfa, state: int) -> tuple[Tensor, Tensor]:
        """The texts whose first character can be read, and the states after it: neighbours, since they are in order."""
        starts = form.starts[state]
        bounds = [self.empty + bisect_left(self.firsts, start) for start in starts] + [len(self.lengths)]
        ranges = [
            (torch.arange(low, high), torch.full((high - low,), target))
            for low, high, target in zip(bounds[:-1], bounds[1:], form.targets[state], strict=True)
            if target >= 0
        ]
        nothing = torch.arange(0)
        return torch.cat([nothing, *(texts for texts, _ in ranges)]), torch.cat(
            [nothing, *(ends for _, ends in ranges)]
        )


@lru_cache(256)
def _table(form: Dfa) -> tuple[Tensor, Tensor, Tensor]:
    """Where moves of any state change [K], the state that follows each state from there on [S, K + 1], and whether
    that is always the state itself, whatever a text holds [S]."""
    edges = sorted({start for starts in form.starts for start in starts} - {0})
    following = torch.tensor([[form.step(state, edge) for edge in (0, *edges)] for state in range(len(form.starts))])
    itself = following == torch.arange(len(following))[:, None]
    no_text = torch.tensor([SURROGATES[0] <= edge <= SURROGATES[1] for edge in (0, *edges)])
    return torch.tensor(edges, dtype=torch.long), following, (itself | no_text).all(1)


@dataclass(frozen=True)
class _Allowed:
    """What a string allows, whatever is around it."""

    inside: Tensor  # bool [V]: ids after which it still goes on
    most: int  # bytes that close it after any of these, or more
    closing: frozenset[int]  # ids that may close it


class Found:
    """Ids that are allowed, as they are found: few by number, many as a mask."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.masks: list[Tensor] = []  # bool [V]

    def mask(self, size: int) -> Tensor:
        """All of them: a new bool [V], of so many ids."""
        mask = self.masks[0].clone() if self.masks else torch.zeros(size, dtype=torch.bool)
        for other in self.masks[1:]:
            mask |= other
        return mask.index_fill_(0, torch.tensor(self.ids, dtype=torch.long), True)


class _Strings:
    """What the entries below a node write, where a string begins or goes on there."""

    def __init__(self, entries: Iterable[tuple[bytes, int]], characters: Characters) -> None:
        inside: list[tuple[str, bytes, int]] = []  # characters, the beginning of one more or nothing, the id
        closed: list[tuple[str, bytes, int]] = []  # characters, what follows the closing, the id
        for entry, id_ in entries:
            text, rest = _characters(entry, characters)
            if rest[:1] == characters.closing:
                closed.append((text, rest[1:], id_))
            elif not rest or begins_character(rest, characters):
                inside.append((text, rest, id_))
        self._inside, self._closed = sorted(inside), sorted(closed)
        self.longest = max((len(text) + bool(rest) for text, rest, _ in self._inside + self._closed), default=0)
        self.ended = [id_ for _, tail, id_ in closed if not tail]
        self.after = Trie((tail, id_) for _, tail, id_ in closed if tail)  # what the others write after the closing

    @cached_property
    def _counted(self) -> list[tuple[int, bytes, Tensor]]:
        """The ids that stay inside, by how many characters they write and what they begin."""
        groups: dict[tuple[int, bytes], list[int]] = defaultdict(list)
        for text, begun, id_ in self._inside:
            groups[len(text), begun].append(id_)
        return [(count, begun, torch.tensor(ids)) for (count, begun), ids in groups.items()]

    @cached_property
    def _read(self) -> tuple[Tensor, _Texts, Tensor]:
        """These ids, their characters, and whether they begin another one: bool [n]."""
        ids = torch.tensor([id_ for _, _, id_ in self._inside], dtype=torch.long)
        begin = torch.tensor([bool(begun) for _, begun, _ in self._inside], dtype=torch.bool)
        return ids, _Texts([text for text, _, _ in self._inside]), begin

    @cached_property
    def _read_closed(self) -> _Texts:
        """The characters of those that close the string."""
        return _Texts([text for text, _, _ in self._closed])

    def staying(self, string: InString | InForm) -> Iterator[tuple[InString | InForm, bytes, Tensor]]:
        """The ids that may stay inside, in groups: the string after their whole characters, what they begin, the ids.
        Whether a form allows what they begin is not looked at."""
        if isinstance(string, InString):
            for count, begun, ids in self._counted:
                if string.room is None or count + bool(begun) <= string.room:
                    yield string.after(count), begun, ids
            return
        ids, texts, begin = self._read
        found, ends = texts.read(string.form, string.state)
        more = begin[found]
        whole, ended = found[~more], ends[~more]
        for end in _distinct(ended, len(string.form.starts)):
            yield replace(string, state=end), b"", ids[whole[ended == end]]
        for place, end in zip(found[more].tolist(), ends[more].tolist(), strict=True):
            yield replace(string, state=end), self._inside[place][1], ids[place : place + 1]

    def closing(self, string: InString | InForm) -> frozenset[int]:
        """The ids that may close the string."""
        if isinstance(string, InForm):
            found, ends = self._read_closed.read(string.form, string.state)
            accepted = torch.tensor(string.form.accepting, dtype=torch.bool)[ends]
            return frozenset(self._closed[place][2] for place in found[accepted].tolist())
        least, most = max(string.shortest - string.length, 0), self.longest if string.room is None else string.room
        return frozenset(id_ for text, _, id_ in self._closed if least <= len(text) <= most)

    def allowed(self, string: InString | InForm, automaton: Automaton, size: int) -> _Allowed:
        """What a string allows, of so many ids."""
        inside, most = torch.zeros(size, dtype=torch.bool), 0
        for after, begun, ids in self.staying(string):
            if (state := automaton.state([(after, None)]).steps(begun)) is not None:
                inside[ids] = True
                most = max(most, len(state.ending))
        return _Allowed(inside, most, self.closing(string))


class Trie:
    """The tokens of a vocabulary, by their bytes."""

    def __init__(self, entries: Iterable[tuple[bytes, int]]) -> None:
        """entries: (bytes, id), in any order; none empty. Several ids may have the same bytes."""
        ordered = sorted(entries)
        self.keys = [key for key, _ in ordered]
        self.ids = [id_ for _, id_ in ordered]
        self.root = Node(0, len(ordered), 0)
        self._children: dict[Node, dict[int, Node]] = {}
        self._strings: dict[tuple[Node, Characters], _Strings] = {}
        self._known: dict[tuple[_Strings, tuple[object, object]], _Allowed] = {}

    def child(self, node: Node, more: bytes) -> Node:
        """The entries that go on with these bytes."""
        if node.low == node.high:
            return node
        prefix = self.keys[node.low][: node.depth] + more
        low = bisect_left(self.keys, prefix, node.low, node.high)
        high = bisect_left(self.keys, _next(prefix), low, node.high)
        return Node(low, high, len(prefix))

    def _children_of(self, node: Node) -> dict[int, Node]:
        """What entries that are longer than a node go on with."""
        if node not in self._children:
            children, low = {}, node.low
            while low < node.high:
                byte = self.keys[low][node.depth]
                children[byte] = self.child(node._replace(low=low), bytes([byte]))
                low = children[byte].high
            self._children[node] = children
        return self._children[node]

    def whole(self, node: Node) -> list[int]:
        """The ids of the entries that end at this node; they come first in it."""
        end = node.low
        while end < node.high and len(self.keys[end]) == node.depth:
            end += 1
        return self.ids[node.low : end]

    def longest(self, text: bytes) -> int:
        """The id that writes most of the beginning of a text. Raises TokenizerError if none writes any of it."""
        node, found = self.root, None
        for byte in text:
            node = self.child(node, bytes([byte]))
            if node.low == node.high:
                break
            if len(self.keys[node.low]) == node.depth:
                found = self.ids[node.low]
        if found is None:
            raise TokenizerError(f"no token of the vocabulary can write {text[:1]!r}, which a call needs")
        return found

    @cached_property
    def _places(self) -> dict[bytes, int]:
        """Where the entries of each key begin: numbers, which garbage collection does not look at."""
        return {key: place for place, key in reversed([*enumerate(self.keys)])}

    def _exactly(self, key: bytes) -> list[int]:
        """The ids of the entries with this key."""
        first = self._places.get(key)
        if first is None:
            return []
        end = first + 1
        while end < len(self.keys) and self.keys[end] == key:
            end += 1
        return self.ids[first:end]

    def allowed(self, state: State, size: int, limit: Limit) -> Found:
        """What `state` allows within the limit. size: how many ids there are."""
        found = Found()
        self._walk(self.root, state, found, size, limit)
        return found

    def _walk(self, node: Node, state: State, found: Found, size: int, limit: Limit) -> None:
        if node.low == node.high:
            return
        others: list[Stack] = []
        for stack in state.stacks:
            match stack:
                case (InString(following=()) | InForm(begun=b"") as string, rest):
                    self._walk_string(node, string, rest, state.automaton, found, size, limit)
                case (bytes() as text, rest):
                    self._walk_text(node, text, rest, state.automaton, found, size, limit)
                case _:
                    others.append(stack)
        if not others:
            return
        if len(others) < len(state.stacks):
            state = state.automaton.state(others)
        whole = self.whole(node)
        if whole and limit.fits(state):
            found.ids += whole
        longer = node._replace(low=node.low + len(whole))
        if longer.low == longer.high:
            return
        children = self._children_of(longer)
        for byte in state.candidates():
            if byte in children and (after := state.step(byte)) is not None:
                self._walk(children[byte], after, found, size, limit)

    def _walk_text(
        self, node: Node, text: bytes, rest: Stack, automaton: Automaton, found: Found, size: int, limit: Limit
    ) -> None:
        """As _walk, where a text must come."""
        before = self.keys[node.low][: node.depth]
        # Of the entries that come before the text, the last one has most in common with it.
        last = self.keys[max(bisect_right(self.keys, before + text, node.low, node.high) - 1, node.low)]
        common = 0
        while common < len(text) and last[node.depth + common : node.depth + common + 1] == text[common : common + 1]:
            common += 1
        for place in range(min(common + 1, len(text))):
            ids = self._exactly(before + text[:place])
            if ids and (limit.budget is None or limit.fits(automaton.state([(text[place:], rest)]))):
                found.ids += ids
        if limit.budget is None:
            limit.note(automaton, len(text), rest)
        below = self.child(node, text)
        if below.low < below.high:
            self._walk(below, automaton.state([rest]), found, size, limit)

    def _walk_string(
        self,
        node: Node,
        string: InString | InForm,
        rest: Stack,
        automaton: Automaton,
        found: Found,
        size: int,
        limit: Limit,
    ) -> None:
        """As _walk, where a string begins or goes on."""
        strings = self._strings_below(node, string.characters)
        closed = rest
        if isinstance(string, InForm):
            if string.key_of:  # which key it is, does not matter before the next one
                closed = string.key_of.value_of("", string.kind, rest)
            string = replace(string, key_of=None, text="")
        if limit.budget is None:
            allowed = self._allowed(strings, string, automaton, size)
            found.masks.append(allowed.inside)
            closing = allowed.closing
            limit.note(automaton, allowed.most, closed)
        else:
            closing = strings.closing(string)
            for inside, begun, ids in strings.staying(string):
                after = automaton.state([(inside, closed)]).steps(begun)
                if after is not None and limit.fits(after):
                    found.ids += ids.tolist()
        if not closing:
            return
        after, beyond = automaton.state([closed]), Found()
        if strings.ended and limit.fits(after):
            beyond.ids += strings.ended
        strings.after._walk(strings.after.root, after, beyond, size, limit)
        if beyond.masks:
            beyond.ids = beyond.mask(size).nonzero().flatten().tolist()
        found.ids += [id_ for id_ in beyond.ids if id_ in closing]

    def _strings_below(self, node: Node, characters: Characters) -> _Strings:
        if (node, characters) not in self._strings:
            entries = zip(self.keys[node.low : node.high], self.ids[node.low : node.high], strict=True)
            self._strings[node, characters] = _Strings(((key[node.depth :], id_) for key, id_ in entries), characters)
        return self._strings[node, characters]

    def _allowed(self, strings: _Strings, string: InString | InForm, automaton: Automaton, size: int) -> _Allowed:
        """What a string allows; what was asked last is kept."""
        key: tuple[object, object]
        if isinstance(string, InForm):
            key = string.form, string.state
        else:
            room = None if string.room is None or string.room >= strings.longest else string.room
            key = max(string.shortest - string.length, 0), room
        if (strings, key) not in self._known:
            if len(self._known) == MOST_READ:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[strings, key] = strings.allowed(string, automaton, size)
        return self._known[strings, key]


def _characters(entry: bytes, characters: Characters) -> tuple[str, bytes]:
    """The whole characters that an entry begins with, inside a string, and the rest of it."""
    text, place = "", 0
    while True:
        match = _plain(characters).match(entry, place)
        assert match is not None
        text, place = text + match.group().decode(), match.end()
        escaped = _escaped(characters).match(entry, place)
        if escaped is None:
            return text, entry[place:]
        text, place = text + chr(characters.meaning(escaped[1])), escaped.end()


def _distinct(numbers: Tensor, size: int) -> list[int]:
    """The different ones among int64 numbers from 0 to `size`."""
    there = torch.zeros(size, dtype=torch.bool)
    there[numbers] = True
    found: list[int] = there.nonzero().flatten().tolist()
    return found


def _next(prefix: bytes) -> bytes:
    """The least bytes above everything that begins with `prefix`."""
    while prefix.endswith(b"\xff"):
        prefix = prefix[:-1]
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"\xff" * 64
