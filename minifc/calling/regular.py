"""Regular languages: unions, intersections and complements of sets of texts, and the automaton of such a set.

A language is a tree. Its derivative by a character is the language of what may follow that character (Brzozowski,
Derivatives of Regular Expressions, J. ACM 11, 1964). The derivatives of a language are finitely many, and are the
states of its automaton (Owens, Reppy and Turon, Regular-expression derivatives re-examined, J. Functional Programming
19, 2009). Intersection and complement, of which schemas are full, are as simple as union this way.

Trees are made by functions that simplify and that return the same object for the same arguments: only so are there few
derivatives, and only so are they found again.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from minifc.errors import SchemaError

LAST = 0x10FFFF  # the last character
SURROGATES = (0xD800, 0xDFFF)  # halves of characters, which are in no text
MOST_STATES = 2000
OFTEN = 16  # repetitions that `relaxed` does not count
MOST_PARTS = 400_000  # of all states, each of which may be a union of hundreds: a second or two
KEPT = 2**16  # trees; of a tree that is forgotten there may be a second one, which costs states and nothing else
Ranges = tuple[tuple[int, int], ...]  # of characters: first and last


class Language:
    """A set of texts."""

    @property
    def nullable(self) -> bool:
        """Whether the empty text belongs to it."""
        raise NotImplementedError

    @property
    def edges(self) -> frozenset[int]:
        """The characters at which the derivative may change."""
        return frozenset()

    def after(self, character: int) -> "Language":
        """The derivative: what may follow this character."""
        raise NotImplementedError


class _Empty(Language):
    @property
    def nullable(self) -> bool:
        return True

    def after(self, character: int) -> Language:
        return NOTHING


@dataclass(frozen=True, eq=False)
class _Characters(Language):
    ranges: Ranges

    @property
    def nullable(self) -> bool:
        return False

    @cached_property
    def edges(self) -> frozenset[int]:
        return frozenset(edge for low, high in self.ranges for edge in (low, high + 1))

    def after(self, character: int) -> Language:
        return EMPTY if any(low <= character <= high for low, high in self.ranges) else NOTHING


@dataclass(frozen=True, eq=False)
class _Then(Language):
    first: Language
    second: Language

    @cached_property
    def nullable(self) -> bool:
        return self.first.nullable and self.second.nullable

    @cached_property
    def edges(self) -> frozenset[int]:
        return self.first.edges | self.second.edges if self.first.nullable else self.first.edges

    def after(self, character: int) -> Language:
        within = then(derivative(self.first, character), self.second)
        return either(within, derivative(self.second, character)) if self.first.nullable else within


@dataclass(frozen=True, eq=False)
class _Repeat(Language):
    part: Language  # not nullable, unless `least` is 0
    least: int
    most: int | None

    @property
    def nullable(self) -> bool:
        return self.least == 0

    @property
    def edges(self) -> frozenset[int]:
        return self.part.edges

    def after(self, character: int) -> Language:
        most = None if self.most is None else self.most - 1
        return then(derivative(self.part, character), repeat(self.part, max(self.least - 1, 0), most))


@dataclass(frozen=True, eq=False)
class _Several(Language):
    parts: frozenset[Language]

    @cached_property
    def edges(self) -> frozenset[int]:
        return frozenset[int]().union(*(part.edges for part in self.parts))


class _Either(_Several):
    @cached_property
    def nullable(self) -> bool:
        return any(part.nullable for part in self.parts)

    def after(self, character: int) -> Language:
        return either(*(derivative(part, character) for part in self.parts))


class _Both(_Several):
    @cached_property
    def nullable(self) -> bool:
        return all(part.nullable for part in self.parts)

    def after(self, character: int) -> Language:
        return both(*(derivative(part, character) for part in self.parts))


@dataclass(frozen=True, eq=False)
class _Without(Language):
    excluded: Language

    @property
    def nullable(self) -> bool:
        return not self.excluded.nullable

    @property
    def edges(self) -> frozenset[int]:
        return self.excluded.edges

    def after(self, character: int) -> Language:
        return without(derivative(self.excluded, character))


@lru_cache(KEPT)
def derivative(language: Language, character: int) -> Language:
    """What may follow this character: found once for a part that many languages share."""
    return language.after(character)


# --- how languages are made ----------------------------------------------------------------------------------------


def characters(ranges: Iterable[tuple[int, int]]) -> Language:
    """The texts of one character out of these ranges."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        elif low <= high:
            merged.append((low, high))
    return _characters(tuple(merged))


@lru_cache(KEPT)
def _characters(ranges: Ranges) -> Language:
    return _Characters(ranges)


def other_characters(ranges: Ranges) -> Ranges:
    """All characters that are not in these ranges, which are in order."""
    starts = (0, *(high + 1 for _, high in ranges))
    ends = (*(low - 1 for low, _ in ranges), LAST)
    return tuple((low, high) for low, high in zip(starts, ends, strict=True) if low <= high)


@lru_cache(KEPT)
def then(first: Language, second: Language) -> Language:
    """A text of the first, and after it one of the second."""
    if NOTHING in (first, second):
        return NOTHING
    if first is EMPTY:
        return second
    if second is EMPTY:
        return first
    if isinstance(first, _Then):
        return then(first.first, then(first.second, second))
    return _Then(first, second)


@lru_cache(KEPT)
def repeat(part: Language, least: int = 0, most: int | None = None) -> Language:
    """`least` to `most` texts of a part, one after the other; None is any number."""
    least = 0 if part.nullable else least
    if part in (NOTHING, EMPTY) or most == 0:
        return NOTHING if least else EMPTY
    if (least, most) == (1, 1):
        return part
    if isinstance(part, _Repeat) and (part.least, part.most, most) == (0, None, None):
        return part
    return _Repeat(part, least, most)


def either(*options: Language) -> Language:
    """The texts of any of these."""
    found = set(_flat(options, _Either)) - {NOTHING}
    if ANYTHING in found:
        return ANYTHING
    sets = [one for one in found if isinstance(one, _Characters)]
    if len(sets) > 1:
        found = found.difference(sets) | {characters(one for part in sets for one in part.ranges)}
    if any(option.nullable for option in found - {EMPTY}):
        found -= {EMPTY}
    return _either(frozenset(found))


@lru_cache(KEPT)
def _either(options: frozenset[Language]) -> Language:
    return _Either(options) if len(options) > 1 else next(iter(options), NOTHING)


def both(*parts: Language) -> Language:
    """The texts that belong to all of these."""
    found = set(_flat(parts, _Both)) - {ANYTHING}
    if EMPTY in found:
        return EMPTY if all(part.nullable for part in found) else NOTHING
    if NOTHING in found:
        return NOTHING
    sets = [one for one in found if isinstance(one, _Characters)]
    if len(sets) > 1:
        left_out = [gap for one in sets for gap in other_characters(one.ranges)]
        kept = characters(left_out)
        assert isinstance(kept, _Characters)
        found = found.difference(sets) | {characters(other_characters(kept.ranges))}
        if NOTHING in found:
            return NOTHING
    return _both(frozenset(found))


@lru_cache(KEPT)
def _both(parts: frozenset[Language]) -> Language:
    return _Both(parts) if len(parts) > 1 else next(iter(parts), ANYTHING)


@lru_cache(KEPT)
def without(excluded: Language) -> Language:
    """All texts but these."""
    if isinstance(excluded, _Without):
        return excluded.excluded
    return NOTHING if excluded is ANYTHING else ANYTHING if excluded is NOTHING else _Without(excluded)


def _flat(languages: Iterable[Language], kind: type[_Several]) -> Iterator[Language]:
    for language in languages:
        yield from language.parts if isinstance(language, kind) else (language,)


def literal(text: str) -> Language:
    """This text and no other."""
    language = EMPTY
    for character in reversed(text):
        language = then(characters([(ord(character), ord(character))]), language)
    return language


def untaken(language: Language, taken: Iterable[str]) -> Language:
    """The texts of a language but for these."""
    return both(language, *(without(literal(text)) for text in sorted(taken)))


EMPTY: Language = _Empty()
NOTHING = characters(())
ANY = characters([(0, LAST)])
ANYTHING = repeat(ANY)


# --- the automaton -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Dfa:
    """A deterministic automaton: from each state, one state for each character, or -1 if no text goes on like that.

    State 0 is the first; there is none if the language has no text.
    """

    starts: list[list[int]]  # of each state: the first characters of the ranges that lead to one state
    targets: list[list[int]]  # these states
    accepting: list[bool]
    endings: list[str]  # a short text that leads from here to an accepting state

    def step(self, state: int, character: int) -> int:
        return self.targets[state][bisect_right(self.starts[state], character) - 1]

    def goes_on(self, state: int, low: int, high: int) -> bool:
        """Whether any character from low to high may follow."""
        starts, targets = self.starts[state], self.targets[state]
        first, last = bisect_right(starts, low) - 1, bisect_right(starts, high)
        return any(target >= 0 for target in targets[first:last])

    def chooses(self, state: int) -> bool:
        """Whether more than one character may follow, or the text may end here or go on."""
        starts, targets = self.starts[state], self.targets[state]
        ranges = [number for number, target in enumerate(targets) if target >= 0]
        if len(ranges) != 1:
            return bool(ranges)
        end = starts[ranges[0] + 1] if ranges[0] + 1 < len(starts) else LAST + 1
        return self.accepting[state] or end - starts[ranges[0]] > 1

    def first(self, state: int, low: int, high: int) -> int:
        """The first character from low to high that may follow; there must be one."""
        starts, targets = self.starts[state], self.targets[state]
        place = bisect_right(starts, low) - 1
        while targets[place] < 0:
            place += 1
        return max(low, starts[place])

    def count(self, most: int) -> int:
        """How many texts it has, counted up to `most`."""
        found, ways = 0, {0: 1} if self.accepting else {}
        while ways and found < most:
            found += sum(number for state, number in ways.items() if self.accepting[state])
            following: dict[int, int] = {}
            for state, number in ways.items():
                ends = [*self.starts[state][1:], LAST + 1]
                for start, end, target in zip(self.starts[state], ends, self.targets[state], strict=True):
                    if target >= 0:
                        following[target] = min(following.get(target, 0) + number * (end - start), most)
            ways = following
        return min(found, most)

    @cached_property
    def languages(self) -> list[Language]:
        """Of each state: the texts that lead from it to an accepting one."""
        languages: list[Language] = []
        for state, row in enumerate(self.targets):
            # Text holds no surrogates, so a state that all other characters lead back to takes any text.
            everything = self.accepting[state] and self.starts[state] == [0, SURROGATES[0], SURROGATES[1] + 1]
            languages.append(ANYTHING if everything and {*row} == {state, -1} else _State(self, state))
        return languages

    def matches(self, text: str) -> bool:
        state = 0 if self.accepting else -1
        for character in text:
            if state < 0:
                return False
            state = self.step(state, ord(character))
        return state >= 0 and self.accepting[state]


class _State(Language):
    """What leads from a state of an automaton to an accepting one. The derivatives are states, which are at hand."""

    def __init__(self, automaton: Dfa, state: int) -> None:
        self.automaton, self.state = automaton, state
        self.starts = frozenset(automaton.starts[state])

    @property
    def nullable(self) -> bool:
        return self.automaton.accepting[self.state]

    @property
    def edges(self) -> frozenset[int]:
        return self.starts

    def after(self, character: int) -> Language:
        following = self.automaton.step(self.state, character)
        return NOTHING if following < 0 else self.automaton.languages[following]


def matches(language: Language, text: str) -> bool:
    """Whether a text belongs to a language, which may be one whose automaton would be too large."""
    for character in text:
        language = derivative(language, ord(character))
    return language.nullable


def relaxed(language: Language) -> Language:
    """A language with all texts of this one and with fewer states: what is repeated often may be repeated at will."""
    match language:
        case _Then():
            return then(relaxed(language.first), relaxed(language.second))
        case _Repeat() if max(language.least, language.most or 0) > OFTEN:
            return repeat(relaxed(language.part), min(language.least, 1))
        case _Repeat():
            return repeat(relaxed(language.part), language.least, language.most)
        case _Either():
            return either(*map(relaxed, language.parts))
        case _Both():
            return both(*map(relaxed, language.parts))
        case _Without():  # what leaves out more would be less
            return ANYTHING if relaxed(language.excluded) is not language.excluded else language
    return language


def compiled(language: Language) -> Language:
    """The same language, ready for intersections: as the first state of its automaton instead of as a tree, whose
    derivatives may be large. Raises SchemaError if it has too many states."""
    automaton = automaton_of(language)
    return automaton.languages[0] if automaton.accepting else NOTHING


@lru_cache(1024)
def automaton_of(language: Language) -> Dfa:
    """The automaton of a language. Raises SchemaError if it has too many states."""
    if isinstance(language, _State) and language.state == 0:
        return language.automaton
    numbers = {language: 0}
    waiting = deque([language])
    starts: list[list[int]] = []
    targets: list[list[int]] = []
    parts = 0
    while waiting:
        state = waiting.popleft()
        parts += len(state.parts) if isinstance(state, _Several) else 1
        if parts > MOST_PARTS:
            raise SchemaError("its automaton is too much work")
        starts.append([])
        targets.append([])
        for character in sorted({0, SURROGATES[0], SURROGATES[1] + 1, *state.edges} - {LAST + 1}):
            following = NOTHING if SURROGATES[0] <= character <= SURROGATES[1] else state.after(character)
            if following is not NOTHING and following not in numbers:
                if len(numbers) == MOST_STATES:
                    raise SchemaError(f"its automaton has more than {MOST_STATES:,} states")
                numbers[following] = len(numbers)
                waiting.append(following)
            target = numbers.get(following, -1)
            if not targets[-1] or targets[-1][-1] != target:
                starts[-1].append(character)
                targets[-1].append(target)
    accepting = [bool(state.nullable) for state in numbers]
    endings = _endings(starts, targets, accepting)
    if endings[0] is None:
        return Dfa([], [], [], [])
    alive = [[target if target >= 0 and endings[target] is not None else -1 for target in row] for row in targets]
    return Dfa(starts, alive, accepting, [ending or "" for ending in endings])


def _endings(starts: list[list[int]], targets: list[list[int]], accepting: list[bool]) -> list[str | None]:
    """For each state a shortest text to an accepting one, found backwards; None if there is none."""
    before: list[list[tuple[int, str]]] = [[] for _ in targets]
    for state, (firsts, row) in enumerate(zip(starts, targets, strict=True)):
        for number, target in enumerate(row):
            if target >= 0:
                end = firsts[number + 1] - 1 if number + 1 < len(firsts) else LAST
                before[target].append((state, _readable(firsts[number], end)))
    endings: list[str | None] = ["" if accepts else None for accepts in accepting]
    waiting = deque(state for state, accepts in enumerate(accepting) if accepts)
    while waiting:
        target = waiting.popleft()
        for state, character in before[target]:
            if endings[state] is None:
                endings[state] = character + (endings[target] or "")
                waiting.append(state)
    return endings


def _readable(low: int, high: int) -> str:
    """A character of a range; a letter or a digit, if there is one."""
    return next((c for c in "a0A-. " if low <= ord(c) <= high), chr(max(low, min(ord("!"), high))))
