"""Which tokens may come next in a text that an automaton describes.

The automaton knows bytes; a guide knows which ids write them, how many ids complete the text, and which ids are the
only ones possible. One id, which writes nothing, ends the text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakKeyDictionary

from torch import Tensor

from minifc.calling.automaton import Automaton, Stack, State
from minifc.calling.trie import Found, Limit, Trie
from minifc.errors import CallError
from minifc.text.dialects import DELIMITER, to_bytes
from minifc.text.tokenizer import Tokenizer

MOST_MASKS = 512  # kept for all grammars of a tokenizer
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
    allowed: Found
    room: float  # the most ids that complete the text after any of these


_BETWEEN = to_bytes(DELIMITER)
_vocabularies: "WeakKeyDictionary[Tokenizer, dict[int | None, _Vocabulary]]" = WeakKeyDictionary()  # by the delimiter


class Guide:
    """The text of one of several stacks, up to the id `end`. Made once for many texts, it keeps what it computes."""

    def __init__(
        self,
        automaton: Automaton,
        stacks: Sequence[Stack],
        tokenizer: Tokenizer,
        end: int,
        delimiter: int | None = None,
    ) -> None:
        """delimiter: the id of the token that stands around strings, if there is one."""
        self.tokenizer, self.size, self.end, self.delimiter = tokenizer, tokenizer.size, end, delimiter
        self.vocabulary = _vocabulary(tokenizer, delimiter)
        self.written = self.vocabulary.written
        self.start = automaton.state(stacks)
        self._endings = [automaton.ending(stack) for stack in stacks]
        self._needed: dict[State, int] = {}

    @cached_property
    def shortest(self) -> int:
        """The number of ids of the shortest text, of the stack where this number is largest."""
        return max(len(self.spell(ending)) for ending in self._endings) + 1

    def mask(self, state: State, budget: int | None) -> Tensor:
        """Which ids may come next: a new bool [V].

        budget: the number of ids left to write, the next one included; None is no limit. Within the rest of it, the
        text can be completed after each of the ids.
        """
        masks = self.vocabulary.masks
        known = masks.get(state)
        if known is None:
            if len(masks) >= MOST_MASKS:
                del masks[next(iter(masks))]  # the oldest
            known = masks[state] = self._mask(state, Limit(_in_bytes if budget is not None else None))
        if budget is None or budget > known.room:
            return known.allowed.mask(self.size)
        # Room is counted in bytes first, of which an id may write several; only near the end in ids, which is slower.
        closer = self._mask(state, Limit(self.needed, budget))
        known.room = closer.room
        return closer.allowed.mask(self.size)

    def _mask(self, state: State, limit: Limit) -> _Mask:
        found = self.vocabulary.trie.allowed(state, self.size, limit)
        if state.complete:
            found.ids.append(self.end)
        return _Mask(found, math.inf if limit.needed is None else limit.room)

    def needed(self, state: State) -> int:
        """The number of ids that complete the text."""
        if state not in self._needed:
            self._needed[state] = len(self.spell(state.ending)) + 1
        return self._needed[state]

    def after(self, state: State, id_: int) -> State | None:
        """The state after an id; None after the end of the text. Raises CallError for an id that is not allowed."""
        if id_ == self.end and state.complete:
            return None
        following = state.steps(self.written[id_]) if id_ in self.written else None
        if following is None:
            raise self.not_allowed(id_)
        return following

    def not_allowed(self, id_: int) -> CallError:
        text = repr(self.tokenizer.decode([id_])) if 0 <= id_ < self.size else f"id {id_} of {self.size}"
        return CallError(f"{text} is not allowed here")

    def forced(self, state: State, budget: int | None) -> list[int]:
        """The ids up to the next real choice; [] where there is one now. A text whose budget is nearly spent is brought
        to its end."""
        if budget is not None and (ending := self._ending(state, budget)):
            return ending
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

    def _ending(self, state: State, budget: int) -> list[int]:
        """The ids that complete the text, if the budget is hardly enough for more; else []."""
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


def _vocabulary(tokenizer: Tokenizer, delimiter: int | None) -> _Vocabulary:
    """What each id writes, kept for the next grammar; the token around strings writes 0xFF."""
    kept = _vocabularies.setdefault(tokenizer, {})
    if delimiter not in kept:
        written = tokenizer.written()
        if delimiter is not None:  # and no other id does: as a byte it is part of no character
            written = {id_: text for id_, text in written.items() if _BETWEEN not in text} | {delimiter: _BETWEEN}
        kept[delimiter] = _Vocabulary(written, Trie((text, id_) for id_, text in written.items()))
    return kept[delimiter]


def _in_bytes(state: State) -> int:
    """An upper bound for the number of ids that complete the text."""
    return len(state.ending) + 1
