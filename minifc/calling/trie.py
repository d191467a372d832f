"""Which tokens of a vocabulary a state allows.

The trie is a sorted list: tokens with a common beginning are neighbours, so that a node is a range of the list
and nothing has to be built. A walk follows only bytes that the state allows. Inside a string
nearly all bytes are allowed, so there a table, made once per node, replaces the walk: tokens that consist of a string's
characters are allowed together, and of the other tokens only the part after such characters is walked through.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from minifc.calling.automaton import Automaton, InForm, InString, Stack, State
from minifc.calling.regular import Dfa
from minifc.errors import TokenizerError
from minifc.text.dialects import Characters

# Whole characters beyond ASCII.
_BEYOND_ASCII = (
    rb"[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
)


@lru_cache
def _plain(characters: Characters) -> "re.Pattern[bytes]":
    """Matches whole characters that stand for themselves inside a string."""
    ascii_ = b"".join(re.escape(bytes([byte])) for byte in range(128) if byte not in characters.reserved)
    return re.compile(b"(?:[" + ascii_ + b"]|" + _BEYOND_ASCII + b")*")


MOST_READ = 64  # states of forms whose texts are kept

Fits = Callable[[State], bool]


class Node(NamedTuple):
    """The entries low to high (exclusive), which share their first `depth` bytes."""

    low: int
    high: int
    depth: int


@dataclass(frozen=True)
class _Inside:
    """The entries below a node, as a string sees them that begins there."""

    plain: Tensor  # int64 [n]: ids of entries that are characters of the string and nothing else, fewest first
    sizes: list[int]  # how many characters each of these has
    tails: dict[int, "Trie"]  # of the others: their first byte that is no such character, and on, by what stands before


class _Texts:
    """Many texts, which an automaton reads all at once: the first characters of all, then the second ones.."""

    def __init__(self, texts: list[str]) -> None:
        """texts: in order."""
        self._known: dict[tuple[Dfa, int], tuple[Tensor, Tensor]] = {}
        self.lengths = torch.tensor([len(text) for text in texts], dtype=torch.long)
        self.places = self.lengths.cumsum(0) - self.lengths
        self.characters = torch.tensor([ord(c) for text in texts for c in text], dtype=torch.long)
        self.empty = sum(not text for text in texts)  # the first ones
        self.firsts = [ord(text[0]) for text in texts[self.empty :]]

    def read(self, form: Dfa, state: int) -> tuple[Tensor, Tensor]:
        """Which texts can be read from a state, int64 [m], and the states after them, int64 [m]."""
        if (form, state) not in self._known:
            if len(self._known) == MOST_READ:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[form, state] = self._read(form, state)
        return self._known[form, state]

    def _read(self, form: Dfa, state: int) -> tuple[Tensor, Tensor]:
        found, ends = [torch.arange(self.empty)], [torch.full((self.empty,), state)]
        reading, states = self._first(form, state)
        edges, following = _table(form)
        for place in range(1, int(self.lengths.max()) + 1 if len(self.lengths) else 0):
            longer = self.lengths[reading] > place
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
def _table(form: Dfa) -> tuple[Tensor, Tensor]:
    """Where moves of any state change [K], and the state that follows each state from there on [S, K + 1]."""
    edges = sorted({start for starts in form.starts for start in starts} - {0})
    following = [[form.step(state, edge) for edge in (0, *edges)] for state in range(len(form.starts))]
    return torch.tensor(edges, dtype=torch.long), torch.tensor(following)


class Trie:
    """The tokens of a vocabulary, by their bytes."""

    def __init__(self, entries: Iterable[tuple[bytes, int]]) -> None:
        """entries: (bytes, id), in any order; none empty. Several ids may have the same bytes."""
        ordered = sorted(entries)
        self.keys = [key for key, _ in ordered]
        self.ids = [id_ for _, id_ in ordered]
        self.first_bytes = sorted({key[0] for key in self.keys})
        self.root = Node(0, len(ordered), 0)
        self._tables: dict[tuple[Node, Characters], _Inside] = {}
        self._texts: dict[tuple[Node, Characters], tuple[Tensor, _Texts, list[Trie], _Texts]] = {}

    def child(self, node: Node, more: bytes) -> Node:
        """The entries that go on with these bytes."""
        if node.low == node.high:
            return node
        prefix = self.keys[node.low][: node.depth] + more
        low = bisect_left(self.keys, prefix, node.low, node.high)
        high = bisect_left(self.keys, _next(prefix), low, node.high)
        return Node(low, high, len(prefix))

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

    def allowed(self, state: State, mask: Tensor, fits: Fits) -> None:
        """Set to True what `state` allows: bool [V], over ids.

        fits: whether an id may lead to a state. It must be monotone in strings: if it holds after some characters of
            a string, it holds after more of them.
        """
        self._walk(self.root, state, mask, fits)

    def _walk(self, node: Node, state: State, mask: Tensor, fits: Fits) -> None:
        others: list[Stack] = []
        for stack in state.stacks:
            if stack is not None and isinstance(stack[0], InString) and not stack[0].following:
                self._inside(node, stack[0], stack[1], state.automaton, mask, fits)
            elif stack is not None and isinstance(stack[0], InForm) and not stack[0].begun:
                self._inside_form(node, stack[0], stack[1], state.automaton, mask, fits)
            else:
                others.append(stack)
        if not others:
            return
        if len(others) < len(state.stacks):
            state = state.automaton.state(others)
        whole = self.whole(node)
        if whole and fits(state):
            mask[whole] = True
        longer = node._replace(low=node.low + len(whole))
        if longer.low == longer.high:
            return
        for byte in state.next_bytes():
            below, after = self.child(longer, bytes([byte])), state.step(byte)
            if below.low < below.high and after is not None:
                self._walk(below, after, mask, fits)

    def _inside(
        self, node: Node, string: InString, rest: Stack, automaton: Automaton, mask: Tensor, fits: Fits
    ) -> None:
        """As _walk, where a string begins or goes on."""
        table = self._table(node, string.characters)
        room = string.room
        low, high = 0, len(table.sizes) if room is None else bisect_left(table.sizes, room + 1)
        while low < high and not fits(automaton.state([(string.after(table.sizes[low]), rest)])):
            low = bisect_left(table.sizes, table.sizes[low] + 1)
        mask[table.plain[low:high]] = True
        for size, tails in table.tails.items():
            if room is not None and size > room:
                break
            inside = automaton.state([(string.after(size), rest)])
            for byte in tails.first_bytes:
                if (after := inside.step(byte)) is not None:
                    tails._walk(tails.child(tails.root, bytes([byte])), after, mask, fits)

    def _inside_form(
        self, node: Node, string: InForm, rest: Stack, automaton: Automaton, mask: Tensor, fits: Fits
    ) -> None:
        """As _inside, where the string has a form. Which key it is, does not matter before the next one."""
        string = replace(string, text="")
        ids, plain, tails, heads = self._texts_below(node, string.characters)
        found, ends = plain.read(string.form, string.state)
        for end in ends.unique().tolist():
            if fits(automaton.state([(replace(string, state=end), rest)])):
                mask[ids[found[ends == end]]] = True
        for number, end in zip(*(tensor.tolist() for tensor in heads.read(string.form, string.state)), strict=True):
            tail, inside = tails[number], automaton.state([(replace(string, state=end), rest)])
            for byte in tail.first_bytes:
                if (after := inside.step(byte)) is not None:
                    tail._walk(tail.child(tail.root, bytes([byte])), after, mask, fits)

    def _texts_below(self, node: Node, characters: Characters) -> tuple[Tensor, _Texts, list["Trie"], _Texts]:
        """The entries below a node: ids and texts of those that are plain characters, and of the others, grouped by the
        plain characters that they begin with, what follows these."""
        if (node, characters) not in self._texts:
            plain: list[tuple[str, int]] = []
            tails: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
            for text, tail, id_ in self._split(node, characters):
                if tail:
                    tails[text].append((tail, id_))
                else:
                    plain.append((text, id_))
            plain.sort()
            heads = sorted(tails)
            self._texts[node, characters] = (
                torch.tensor([id_ for _, id_ in plain], dtype=torch.long),
                _Texts([text for text, _ in plain]),
                [Trie(tails[head]) for head in heads],
                _Texts(heads),
            )
        return self._texts[node, characters]

    def _split(self, node: Node, characters: Characters) -> Iterator[tuple[str, bytes, int]]:
        """The entries below a node: the plain characters that each begins with, what follows them, and its id."""
        for key, id_ in zip(self.keys[node.low : node.high], self.ids[node.low : node.high], strict=True):
            match = _plain(characters).match(key, node.depth)
            assert match is not None
            yield match.group().decode(), key[match.end() :], id_

    def _table(self, node: Node, characters: Characters) -> _Inside:
        if (node, characters) not in self._tables:
            plain: list[tuple[int, int]] = []
            tails: dict[int, list[tuple[bytes, int]]] = defaultdict(list)
            for text, tail, id_ in self._split(node, characters):
                if tail:
                    tails[len(text)].append((tail, id_))
                else:
                    plain.append((len(text), id_))
            plain.sort()
            self._tables[node, characters] = _Inside(
                torch.tensor([id_ for _, id_ in plain], dtype=torch.long),
                [size for size, _ in plain],
                {size: Trie(entries) for size, entries in sorted(tails.items())},
            )
        return self._tables[node, characters]


def _next(prefix: bytes) -> bytes:
    """The least bytes above everything that begins with `prefix`."""
    while prefix.endswith(b"\xff"):
        prefix = prefix[:-1]
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else b"\xff" * 64
