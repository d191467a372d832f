"""ECMAScript's regular expressions, as far as they are regular, read into languages.

A pattern matches if it is found anywhere in a text, as JSON Schema has it. `^`, `$`, `(?=...)` and `(?!...)` speak of
what is around them. So a part is read together with all that may follow it up to the end of the text, from right to
left: `(?=a)` is then the intersection of what follows with "an a, and anything". What `^` and `\\b` want to know is
handed on from left to right: whether a word's character stood before, another one, or none.

Not regular, or not followed here, and refused by name: references to groups, looking behind, and `^`, `$`, `\\b` or
looking ahead inside of a repetition.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from minifc.calling.regular import (
    ANYTHING,
    EMPTY,
    LAST,
    NOTHING,
    Language,
    Ranges,
    both,
    characters,
    either,
    other_characters,
    repeat,
    then,
    without,
)
from minifc.errors import SchemaError

MOST_REPETITIONS = 1000
DIGITS: Ranges = ((0x30, 0x39),)
WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
SPACES: Ranges = ((9, 13), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
    (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF))  # fmt: skip
LINE_ENDS: Ranges = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_CLASSES = {"d": DIGITS, "w": WORD, "s": SPACES}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}

Before = Literal["nothing", "word", "other"]  # what stands before a place
_WORD = characters(WORD)
_ENDING: dict[Before, Language] = {
    "word": then(ANYTHING, _WORD),
    "other": then(ANYTHING, characters(other_characters(WORD))),
}
_WORD_FIRST = then(_WORD, ANYTHING)


class _Rest:
    """All that follows a part, up to the end of the text. looks: whether it depends on what stands before it."""

    def __init__(self, read: Callable[[Before], Language], looks: bool = True) -> None:
        self.read, self.looks = cache(read), looks


@dataclass(frozen=True)
class _Plain:
    """A part that speaks of nothing around it."""

    language: Language

    def read(self, rest: _Rest, before: Before) -> Language:
        if not rest.looks:
            return then(self.language, rest.read(before))
        ways = [then(both(self.language, texts), rest.read(last)) for last, texts in _ENDING.items()]
        return either(*ways, rest.read(before) if self.language.nullable else NOTHING)


@dataclass(frozen=True)
class _Looking:
    """A part that speaks of what is around it: a function of what follows and of what stands before."""

    read: Callable[[_Rest, Before], Language]


Part = _Plain | _Looking
_ANYTHING = _Rest(lambda before: ANYTHING, looks=False)
_START = _Looking(lambda rest, before: rest.read(before) if before == "nothing" else NOTHING)
_END = _Looking(lambda rest, before: EMPTY if rest.read(before).nullable else NOTHING)


def _boundary(turned: bool) -> _Looking:
    """\\b: a word begins or ends here; turned, \\B: neither."""

    def read(rest: _Rest, before: Before) -> Language:
        word_follows = (before == "word") == turned
        return both(rest.read(before), _WORD_FIRST if word_follows else without(_WORD_FIRST))

    return _Looking(read)


@lru_cache(1024)
def language_of(pattern: str) -> Language:
    """The texts in which a pattern is found. Raises SchemaError for what is no pattern, or none that is followed."""
    part = _Parser(pattern).whole()
    return _Plain(ANYTHING).read(
        _Rest(lambda before: part.read(_ANYTHING, before), isinstance(part, _Looking)), "nothing"
    )


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern, self.at = pattern, 0

    def error(self, what: str) -> SchemaError:
        return SchemaError(f"pattern {self.pattern!r}: {what}")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self, expected: str) -> bool:
        found = self.pattern.startswith(expected, self.at)
        self.at += len(expected) * found
        return found

    def whole(self) -> Part:
        part = self.options()
        if self.at < len(self.pattern):
            raise self.error("a bracket is closed that was not opened")
        return part

    def options(self) -> Part:
        found = [self.sequence()]
        while self.take("|"):
            found.append(self.sequence())
        if len(found) == 1:
            return found[0]
        if all(isinstance(one, _Plain) for one in found):
            return _Plain(either(*(one.language for one in found if isinstance(one, _Plain))))
        return _Looking(lambda rest, before: either(*(one.read(rest, before) for one in found)))

    def sequence(self) -> Part:
        parts: list[Part] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated())
        whole: Part = _Plain(EMPTY)
        for part in reversed(parts):
            whole = _in_turn(part, whole)
        return whole

    def repeated(self) -> Part:
        part = self.one()
        while (bounds := self.bounds()) is not None:
            self.take("?")  # taking little or much finds other matches, but in the same texts
            if not isinstance(part, _Plain):
                raise self.error("^, $ or looking ahead inside of a repetition is not followed")
            part = _Plain(repeat(part.language, *bounds))
        return part

    def bounds(self) -> tuple[int, int | None] | None:
        """How often what stands before is repeated."""
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return bounds
        if self.peek() != "{":
            return None
        inside, brace, _ = self.pattern[self.at + 1 :].partition("}")
        least, comma, most = inside.partition(",")
        if not brace or not least.isdecimal() or not (most == "" or most.isdecimal()):
            return None  # an ordinary brace
        self.at += len(inside) + 2
        high = int(most) if most else None if comma else int(least)
        if high is not None and high < int(least):
            raise self.error(f"{{{inside}}} ends before it begins")
        if max(int(least), high or 0) > MOST_REPETITIONS:
            raise self.error(f"{{{inside}}} repeats more than {MOST_REPETITIONS:,} times")
        return int(least), high

    def one(self) -> Part:
        c = self.peek()
        self.at += 1
        match c:
            case "^":
                return _START
            case "$":
                return _END
            case ".":
                return _Plain(characters(other_characters(LINE_ENDS)))
            case "(":
                return self.group()
            case "[":
                return _Plain(characters(self.bracketed()))
            case "\\":
                return self.escaped()
            case "*" | "+" | "?":
                raise self.error(f"{c} has nothing to repeat")
        return _Plain(characters([(ord(c), ord(c))]))

    def group(self) -> Part:
        ahead = self.take("?=")
        refused = not ahead and self.take("?!")
        if not (ahead or refused or self.take("?:")) and self.take("?"):
            end = self.pattern.find(">", self.at)
            if not self.take("<") or self.peek() in ("=", "!") or end < 0:
                raise self.error("looking behind and flags are not followed")
            self.at = end + 1
        part = self.options()
        if not self.take(")"):
            raise self.error("a bracket is not closed")
        if not ahead and not refused:
            return part
        if refused:
            return _Looking(lambda rest, before: both(without(part.read(_ANYTHING, before)), rest.read(before)))
        return _Looking(lambda rest, before: both(part.read(_ANYTHING, before), rest.read(before)))

    def escaped(self) -> Part:
        """What an escape outside of brackets stands for."""
        c = self.peek()
        if c in ("b", "B"):
            self.at += 1
            return _boundary(turned=c == "B")
        if c and c in "123456789k":
            raise self.error("a reference to a group is not regular")
        return _Plain(characters(self.escape()))

    def escape(self) -> Ranges:
        c = self.peek()
        self.at += 1
        if not c:
            raise self.error("it ends within an escape")
        if c.lower() in _CLASSES:
            ranges = _CLASSES[c.lower()]
            return ranges if c.islower() else other_characters(ranges)
        if c in "pP":
            return self.category(c == "P")
        if c in _CONTROLS:
            code = _CONTROLS[c]
        elif c == "c" and self.peek().isalpha():
            code = ord(self.peek()) % 32
            self.at += 1
        elif c == "x":
            code = self.hexadecimal(2)
        elif c == "u":
            code = self.code_point()
        else:
            code = ord(c)
        return ((code, code),)

    def code_point(self) -> int:
        if self.take("{"):
            end = self.pattern.find("}", self.at)
            code = self.hexadecimal(max(end - self.at, 1))
            self.at += 1
            return code
        code = self.hexadecimal(4)
        if 0xD800 <= code < 0xDC00 and self.take("\\u"):  # the halves of one character
            return 0x10000 + ((code - 0xD800) << 10) + (self.hexadecimal(4) - 0xDC00)
        return code

    def hexadecimal(self, digits: int) -> int:
        text = self.pattern[self.at : self.at + digits]
        self.at += digits
        try:
            code = int(text, 16)
        except ValueError:
            raise self.error(f"{text!r} is not the number of a character") from None
        if len(text) < digits or code > LAST:
            raise self.error(f"{text!r} is not the number of a character")
        return code

    def category(self, excluded: bool) -> Ranges:
        """\\p{Lu}, \\p{L}, \\p{Letter}."""
        end = self.pattern.find("}", self.at)
        if not self.take("{") or end < 0:
            raise self.error("\\p needs a category in braces")
        name = self.pattern[self.at : end].removeprefix("General_Category=").removeprefix("gc=")
        self.at = end + 1
        ranges = categories().get(_LONG_NAMES.get(name, name))
        if ranges is None:
            raise self.error(f"\\p{{{name}}} is not followed; general categories such as \\p{{L}} are")
        return other_characters(ranges) if excluded else ranges

    def bracketed(self) -> Ranges:
        excluded = self.take("^")
        found: list[tuple[int, int]] = []
        while not self.take("]"):
            if not self.peek():
                raise self.error("a bracket [ is not closed")
            low = self.member()
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("", "]"):
                self.at += 1
                high = self.member()
                if len(low) == len(high) == 1 and low[0][0] == low[0][1] and high[0][0] == high[0][1]:
                    if high[0][0] < low[0][0]:
                        raise self.error("a range in brackets ends before it begins")
                    found.append((low[0][0], high[0][0]))
                    continue
                found += [*high, (ord("-"), ord("-"))]  # [\w-.]: no range
            found += low
        merged = characters(found)
        ranges: Ranges = merged.ranges  # type: ignore[attr-defined]
        return other_characters(ranges) if excluded else ranges

    def member(self) -> Ranges:
        """A character in brackets, or a class of them."""
        c = self.peek()
        self.at += 1
        if c != "\\":
            return ((ord(c), ord(c)),)
        if self.take("b"):
            return ((8, 8),)
        return self.escape()


def _in_turn(first: Part, second: Part) -> Part:
    """One part after the other."""
    if isinstance(first, _Plain) and isinstance(second, _Plain):
        return _Plain(then(first.language, second.language))

    looks = isinstance(second, _Looking)

    @cache  # else a long pattern would be read anew for each way to reach each of its parts
    def following(rest: _Rest) -> _Rest:
        return _Rest(lambda last: second.read(rest, last), looks or rest.looks)

    return _Looking(lambda rest, before: first.read(following(rest), before))


_LONG_NAMES = {"Letter": "L", "Lowercase_Letter": "Ll", "Uppercase_Letter": "Lu", "Mark": "M", "Number": "N",
    "Decimal_Number": "Nd", "Punctuation": "P", "Symbol": "S", "Separator": "Z", "Other": "C", "Control": "Cc",
    "Alphabetic": "L"}  # fmt: skip


@lru_cache(1)
def categories() -> dict[str, Ranges]:
    """The characters of each general category, and of each group of them: Lu and L."""
    found: dict[str, list[tuple[int, int]]] = {}
    for code in range(LAST + 1):
        name = unicodedata.category(chr(code))
        for key in (name, name[0]):
            ranges = found.setdefault(key, [])
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1] = (ranges[-1][0], code)
            else:
                ranges.append((code, code))
    return {name: tuple(ranges) for name, ranges in found.items()}
