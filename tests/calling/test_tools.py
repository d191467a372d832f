"""Python functions as tools: the schema, the check of arguments, and a run that cannot hurt the conversation."""

import datetime
import enum
import functools
import json
import time
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import pytest

from minifc.calling import sample_tools
from minifc.calling.tools import Tool, run, tool
from minifc.errors import CallError, SchemaError
from minifc.text.calls import Call


@dataclass
class Place:
    name: str
    heights: list[float] = field(default_factory=list)


@tool
def everything(
    text: str,
    count: int,
    share: float,
    sure: bool,
    names: list[str],
    sizes: dict[str, int],
    mode: Literal["fast", "exact"],
    place: Place,
    limit: int | None = None,
    old: Optional[str] = "x",  # noqa: UP045
    anything: Any = None,
    plain: list = [],  # noqa: B006
) -> str:
    """Do everything
    at once.

    More about it.

    Args:
        text: what to say
        count (int): how often
    """
    return f"{text} {count} {share!r} {place!r}"


def test_the_schema_follows_from_hints_and_docstring() -> None:
    assert everything.schema == {
        "name": "everything",
        "description": "Do everything at once. More about it.",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string", "description": "what to say"},
                "count": {"type": "integer", "description": "how often"},
                "share": {"type": "number"},
                "sure": {"type": "boolean"},
                "names": {"type": "array", "items": {"type": "string"}},
                "sizes": {"type": "object", "additionalProperties": {"type": "integer"}},
                "mode": {"enum": ["fast", "exact"]},
                "place": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "heights": {"type": "array", "items": {"type": "number"}},
                    },
                    "required": ["name"],
                    "additionalProperties": False,
                },
                "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "old": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "anything": {},
                "plain": {"type": "array"},
            },
            "required": ["text", "count", "share", "sure", "names", "sizes", "mode", "place"],
            "additionalProperties": False,
        },
    }


GIVEN = {
    "text": "a",
    "count": 2,
    "share": 3,
    "sure": True,
    "names": [],
    "sizes": {},
    "mode": "fast",
    "place": {"name": "Rome", "heights": [1]},
}


def test_arguments_become_what_the_hints_say() -> None:
    made = everything.arguments(GIVEN)
    assert isinstance(made["share"], float)
    assert made["place"] == Place("Rome", [1.0])
    assert isinstance(made["place"].heights[0], float)
    assert run([everything], Call("everything", GIVEN)) == "a 2 3.0 Place(name='Rome', heights=[1.0])"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"count": "2"}, 'count: "2" is not an integer'),
        ({"count": 2.5}, "count: 2.5 is not an integer"),
        ({"count": True}, "count: true is not an integer"),
        ({"mode": "slow"}, 'mode: "slow" is not "fast" or "exact"'),
        ({"names": ["a", 1]}, "names[1]: 1 is not a string"),
        ({"sizes": {"a": "b"}}, 'sizes.a: "b" is not an integer'),
        ({"place": {}}, "place: name is missing"),
        ({"place": {"name": "x", "more": 1}}, "place: more is unknown"),
        ({"limit": "x"}, 'limit: "x" fits no option'),
        ({"extra": 1}, "extra is unknown"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named_before_the_call(change: dict[str, Any], why: str) -> None:
    with pytest.raises(CallError) as error:
        everything.arguments(GIVEN | change)
    assert why in str(error.value)
    assert why in run([everything], Call("everything", GIVEN | change))["error"]


def test_a_missing_argument_is_named() -> None:
    given = {name: value for name, value in GIVEN.items() if name != "mode"}
    assert run([everything], Call("everything", given)) == {"error": "everything: mode is missing"}


def test_an_unknown_tool_is_answered_with_the_known_ones() -> None:
    assert run(sample_tools.TOOLS, Call("fly", {}))["error"].startswith(
        "there is no tool fly; there are calculate_value, "
    )


def test_a_tool_is_still_a_function() -> None:
    assert sample_tools.convert_amount(1, "km", "m") == 1000
    assert isinstance(sample_tools.convert_amount, Tool)


@pytest.mark.parametrize("kind", ["no hint", "bytes", "varargs", "unknown name"])
def test_a_function_that_is_no_tool_is_refused(kind: str) -> None:
    def no_hint(a):  # type: ignore[no-untyped-def]
        pass

    def binary(a: bytes) -> None: ...
    def varargs(*a: int) -> None: ...
    def unknown_name(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    functions = {"no hint": no_hint, "bytes": binary, "varargs": varargs, "unknown name": unknown_name}
    function = functions[kind]
    with pytest.raises(SchemaError, match=f"tool {function.__name__}"):
        tool(function)


@dataclass
class Endless:
    inner: list["Endless"]


def test_hints_that_say_no_schema_are_refused_in_a_line() -> None:
    async def waits(a: int) -> None: ...
    def endless(a: Endless) -> None: ...

    for function, why in ((waits, "is async"), (endless, "Endless contains itself")):
        with pytest.raises(SchemaError, match=why):
            tool(function)


def test_a_list_of_anything() -> None:
    def count(some: typing.List, more: typing.Dict) -> int:  # noqa: UP006
        return len(some) + len(more)

    assert tool(count).schema["parameters"]["properties"] == {"some": {"type": "array"}, "more": {"type": "object"}}
    assert run([tool(count)], Call("count", {"some": [1], "more": {"a": 1}})) == 2


@dataclass
class Span:
    low: int
    high: int
    size: int = field(init=False)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")
        self.size = self.high - self.low


@tool
def measure(span: Span) -> int:
    """Say how long a span is."""
    return span.size


def test_a_dataclass_s_own_checks_are_an_answer_too() -> None:
    assert list(measure.schema["parameters"]["properties"]["span"]["properties"]) == ["low", "high"]
    assert run([measure], Call("measure", {"span": {"low": 2, "high": 5}})) == 3
    wrong = Call("measure", {"span": {"low": 5, "high": 2}})
    assert run([measure], wrong) == {"error": "ValueError: low is above high"}


class Unit(enum.Enum):
    CELSIUS = "C"
    KELVIN = "K"


class Route(TypedDict):
    start: str
    stops: NotRequired[list[float]]


@tool
def plan(
    unit: Unit,
    route: Route,
    day: datetime.date,
    hour: datetime.datetime,
    names: Annotated[Sequence[str], "who comes"],
    sizes: Mapping[str, float],
    path: tuple[int, ...],
) -> list[str]:
    """Plan a journey."""
    return [repr(unit), repr(route), repr(day), repr(hour), repr(names), repr(sizes), repr(path)]


def test_hints_of_the_standard_library() -> None:
    assert plan.schema["parameters"]["properties"] == {
        "unit": {"enum": ["C", "K"]},
        "route": {
            "type": "object",
            "properties": {"start": {"type": "string"}, "stops": {"type": "array", "items": {"type": "number"}}},
            "required": ["start"],
            "additionalProperties": False,
        },
        "day": {"type": "string", "description": "a date, as 2026-01-31"},
        "hour": {"type": "string", "description": "a date and time, as 2026-01-31T18:30:00"},
        "names": {"type": "array", "items": {"type": "string"}, "description": "who comes"},
        "sizes": {"type": "object", "additionalProperties": {"type": "number"}},
        "path": {"type": "array", "items": {"type": "integer"}},
    }
    given = {
        "unit": "K",
        "route": {"start": "Rome", "stops": [1]},
        "day": "2026-01-31",
        "hour": "2026-01-31T18:30:00",
        "names": ["Nina"],
        "sizes": {"a": 1},
        "path": [1, 2.0],
    }
    assert run([plan], Call("plan", given)) == [
        "<Unit.KELVIN: 'K'>",
        "{'start': 'Rome', 'stops': [1.0]}",
        "datetime.date(2026, 1, 31)",
        "datetime.datetime(2026, 1, 31, 18, 30)",
        "['Nina']",
        "{'a': 1.0}",
        "(1, 2)",
    ]
    wrong = Call("plan", given | {"day": "soon"})
    assert run([plan], wrong) == {"error": 'plan: day: "soon" is not a date, as 2026-01-31'}


def test_a_description_of_a_hint_gives_way_to_the_docstring_s() -> None:
    def see(city: Annotated[str, "from the hint"], unit: Annotated[str, "from the hint"]) -> None:
        """See.

        city: from the docstring
        """

    properties = tool(see).schema["parameters"]["properties"]
    assert [properties[name]["description"] for name in ("city", "unit")] == ["from the docstring", "from the hint"]


def test_what_has_no_name_is_no_tool() -> None:
    with pytest.raises(SchemaError, match="has no name"):
        tool(functools.partial(sample_tools.convert_amount.function, unit="km"))


# --- the samples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", 14),
        ("-(1 - 3) ** 2", -4),
        ("sqrt(2) ** 2 / 2", 1.0),
        ("7 // 2 % 2", 1),
        ("round(pi)", 3),
        ("2 ** -1", 0.5),
    ],
)
def test_arithmetic(expression: str, value: float) -> None:
    assert sample_tools.calculate_value(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        *(
            "__import__('os')",
            "(1).real",
            "[1][0]",
            "'a' * 9",
            "1 if 1 else 2",
            "lambda: 1",
            "x",
            "",
            "f(1)",
            "True + 1",
        ),
        *("9 ** 9 ** 9", "2 ** 5000", "10 ** 1000 * 10 ** 1000", "1/0", "1e308 ** 2", "sqrt(1, 2)"),
        "9" * 600,
    ],
)
def test_what_is_not_arithmetic_is_an_error(expression: str) -> None:
    started = time.monotonic()
    assert "error" in run([sample_tools.calculate_value], Call("calculate_value", {"expression": expression}))
    assert time.monotonic() - started < 20


def test_units_and_dates() -> None:
    assert sample_tools.convert_amount(10, "mi", "km") == pytest.approx(16.09344)
    assert sample_tools.convert_amount(212, "F", "C") == pytest.approx(100)
    with pytest.raises(ValueError, match="do not measure the same"):
        sample_tools.convert_amount(1, "m", "kg")
    assert sample_tools.shift_date("2026-02-27", 3) == "2026-03-02, a Monday"
    assert sample_tools.compare_date("2024-02-28", "2024-03-01") == 2


def test_files_below_one_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.txt").write_text("hello")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    read = sample_tools.file_reader(folder)
    assert run([read], Call("read_file", {"path": "inner/a.txt"})) == "hello"
    for path in ("../secret.txt", "link", str(tmp_path / "secret.txt"), "inner/../../secret.txt"):
        assert "outside the folder" in run([read], Call("read_file", {"path": path}))["error"]
    for path in ("nothing.txt", "inner", "a\0b"):
        assert "error" in run([read], Call("read_file", {"path": path}))


def test_schemas_are_json() -> None:
    for one in (*sample_tools.TOOLS, everything):
        assert json.loads(json.dumps(one.schema)) == one.schema
