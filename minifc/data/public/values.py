"""Kinds of value: how a person says one, and the JSON value that it stands for.

A kind is written as in a catalogue: `int 2 40`, `percent 1 12`, `date %Y-%m-%d`, `pool dish`, `list 2 4 pool city`.
What is said and what is meant differ on purpose wherever they do in real requests: 5% is 0.05, half past three is
15:30, two weeks are 14 days.
"""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Any

from minifc.errors import DataError

WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True)
class Value:
    """What a person says, and the JSON value that is meant."""

    said: str
    meant: Any
    order: Any = None  # what it is sorted by, where that is not what is meant


def draw(kind: str, rng: random.Random) -> Value:
    """A value of a kind. Raises DataError for a kind that does not exist."""
    name, _, rest = kind.strip().partition(" ")
    if name not in _KINDS:
        raise DataError(f"{kind!r}: no kind of value; there are {', '.join(sorted(_KINDS))}")
    return _KINDS[name](rng, rest.strip())


def join(parts: Sequence[str], rng: random.Random, last: str = "and") -> str:
    """A list as a sentence has it: a, b and c."""
    if len(parts) == 1:
        return parts[0]
    comma = "," if len(parts) > 2 and rng.random() < 0.5 else ""
    return f"{', '.join(parts[:-1])}{comma} {last} {parts[-1]}"


# --- numbers -----------------------------------------------------------------------------------------------------


def plain(number: float) -> str:
    """A number as one types it: 3, 3.5."""
    return f"{number:.10f}".rstrip("0").rstrip(".") if isinstance(number, float) else str(number)


def _whole(number: float) -> float:
    """An int where it is one."""
    return int(number) if float(number).is_integer() else number


def say_number(number: float, rng: random.Random) -> str:
    """With or without commas; small ones now and then in a word."""
    if isinstance(number, int) and 1 < number <= 12 and rng.random() < 0.12:
        return WORDS[number]
    if isinstance(number, int) and abs(number) >= 10_000 and rng.random() < 0.6:
        return f"{number:,}"
    return plain(number)


def in_words(number: int) -> str:
    """0 to 99 in words."""
    if number <= 12:
        return WORDS[number]
    if number < 20:
        return {13: "thirteen", 15: "fifteen", 18: "eighteen"}.get(number, WORDS[number - 10] + "teen")
    tens = TENS[number // 10 - 2]
    return f"{tens}-{WORDS[number % 10]}" if number % 10 else tens


def _round(low: float, high: float, rng: random.Random) -> int:
    """A whole number, a round one more often than not where it is large."""
    number = rng.randint(int(low), int(high))
    for step in (100_000, 10_000, 1_000, 100, 50, 10, 5):
        rounded = number // step * step
        if number >= 10 * step and low <= rounded and rng.random() < 0.75:
            return rounded
    return number


def _integer(rng: random.Random, bounds: str) -> Value:
    low, high = map(int, bounds.split())
    number = _round(low, high, rng) if low >= 0 else rng.randint(low, high)
    return Value(say_number(number, rng), number)


def _exact(rng: random.Random, bounds: str) -> Value:
    """Any whole number, in digits: what is counted with."""
    low, high = map(int, bounds.split())
    number = rng.randint(low, high)
    return Value(str(number), number)


def _digits(rng: random.Random, bounds: str) -> Value:
    """A number that is meant as text."""
    said = _exact(rng, bounds).said
    return Value(said, said)


def _real(rng: random.Random, bounds: str) -> Value:
    low, high, *digits = bounds.split()
    places = int(digits[0]) if digits else 1
    number = _whole(round(rng.uniform(float(low), float(high)), rng.choice((0, places, places))))
    return Value(plain(number), number)


def _money(rng: random.Random, bounds: str) -> Value:
    """In dollars, with or without cents."""
    low, high = map(float, bounds.split())
    if high < 200 and rng.random() < 0.4:
        cents = round(rng.uniform(low, high), 2)
        return Value(f"${cents:.2f}", cents)
    amount = _round(low, high, rng)
    said = [f"${amount:,}", f"${amount}", f"{amount} dollars", f"{amount:,} USD"]
    if amount >= 1_000_000 and amount % 100_000 == 0:
        said = [f"{plain(amount / 1e6)} million dollars", f"${plain(amount / 1e6)} million", *said[:1]]
    elif amount >= 1000 and amount % 1000 == 0:
        said.append(f"${amount // 1000}k")
    return Value(rng.choice(said), amount)


def _large(rng: random.Random, bounds: str) -> Value:
    """Millions and billions, in words more often than not: 213 million."""
    low, high = map(float, bounds.split())
    number = int(float(f"{rng.uniform(low, high):.3g}"))
    name, size = ("billion", 10**9) if number >= 10**9 else ("million", 10**6)
    if number < size or rng.random() < 0.25:
        return Value(f"{number:,}", number)
    return Value(f"{plain(number / size)} {name}", number)


def _scientific(rng: random.Random, bounds: str) -> Value:
    """`sci -9 -3`: a number with an exponent between these, written as 2e-9 or 2 x 10^-9."""
    low, high = map(int, bounds.split())
    factor, power = rng.choice((1, 1.5, 2, 3, 4.2, 5, 6.4, 8)), rng.randint(low, high)
    said = rng.choice((f"{factor:g}e{power}", f"{factor:g} x 10^{power}", f"{factor:g}*10^{power}"))
    return Value(said, float(f"{factor:g}e{power}"))


def _start_speed(rng: random.Random, bounds: str) -> Value:
    """How fast something is at first: from rest, or with some meters per second."""
    if rng.random() < 0.5:
        return Value(rng.choice(("from rest", "from a standstill")), 0)
    speed = _unit(rng, f"{bounds} m/s")
    return Value(f"from {speed.said}", speed.meant)


def _stature(rng: random.Random, unit: str) -> Value:
    """A person's height in feet and inches, meant in inches or centimeters."""
    feet, inches = rng.choice((4, 5, 5, 5, 6)), rng.randint(0, 11)
    said = rng.choice(
        (f"{feet}'{inches}\"", f"{feet} feet {inches} inches", f"{feet} ft {inches} in", f"{feet}ft {inches}in")
    )
    total = 12 * feet + inches
    return Value(said, total if unit == "inches" else round(2.54 * total, 2))


def _percent(rng: random.Random, bounds: str, whole: bool = False) -> Value:
    low, high = map(float, bounds.split())
    number = _whole(round(rng.uniform(low, high), rng.choice((0, 0, 1))))
    words = f"{in_words(number)} percent" if isinstance(number, int) and number < 100 else f"{plain(number)} percent"
    said = rng.choice([f"{plain(number)}%"] * 4 + [f"{plain(number)} percent", words])
    return Value(said, number if whole else round(number / 100, 6))


# The unit of a parameter -> other ways to say it, each with what one of it is worth in that unit.
_UNITS: dict[str, list[tuple[str, float]]] = {
    "m": [("m", 1), ("meters", 1), ("metres", 1), ("km", 1000), ("kilometers", 1000)],
    "cm": [("cm", 1), ("centimeters", 1), ("m", 100)],
    "mm": [("mm", 1), ("millimeters", 1), ("cm", 10)],
    "km": [("km", 1), ("kilometers", 1)],
    "miles": [("miles", 1)],
    "kg": [("kg", 1), ("kilograms", 1), ("kilos", 1)],
    "g": [("g", 1), ("grams", 1), ("kg", 1000)],
    "pounds": [("pounds", 1), ("lbs", 1)],
    "liters": [("liters", 1), ("litres", 1), ("L", 1)],
    "ml": [("ml", 1), ("milliliters", 1), ("liters", 1000)],
    "m/s": [("m/s", 1), ("meters per second", 1)],
    "km/h": [("km/h", 1), ("kilometers per hour", 1), ("kph", 1)],
    "watts": [("watts", 1), ("W", 1), ("kW", 1000)],
    "volts": [("volts", 1), ("V", 1), ("kV", 1000)],
    "ohms": [("ohms", 1), ("ohm", 1), ("kilohms", 1000)],
    "hz": [("Hz", 1), ("hertz", 1), ("kHz", 1000), ("MHz", 1e6)],
    "newtons": [("newtons", 1), ("N", 1), ("kN", 1000)],
    "celsius": [("degrees Celsius", 1), ("°C", 1), ("degrees C", 1)],
    "kelvin": [("K", 1), ("kelvin", 1)],
    "degrees": [("degrees", 1), ("°", 1)],
    "farads": [("microfarads", 1e-6), ("µF", 1e-6), ("nF", 1e-9)],
    "henries": [("mH", 0.001), ("millihenries", 0.001), ("henries", 1)],
    "m2": [("square meters", 1), ("m²", 1), ("sqm", 1)],
    "sqft": [("square feet", 1), ("sq ft", 1)],
}


_CLOSE = ("°", "m", "km", "kg", "g", "°C", "K", "V")  # units that may touch their number


def _unit(rng: random.Random, rest: str) -> Value:
    """`unit 2 30 km`: a number of them; now and then said in another unit that converts without a remainder."""
    low, high, unit = rest.split()
    names = _UNITS[unit]
    own = [pair for pair in names if pair[1] == 1]
    said, factor = rng.choice(names if not own or rng.random() < 0.15 else own)
    if factor == 1:
        number = _round(float(low), float(high), rng)
        gap = "" if said in _CLOSE and rng.random() < 0.4 else " "
        return Value(f"{say_number(number, rng)}{gap}{said}", number)
    if factor > 1:
        amount = max(1, _whole(round(rng.uniform(float(low), float(high)) / factor, 1)))
    else:
        amount = rng.choice((1, 2, 3.3, 4.7, 5, 10, 15, 20, 22, 47, 50, 68, 100, 150, 220, 330, 470, 500))
    return Value(f"{plain(amount)} {said}", _whole(float(f"{amount * factor:.6g}")))


# --- times -------------------------------------------------------------------------------------------------------


def _year(rng: random.Random, bounds: str) -> Value:
    low, high = map(int, bounds.split())
    year = rng.randint(low, high)
    return Value(str(year), year)


def _ordinal(number: int) -> str:
    return f"{number}{'th' if 10 < number % 100 < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def say_date(day: date, rng: random.Random) -> str:
    """In words or as ISO 8601: never 3/4, which two countries read differently."""
    month, short = day.strftime("%B"), day.strftime("%b")
    return rng.choice(
        [
            f"{month} {day.day}, {day.year}",
            f"{month} {_ordinal(day.day)}, {day.year}",
            f"{day.day} {month} {day.year}",
            f"{short} {day.day}, {day.year}",
            f"the {_ordinal(day.day)} of {month} {day.year}",
            f"{month} {day.day} {day.year}",
            day.isoformat(),
        ]
    )


def _date(rng: random.Random, form: str) -> Value:
    day = date(2018, 1, 1) + timedelta(rng.randint(0, 3600))
    return Value(say_date(day, rng), day.strftime(form or "%Y-%m-%d"), day)


def _birthday(rng: random.Random, form: str) -> Value:
    day = date(1940, 1, 1) + timedelta(rng.randint(0, 27_000))
    return Value(say_date(day, rng), day.strftime(form or "%Y-%m-%d"), day)


def later(value: Value, form: str, rng: random.Random) -> Value:
    """A day soon after another."""
    day = value.order + timedelta(rng.choice((1, 2, 3, 4, 5, 6, 7, 7, 10, 14, 14, 21, 30, 60, 90)))
    return Value(say_date(day, rng), day.strftime(form or "%Y-%m-%d"), day)


def _time(rng: random.Random, form: str) -> Value:
    hour, minute = rng.randint(6, 22), rng.choice((0, 0, 0, 15, 30, 30, 45))
    twelve, half = (hour - 1) % 12 + 1, "am" if hour < 12 else "pm"
    part = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    said = [f"{twelve}:{minute:02d} {half}", f"{hour}:{minute:02d}" if hour > 12 else f"{twelve}:{minute:02d} {half}"]
    words = {
        0: [f"{twelve} {half}", f"{twelve}{half}", f"{WORDS[twelve]} {part}"],
        15: [f"a quarter past {WORDS[twelve]} {part}"],
        30: [f"half past {WORDS[twelve]} {part}"],
        # A quarter to twelve in the morning, or to six in the afternoon, is not said.
        45: [] if hour in (11, 12, 17) else [f"a quarter to {WORDS[twelve % 12 + 1]} {part}"],
    }[minute]
    if (hour, minute) == (12, 0):
        words = ["noon", "12 pm"]
    return Value(rng.choice([*said, *words, *words]), f"{hour:02d}:{minute:02d}")


# The unit of a parameter -> how long other units are in it.
_SPANS: dict[str, list[tuple[str, int]]] = {
    "seconds": [("second", 1), ("minute", 60), ("hour", 3600)],
    "minutes": [("minute", 1), ("hour", 60)],
    "hours": [("hour", 1), ("day", 24)],
    "days": [("day", 1), ("week", 7)],
    "weeks": [("week", 1)],
    "months": [("month", 1), ("year", 12)],
    "years": [("year", 1), ("decade", 10)],
}


def _span(rng: random.Random, rest: str) -> Value:
    """`span minutes 10 240`: how long something takes, in that unit or a longer one."""
    unit, low, high = rest.split()
    if unit == "minutes" and int(low) <= 30 and int(high) >= 90 and rng.random() < 0.15:
        said, minutes = rng.choice(
            (("half an hour", 30), ("an hour and a half", 90), ("an hour", 60), ("a quarter of an hour", 15))
        )
        return Value(said, minutes)
    fitting = [(name, length) for name, length in _SPANS[unit] if int(high) >= 2 * length]
    name, length = fitting[0] if rng.random() < 0.65 or len(fitting) == 1 else rng.choice(fitting[1:])
    count = rng.randint(max(1, -(-int(low) // length)), min(int(high) // length, 90 if length == 1 else 12))
    if length == 1 and count > 20 and rng.random() < 0.7:
        count = count // 5 * 5
    if count == 1:
        return Value(f"{'an' if name == 'hour' else rng.choice(('a', 'one'))} {name}", length)
    said = in_words(count) if count <= 12 and rng.random() < 0.3 else str(count)
    return Value(f"{said} {name}s", count * length)


# --- words -------------------------------------------------------------------------------------------------------


@lru_cache
def pools() -> Mapping[str, list[tuple[str, list[str]]]]:
    """The pools of pools.txt: each entry with the ways to say it."""
    text = files("minifc.data.public").joinpath("pools.txt").read_text(encoding="utf-8")
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, entries = line.partition(":")
            found[name.strip()] = [_entry(entry) for entry in entries.split(";") if entry.strip()]
    return found


def _entry(text: str) -> tuple[str, list[str]]:
    meant, _, said = text.strip().partition("=")
    return meant.strip(), [one.strip() for one in said.split("|")] if said else [meant.strip()]


def _pool(rng: random.Random, names: str) -> Value:
    name = rng.choice(names.split("|"))
    if name not in pools():
        raise DataError(f"pool {name}: not in pools.txt")
    meant, said = rng.choice(pools()[name])
    return Value(rng.choice(said), meant)


def _of(rng: random.Random, options: str) -> Value:
    """`of fastest=quickest|fastest; scenic`: a value, and ways to say it. true, false and numbers are JSON's."""
    meant, said = _entry(rng.choice([option for option in options.split(";") if option.strip()]))
    return Value(rng.choice(said), json.loads(meant) if re.fullmatch(r"true|false|-?\d+(\.\d+)?", meant) else meant)


def options(kind: str) -> list[Any]:
    """The values that `of` can mean."""
    entries = [_entry(option)[0] for option in kind.removeprefix("of ").split(";") if option.strip()]
    return [json.loads(one) if re.fullmatch(r"true|false|-?\d+(\.\d+)?", one) else one for one in entries]


def _quoted(rng: random.Random, kind: str) -> Value:
    """The same in quotation marks, more often than not."""
    value = draw(kind, rng)
    mark = rng.choice(("'{}'", '"{}"', "'{}'", "{}"))
    mark = mark.replace("'", '"') if "'" in value.said else mark
    return Value(mark.format(value.said), value.meant)


def _id(rng: random.Random, pattern: str) -> Value:
    """`id AB-999`: A any capital, 9 any digit, x any of both; other characters stand for themselves."""
    drawn = {"A": "ABCDEFGHJKLMNPRSTUVWXYZ", "9": "0123456789", "x": "abcdef0123456789"}
    text = "".join(rng.choice(drawn[c]) if c in drawn else c for c in pattern)
    return Value(text, text)


def _expression(rng: random.Random, variable: str) -> Value:
    """A polynomial, said as in a textbook and meant in Python's syntax."""
    x = variable or "x"
    degrees = sorted(rng.sample((3, 2, 1, 0), rng.randint(1, 3)), reverse=True)
    if degrees == [0]:
        degrees = [2]
    said, meant = "", ""
    for degree in degrees:
        factor = rng.choice((1, 1, 2, 3, 4, 5, 6)) if degree else rng.randint(1, 12)
        sign = rng.choice((" + ", " - ")) if said else ""
        power = "" if degree < 2 else f"^{degree}"
        head = "" if factor == 1 and degree else str(factor)
        said += sign + head + (x + power if degree else "")
        meant += sign + (head + ("*" if head and degree else "")) + (x + power.replace("^", "**") if degree else "")
    return Value(said, meant)


# --- lists -------------------------------------------------------------------------------------------------------


def _list(rng: random.Random, rest: str) -> Value:
    """`list 2 4 KIND`: several different ones."""
    fewest, most, kind = rest.split(" ", 2)
    count, found = rng.randint(int(fewest), int(most)), list[Value]()
    for _ in range(40):
        value = draw(kind, rng)
        if len(found) < count and value.meant not in [other.meant for other in found]:
            found.append(value)
    said = [value.said for value in found]
    numbers = all(isinstance(value.meant, int | float) for value in found)
    if numbers and rng.random() < 0.35:
        return Value(f"[{', '.join(plain(value.meant) for value in found)}]", [value.meant for value in found])
    return Value(", ".join(said) if numbers and rng.random() < 0.4 else join(said, rng), [v.meant for v in found])


def _numbers(rng: random.Random, rest: str) -> Value:
    """`numbers 4 8 KIND`: as in measurements, in which one may come twice."""
    fewest, most, kind = rest.split(" ", 2)
    found = [draw(kind, rng).meant for _ in range(rng.randint(int(fewest), int(most)))]
    said = [plain(number) for number in found]
    forms = (f"[{', '.join(said)}]", f"[{','.join(said)}]", ", ".join(said), join(said, rng))
    return Value(rng.choice(forms), found)


def _vector(rng: random.Random, rest: str) -> Value:
    """`vector 2 KIND`: numbers that belong together, in brackets."""
    count, kind = rest.split(" ", 1)
    found = [draw(kind, rng).meant for _ in range(int(count))]
    said = ", ".join(map(plain, found))
    return Value(rng.choice((f"({said})", f"[{said}]")), found)


def _point(rng: random.Random, rest: str) -> Value:
    """Latitude and longitude; south and west are negative."""
    latitude, longitude = (round(rng.uniform(-bound, bound), rng.choice((2, 4))) for bound in (60, 170))
    ns, ew = "NS"[latitude < 0], "EW"[longitude < 0]
    written = f"{plain(latitude)}, {plain(longitude)}"
    compass = f"{plain(abs(latitude))}{rng.choice(('° ', ' ', '°'))}{ns}, {plain(abs(longitude))}° {ew}"
    return Value(rng.choice((f"({written})", written, f"({written})", compass)), [latitude, longitude])


_KINDS: dict[str, Callable[[random.Random, str], Value]] = {
    "int": _integer,
    "exact": _exact,
    "digits": _digits,
    "num": _real,
    "money": _money,
    "large": _large,
    "sci": _scientific,
    "start_speed": _start_speed,
    "stature": _stature,
    "percent": _percent,
    "percent100": lambda rng, rest: _percent(rng, rest, whole=True),
    "unit": _unit,
    "year": _year,
    "date": _date,
    "birthday": _birthday,
    "time": _time,
    "span": _span,
    "pool": _pool,
    "of": _of,
    "quoted": _quoted,
    "id": _id,
    "expr": _expression,
    "list": _list,
    "numbers": _numbers,
    "vector": _vector,
    "point": _point,
}
