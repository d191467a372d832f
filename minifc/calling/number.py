"""Numbers as Python writes them in JSON: one spelling for each, so that a prefix can be judged.

`json.dumps` writes a float with the fewest digits that give it back, with an exponent only below 1e-4 and from
1e16 on, and an integer without fraction. `is_number` says whether a text is such a
spelling and within a range, `can_become_number` whether it is the beginning of one.
"""

import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

DIGITS = "0123456789"
CHARACTERS = DIGITS + "-.e+"
SMALL, LARGE = Fraction(1, 10**4), Fraction(10**16)  # outside of these a float has an exponent
LARGEST = Fraction(repr(sys.float_info.max))
MOST_DIGITS = 310  # of an integer, with its sign: as many as those of LARGEST
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e[+-][0-9]+)?")
_BEGUN = re.compile(
    r"(?P<whole>0|[1-9][0-9]*)(?P<dot>\.(?P<fraction>[0-9]*))?(?P<e>e(?P<sign>[+-]?)(?P<power>[0-9]*))?"
)
_MANTISSA = re.compile(r"[1-9](\.[0-9]*[1-9])?")  # of a spelling with an exponent
_POWERS = {"+": [f"{power:02}" for power in range(16, 309)], "-": [f"{power:02}" for power in range(5, 325)]}


@dataclass(frozen=True)
class Range:
    """From low to high; None is no bound. An open end does not belong to it. step: only multiples of it do."""

    low: Fraction | None = None
    high: Fraction | None = None
    low_open: bool = False
    high_open: bool = False
    step: int | None = None

    def holds(self, value: Fraction) -> bool:
        above = self.low is None or value > self.low or (value == self.low and not self.low_open)
        below = self.high is None or value < self.high or (value == self.high and not self.high_open)
        return above and below and (self.step is None or value % self.step == 0)

    def met(self, other: "Range") -> "Range":
        """What belongs to both."""
        lows = [(one.low, one.low_open) for one in (self, other) if one.low is not None]
        highs = [(-one.high, one.high_open) for one in (self, other) if one.high is not None]
        low, low_open = max(lows) if lows else (None, False)
        high, high_open = max(highs) if highs else (None, False)
        step = math.lcm(self.step, other.step) if self.step and other.step else self.step or other.step
        return Range(low, None if high is None else -high, low_open, high_open, step)

    def within(self, low: Fraction, high: Fraction, low_open: bool) -> "Range":
        """What it has in common with [low, high), or (low, high)."""
        if self.low is not None and (self.low, self.low_open) > (low, low_open):
            low, low_open = self.low, self.low_open
        if self.high is not None and self.high < high:
            return Range(low, self.high, low_open, self.high_open, self.step)
        return Range(low, high, low_open, True, self.step)

    def negated(self) -> "Range":
        low = None if self.high is None else -self.high
        high = None if self.low is None else -self.low
        return Range(low, high, self.high_open, self.low_open, self.step)

    @property
    def integers(self) -> tuple[int | None, int | None]:
        """The smallest and the largest integer in it."""
        low, high, step = None, None, self.step or 1
        if self.low is not None:
            low = step * (math.floor(self.low / step) + 1 if self.low_open else math.ceil(self.low / step))
        if self.high is not None:
            high = step * (math.ceil(self.high / step) - 1 if self.high_open else math.floor(self.high / step))
        return low, high

    def has_integer(self) -> bool:
        low, high = self.integers
        return low is None or high is None or low <= high

    def has_double(self) -> bool:
        """Whether the spelling of some double is in it, and not that of an integer alone."""
        if self.step is not None:
            return False
        if self.low is None:
            return True
        if self.low > LARGEST:
            return False
        near = float(max(self.low, -LARGEST))
        return any(self.holds(as_written(x)) for x in (near, math.nextafter(near, math.inf)) if math.isfinite(x))


def as_written(number: int | float) -> Fraction:
    """The number that its decimal spelling is: 0.3 is three tenths, as in the schema's text and in the call's."""
    return Fraction(repr(number))


def is_number(text: str, integer: bool, within: Range) -> bool:
    """Whether `text` is how Python writes a number of the range."""
    as_float = not integer and bool(_FLOAT.fullmatch(text)) and repr(float(text)) == text
    return (as_float or bool(_INTEGER.fullmatch(text))) and within.holds(Fraction(text))


@lru_cache(1 << 14)
def can_become_number(text: str, integer: bool, within: Range) -> bool:
    """Whether `text` is a number of the range, or can become one when it goes on."""
    if is_number(text, integer, within):
        return True
    if text.startswith("-"):
        text, within = text[1:], within.negated()
        if not text:
            return any(can_become_number(f"-{digit}", integer, within.negated()) for digit in DIGITS)
        if not integer and is_number(f"-{text}.0", integer, within.negated()):
            return True
    begun = _BEGUN.fullmatch(text)
    if begun is None or (integer and (begun["dot"] or begun["e"])):
        return False
    if begun["e"]:
        mantissa = text.partition("e")[0]
        powers = (sign + power for sign in begun["sign"] or "+-" for power in _POWERS[sign])
        return bool(_MANTISSA.fullmatch(mantissa)) and any(
            is_number(f"{mantissa}e{power}", False, within)
            for power in powers
            if power.startswith(begun["sign"] + begun["power"])
        )
    if not begun["dot"] and text != "0" and _more_digits(int(text), integer, within):
        return True
    return not integer and (_can_have_fraction(begun, within) or _can_have_power(text, within))


@lru_cache(4096)
def complete_number(text: str, integer: bool, within: Range) -> str:
    """A number that begins with `text`, which can become one; with few digits more."""
    while not is_number(text, integer, within):
        # Often one digit more is enough, or an exponent: to try that is quicker than to ask what can go on.
        more = [text + c for c in CHARACTERS] + ([] if integer else list(_with_powers(text)))
        if found := next((ending for ending in more if is_number(ending, integer, within)), None):
            return found
        text += next(c for c in CHARACTERS if can_become_number(text + c, integer, within))
    return text


def _with_powers(text: str) -> Iterator[str]:
    """What has an exponent and begins like this."""
    mantissa, e, _ = text.partition("e")
    if mantissa.endswith(".") and not e:
        mantissa += "1"
    if _MANTISSA.fullmatch(mantissa.removeprefix("-")):
        endings = (f"{mantissa}e{sign}{digits}" for sign in "+-" for digits in _POWERS[sign])
        yield from (ending for ending in endings if ending.startswith(text))


def _more_digits(number: int, integer: bool, within: Range) -> bool:
    """Whether a number of the range begins with the digits of `number`, which is above zero, and then more."""
    step = 10
    while within.high is None or number * step <= within.high:
        part = within.within(Fraction(number * step), Fraction((number + 1) * step), False)
        if part.has_integer() or (not integer and number * step < LARGE and part.has_double()):
            return True
        step *= 10
    return False


def _can_have_fraction(begun: "re.Match[str]", within: Range) -> bool:
    """Whether a number without exponent begins like this and has (more of) a fraction."""
    text, fraction = begun.group(), begun["fraction"] or ""
    low = Fraction(text + ("0" if begun["dot"] else ""))
    high = low + Fraction(1, 10 ** len(fraction))
    if low == 0 and not fraction and within.holds(low):
        return True  # 0.0
    if low < SMALL:
        low, fraction = SMALL, ""
    return low < high <= LARGE and within.within(low, high, bool(fraction)).has_double()


def _can_have_power(text: str, within: Range) -> bool:
    """Whether a number with an exponent begins like this."""
    if not re.fullmatch(r"[1-9](\.[0-9]*)?", text):
        return False
    low = Fraction(text + "0" if text.endswith(".") else text)
    high = low + Fraction(1, 10 ** len(text.partition(".")[2]))
    more = not _MANTISSA.fullmatch(text)  # 1. and 1.0 are not mantissas, but 1.05 is
    powers = (Fraction(10) ** int(sign + power) for sign in "-+" for power in _POWERS[sign])
    return any(within.within(low * power, high * power, more).has_double() for power in powers)
