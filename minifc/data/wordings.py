"""A request and its calls as a form to fill in: where the request says a value of a call, another may stand.

    Make the kitchen half as bright   set_lamp(room="kitchen", percent=50)
    Make the {room} half as bright    set_lamp(room={room}, percent=50)

Only what a request says word for word, and once, can be exchanged. 50 is said as "half" above: it stays.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minifc.data.public.values import WORDS, pools
from minifc.text.calls import Call

Path = tuple[Any, ...]  # the number of a call, an argument's name, and from there on keys and places in lists


@dataclass(frozen=True)
class Slot:
    """A place in a request, and what of the calls stands there."""

    start: int
    end: int
    path: Path
    value: Any
    in_words: bool = False  # a number written as a word


@dataclass(frozen=True)
class Wording:
    """A request that can be filled with other values."""

    text: str
    calls: tuple[Call, ...]
    slots: tuple[Slot, ...]  # in the order of the text

    @classmethod
    def of(cls, text: str, calls: Sequence[Call]) -> "Wording":
        found: list[Slot] = []
        for number, call in enumerate(calls):
            for path, value in _leaves(call.arguments, (number,)):
                if (slot := _find(text, path, value)) and not any(_overlap(slot, other) for other in found):
                    found.append(slot)
        return cls(text, tuple(calls), tuple(sorted(found, key=lambda slot: slot.start)))

    def filled(self, values: Mapping[Path, Any]) -> tuple[str, list[Call]]:
        """The request and its calls with these values in place of their own."""
        said, after = [], 0
        for slot in self.slots:
            said += [self.text[after : slot.start], _say(values.get(slot.path, slot.value), slot)]
            after = slot.end
        text = "".join(said) + self.text[after:]
        calls = [
            Call(call.name, _replaced(call.arguments, (number,), values)) for number, call in enumerate(self.calls)
        ]
        return text[:1].upper() + text[1:] if self.text[:1].isupper() else text, calls


def other_value(value: Any, schema: Any, known: Sequence[Any], rng: random.Random) -> Any:
    """Another value for a slot, or the same one.

    schema: of the argument. known: what examples have for arguments of this name.
    """
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(options := schema.get("enum"), list):
        return rng.choice([option for option in options if isinstance(option, str)] or [value])
    if isinstance(value, str):
        if re.fullmatch(r"[0-2]\d:[0-5]\d", value):
            return f"{rng.randrange(24):02}:{rng.randrange(0, 60, 5):02}"
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return f"{value[:4]}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        if "format" in schema or "pattern" in schema:
            return value
        return rng.choice(
            [*dict.fromkeys([*(text for text in known if isinstance(text, str)), *_pool(value)])] or [value]
        )
    digits = len(str(abs(int(value))))
    least, most = (10 ** (digits - 1) if digits > 1 else 1), 10**digits - 1
    least = max(least, _bound(schema.get("minimum"), least))
    most = min(most, _bound(schema.get("maximum"), most))
    if least > most or schema.get("multipleOf"):
        return value
    if isinstance(value, int):
        return rng.randint(int(least), int(most))
    return round(rng.uniform(least, most), max(1, len(str(value).partition(".")[2])))


def _bound(stated: Any, default: float) -> float:
    return stated if isinstance(stated, (int, float)) else default


@lru_cache
def _pool(value: str) -> list[str]:
    """What is of the same kind as a value, if it is a well-known one: the smallest such list."""
    found = [
        [meant for meant, _ in entries] for entries in pools().values() if value in (meant for meant, _ in entries)
    ]
    return min(found, key=len, default=[])


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The strings and numbers in a value, and where they are."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield path, value


def _find(text: str, path: Path, value: Any) -> Slot | None:
    """The only place where a text says a value."""
    spellings = [value] if isinstance(value, str) else [f"{value:g}", str(value)]
    word = WORDS[value] if isinstance(value, int) and 1 <= value < len(WORDS) else None
    for spelling in [*dict.fromkeys(spellings), *([word] if word else [])]:
        if not spelling.strip():
            continue
        places = list(re.finditer(rf"(?<![\w.]){re.escape(spelling)}(?!\w|\.\d)", text, re.IGNORECASE))
        if len(places) == 1:
            return Slot(*places[0].span(), path, value, spelling == word)
        if places:
            return None
    return None


def _overlap(one: Slot, other: Slot) -> bool:
    return one.start < other.end and other.start < one.end


def _say(value: Any, slot: Slot) -> str:
    if slot.in_words and isinstance(value, int) and value < len(WORDS):
        return WORDS[value]
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _replaced(value: Any, path: Path, values: Mapping[Path, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(item, (*path, key), values) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, (*path, place), values) for place, item in enumerate(value)]
    return values.get(path, value)
