"""Type hints of tools: the schema that each stands for, and the value that the function is given."""

import collections
import dataclasses
import datetime
import enum
import typing
import uuid
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence, Set
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, Required, TypedDict

import pytest

from minifc.calling.hints import from_json, hint_schema
from minifc.calling.schema import read_schema
from minifc.calling.tools import Tool, run, tool
from minifc.calling.validation import find_error
from minifc.errors import CallError, SchemaError
from minifc.text.calls import Call


class Unit(enum.Enum):
    CELSIUS = "C"
    KELVIN = "K"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Colour(enum.Enum):
    RED = (255, 0, 0)
    BLUE = (0, 0, 255)


class Point(NamedTuple):
    x: float
    y: float = 0


class Route(TypedDict):
    start: str
    day: NotRequired[datetime.date]
    unit: "NotRequired[Unit]"


class Loose(TypedDict, total=False):
    needed: Required[int]
    not_needed: int


class Longer(Route):
    end: Annotated[NotRequired[str], "where it ends"]


@dataclass
class Job:
    unit: Unit
    days: list[datetime.date] = field(default_factory=list)
    seed: InitVar[int] = 0
    made: int = field(init=False)

    def __post_init__(self, seed: int) -> None:
        self.made = seed + 1


@dataclass
class Generic(typing.Generic[typing.TypeVar("T")]):
    inner: Any


class HasDescription:
    """As pydantic's Field is."""

    description = "from a field"
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Without an address: processes that share the tests must name them alike."""
        return "HasDescription()"


UserId = NewType("UserId", int)
STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
DAY = {"type": "string", "description": "a date, as 2026-01-31"}
HOUR = {"type": "string", "description": "a date and time, as 2026-01-31T18:30:00"}
ROW = {"type": "array", "items": False, "minItems": 2, "maxItems": 2}
date, time, datetime_ = datetime.date, datetime.time, datetime.datetime


@pytest.mark.parametrize(
    ("hint", "schema", "given", "made"),
    [
        (Unit, {"enum": ["C", "K"]}, "K", Unit.KELVIN),
        (Level, {"enum": [1, 2]}, 2.0, Level.HIGH),
        (Mode, {"enum": ["fast"]}, "fast", Mode.FAST),
        (Colour, {"enum": ["RED", "BLUE"]}, "BLUE", Colour.BLUE),
        (Literal[1, "1", True, None], {"enum": [1, "1", True, None]}, True, True),
        (Literal[1, 2], {"enum": [1, 2]}, 2.0, 2),
        (Literal[Unit.KELVIN, "x"], {"enum": ["K", "x"]}, "K", Unit.KELVIN),
        (list[Unit], {"type": "array", "items": {"enum": ["C", "K"]}}, ["K"], [Unit.KELVIN]),
        (
            dict[str, Unit],
            {"type": "object", "additionalProperties": {"enum": ["C", "K"]}},
            {"a": "K"},
            {"a": Unit.KELVIN},
        ),
        (Unit | None, {"anyOf": [{"enum": ["C", "K"]}, {"type": "null"}]}, "K", Unit.KELVIN),
        (Optional[Unit], {"anyOf": [{"enum": ["C", "K"]}, {"type": "null"}]}, None, None),  # noqa: UP045
        (int | str, {"anyOf": [INTEGER, STRING]}, "1", "1"),
        (date | datetime_, {"anyOf": [DAY, HOUR]}, "2026-01-31T18:30:00", datetime_(2026, 1, 31, 18, 30)),
        (
            tuple[int, date] | tuple[date, int],
            {"anyOf": [ROW | {"prefixItems": [INTEGER, DAY]}, ROW | {"prefixItems": [DAY, INTEGER]}]},
            ["2026-01-31", 1],
            (date(2026, 1, 31), 1),
        ),
        (date | str, {"anyOf": [DAY, STRING]}, "soon", "soon"),
        (date | str, {"anyOf": [DAY, STRING]}, "2026-01-31", date(2026, 1, 31)),
        (tuple[int, ...], {"type": "array", "items": INTEGER}, [1, 2.0], (1, 2)),
        (
            tuple[float, float],
            {"type": "array", "items": NUMBER, "minItems": 2, "maxItems": 2},
            [1, 2],
            (1.0, 2.0),
        ),
        (
            tuple[str, Unit, str],
            ROW | {"prefixItems": [STRING, {"enum": ["C", "K"]}, STRING], "minItems": 3, "maxItems": 3},
            ["a", "K", "b"],
            ("a", Unit.KELVIN, "b"),
        ),
        (typing.Tuple[int], {"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 1}, [1], (1,)),  # noqa: UP006
        (tuple, {"type": "array"}, [1, "a"], (1, "a")),
        (set[int], {"type": "array", "items": INTEGER}, [1, 1], {1}),
        (frozenset[Unit], {"type": "array", "items": {"enum": ["C", "K"]}}, ["K"], frozenset({Unit.KELVIN})),
        (Set[int], {"type": "array", "items": INTEGER}, [1], {1}),
        (Sequence[float], {"type": "array", "items": NUMBER}, [1], [1.0]),
        (Iterable[date], {"type": "array", "items": DAY}, ["2026-01-31"], [date(2026, 1, 31)]),
        (Collection, {"type": "array"}, [1], [1]),
        (collections.deque[int], {"type": "array", "items": INTEGER}, [1], collections.deque([1])),
        (
            Mapping[str, date],
            {"type": "object", "additionalProperties": DAY},
            {"a": "2026-01-31"},
            {"a": date(2026, 1, 31)},
        ),
        (MutableMapping, {"type": "object"}, {"a": 1}, {"a": 1}),
        (dict[Any, Any], {"type": "object", "additionalProperties": {}}, {"a": 1}, {"a": 1}),
        (date, DAY, "2026-01-31", date(2026, 1, 31)),
        (
            datetime_,
            {"type": "string", "description": "a date and time, as 2026-01-31T18:30:00"},
            "2026-01-31T18:30:00Z",
            datetime_(2026, 1, 31, 18, 30, tzinfo=datetime.UTC),
        ),
        (time, {"type": "string", "description": "a time, as 18:30:00"}, "18:30", time(18, 30)),
        (Decimal, NUMBER, 0.1, Decimal("0.1")),
        (
            uuid.UUID,
            {"type": "string", "description": "a UUID, as 12345678-1234-5678-1234-567812345678"},
            "12345678-1234-5678-1234-567812345678",
            uuid.UUID(int=0x12345678123456781234567812345678),
        ),
        (Path, {"type": "string", "description": "a path"}, "a/b", Path("a/b")),
        (UserId, INTEGER, 7, 7),
        (
            NewType("Point", tuple[int, int]),
            {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2},
            [1, 2],
            (1, 2),
        ),
        (
            Annotated[date, "the day."],
            {"type": "string", "description": "the day (a date, as 2026-01-31)"},
            "2026-01-31",
            date(2026, 1, 31),
        ),
        (
            Annotated[list[int], HasDescription()],
            {"type": "array", "items": INTEGER, "description": "from a field"},
            [1],
            [1],
        ),
        (list[Annotated[int, "one"]], {"type": "array", "items": {"type": "integer", "description": "one"}}, [1], [1]),
        (object, {}, [1], [1]),
        (
            Point,
            {
                "type": "object",
                "properties": {"x": NUMBER, "y": NUMBER},
                "required": ["x"],
                "additionalProperties": False,
            },
            {"x": 1},
            Point(1.0, 0),
        ),
        (
            Loose,
            {
                "type": "object",
                "properties": {"needed": INTEGER, "not_needed": INTEGER},
                "required": ["needed"],
                "additionalProperties": False,
            },
            {"needed": 1},
            {"needed": 1},
        ),
        (
            Longer,
            {
                "type": "object",
                "properties": {
                    "start": STRING,
                    "day": DAY,
                    "unit": {"enum": ["C", "K"]},
                    "end": {"type": "string", "description": "where it ends"},
                },
                "required": ["start"],
                "additionalProperties": False,
            },
            {"start": "Rome", "day": "2026-01-31", "unit": "K"},
            {"start": "Rome", "day": date(2026, 1, 31), "unit": Unit.KELVIN},
        ),
    ],
    ids=str,
)
def test_a_hint_is_a_schema_and_what_the_schema_takes_is_delivered_as_the_hint_says(
    hint: Any, schema: dict[str, Any], given: Any, made: Any
) -> None:
    assert hint_schema(hint, "x") == schema
    checked = read_schema(schema, "x")
    assert find_error(given, checked) is None
    found = from_json(given, hint, "x")
    assert found == made
    assert type(found) is type(made)


def test_a_dataclass_is_made_with_what_is_in_it() -> None:
    assert list(hint_schema(Job, "x")["properties"]) == ["unit", "days", "seed"]
    job = from_json({"unit": "K", "days": ["2026-01-31"], "seed": 4}, Job, "x")
    assert dataclasses.asdict(job) == {"unit": Unit.KELVIN, "days": [date(2026, 1, 31)], "made": 5}


@pytest.mark.parametrize(
    ("hint", "given", "why"),
    [
        (date, "soon", 'x: "soon" is not a date, as 2026-01-31'),
        (list[time], ["18:30", "noon"], 'x[1]: "noon" is not a time'),
        (dict[str, uuid.UUID], {"a": "b"}, 'x.a: "b" is not a UUID'),
        (tuple[int, date], [1, "soon"], 'x[1]: "soon" is not a date'),
        (date | None, "soon", 'x: "soon" is not a date'),
        (int | date | None, "soon", 'x: "soon" is not a date'),
        (list[date] | dict[str, date], {"a": "soon"}, 'x.a: "soon" is not a date'),
        (Route, {"start": "Rome", "day": "soon"}, 'x.day: "soon" is not a date'),
        (Job, {"unit": "K", "days": ["soon"]}, 'x.days[0]: "soon" is not a date'),
    ],
    ids=str,
)
def test_what_no_schema_checks_is_checked_before_the_function_is_called(hint: Any, given: Any, why: str) -> None:
    assert find_error(given, read_schema(hint_schema(hint, "x"), "x")) is None
    with pytest.raises(CallError) as error:
        from_json(given, hint, "x")
    assert str(error.value).startswith(why)


@dataclass
class Endless:
    inner: "dict[str, Endless]"


class NoHints(collections.namedtuple("Pair", "a b")):
    pass


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        (bytes, "x: <class 'bytes'> has no JSON schema here"),
        (list[bytes], "x: <class 'bytes'> has no JSON schema here"),
        (dict[int, str], r"x: dict\[int, str\] has no JSON schema here"),
        (typing.TypeVar("T"), "x: ~T has no JSON schema here"),
        (Generic[int], "has no JSON schema here"),
        (typing.Callable[[], int], "has no JSON schema here"),
        (Endless, "x.inner: Endless contains itself"),
        (NoHints, "x.a: has no type hint"),
    ],
    ids=str,
)
def test_a_hint_without_a_schema_is_refused_in_a_line(hint: Any, why: str) -> None:
    with pytest.raises(SchemaError, match=why) as error:
        hint_schema(hint, "x")
    assert "\n" not in str(error.value)


@tool
def travel(day: date, between: tuple[float, str], unit: Unit = Unit.CELSIUS, seats: set[int] | None = None) -> Any:
    """Travel.

    day: the day of departure
    """
    return [day, repr(between), unit, seats, Point(1, 2), Decimal("1.5"), Path("a")]


def test_a_tool_gets_and_returns_what_its_hints_say() -> None:
    assert isinstance(travel, Tool)
    assert travel.parameters["properties"]["day"]["description"] == "the day of departure (a date, as 2026-01-31)"
    given = {"day": "2026-01-31", "between": [1, "a"], "unit": "K", "seats": [2, 1]}
    assert run([travel], Call("travel", given)) == ["2026-01-31", "(1.0, 'a')", "K", [1, 2], [1, 2], 1.5, "a"]
    assert run([travel], Call("travel", given | {"day": "soon"})) == {
        "error": 'travel: day: "soon" is not a date, as 2026-01-31'
    }
    with pytest.raises(CallError, match=r'travel: between\[0\]: "b" is not a number'):
        travel.arguments(given | {"between": ["b", "a"]})
