"""Python functions as tools: the schema, the check of arguments, and a run that cannot hurt the conversation."""

import datetime
import functools
import json
import os
import subprocess
import sys
import time
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from minifc.calling import examples, tools
from minifc.calling.tools import MOST_CHARACTERS, Tool, run, tool
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
        "description": "Do everything at once.",
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
    assert run(examples.TOOLS, Call("fly", {}))["error"].startswith("there is no tool fly; there are calculate_value, ")


def test_a_tool_is_still_a_function() -> None:
    assert examples.convert_amount(1, "km", "m") == 1000
    assert isinstance(examples.convert_amount, Tool)


@pytest.mark.parametrize("kind", ["no hint", "set", "tuple", "varargs", "unknown name"])
def test_a_function_that_is_no_tool_is_refused(kind: str) -> None:
    def no_hint(a):  # type: ignore[no-untyped-def]
        pass

    def sets(a: set[int]) -> None: ...
    def tuples(a: tuple[int, int]) -> None: ...
    def varargs(*a: int) -> None: ...
    def unknown_name(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    function = {"no hint": no_hint, "set": sets, "tuple": tuples, "varargs": varargs, "unknown name": unknown_name}[
        kind
    ]
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


def test_what_has_no_name_is_no_tool() -> None:
    with pytest.raises(SchemaError, match="has no name"):
        tool(functools.partial(examples.convert_amount.function, unit="km"))


# --- running -----------------------------------------------------------------------------------------------------


@tool
def misbehave(how: str) -> Any:
    """Do something that a tool should not."""
    if how == "raise":
        raise ZeroDivisionError("by zero")
    if how == "exit":
        os._exit(3)
    if how == "system exit":
        sys.exit(4)
    if how == "sleep":
        time.sleep(60)
    if how == "child":
        subprocess.run(["sleep", "60"], check=True)
    if how == "loop":
        while True:
            pass
    if how == "recurse":
        return misbehave.function(how)
    if how == "huge":
        return "x" * 10**6
    if how == "too huge":
        return "x" * 2**25
    if how == "print":
        print("noise")
        return "quiet"
    if how == "surrogate":
        return "\ud800"
    return {"nan": float("nan"), "date": datetime.date(2026, 1, 31)}[how]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("raise", "ZeroDivisionError: by zero"),
        ("exit", "ended without an answer, exit status 3"),
        ("system exit", "ended without an answer"),
        ("recurse", "RecursionError"),
        ("too huge", "more than 16 MB"),
        ("other", "KeyError"),
    ],
)
def test_what_goes_wrong_is_an_answer(how: str, why: str) -> None:
    assert why in run([misbehave], Call("misbehave", {"how": how}))["error"]


@pytest.mark.parametrize("how", ["sleep", "loop", "child"])
def test_a_tool_that_takes_too_long_is_ended(how: str) -> None:
    started = time.monotonic()
    answer = run([misbehave], Call("misbehave", {"how": how}), seconds=0.3)
    assert answer == {"error": "took longer than 0.3 seconds and was ended"}
    assert time.monotonic() - started < 20


def test_tools_run_where_a_process_cannot_be_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("hello")
    monkeypatch.setattr(tools, "START", "spawn")
    assert run(examples.TOOLS, Call("shift_date", {"date": "2026-02-27", "days": 3})) == "2026-03-02, a Monday"
    assert run([examples.file_reader(tmp_path)], Call("read_file", {"path": "a.txt"})) == "hello"

    def local(x: int) -> int:
        return x

    assert "define the tool in a module" in run([tool(local)], Call("local", {"x": 1}))["error"]


def test_a_huge_answer_is_cut_and_says_so() -> None:
    answer = run([misbehave], Call("misbehave", {"how": "huge"}))
    assert len(answer) < MOST_CHARACTERS + 100
    assert answer.endswith("(cut; 1,000,002 characters in all)")


def test_answers_that_are_no_json_become_text(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([misbehave], Call("misbehave", {"how": "date"})) == "2026-01-31"
    assert run([misbehave], Call("misbehave", {"how": "nan"})) == "nan"
    assert run([misbehave], Call("misbehave", {"how": "surrogate"})) == "?"
    assert run([misbehave], Call("misbehave", {"how": "print"})) == "quiet"
    assert "noise" not in capfd.readouterr().out


# --- the examples ------------------------------------------------------------------------------------------------


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
    assert examples.calculate_value(expression) == pytest.approx(value)


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
    assert "error" in run([examples.calculate_value], Call("calculate_value", {"expression": expression}))
    assert time.monotonic() - started < 20


def test_units_and_dates() -> None:
    assert examples.convert_amount(10, "mi", "km") == pytest.approx(16.09344)
    assert examples.convert_amount(212, "F", "C") == pytest.approx(100)
    with pytest.raises(ValueError, match="do not measure the same"):
        examples.convert_amount(1, "m", "kg")
    assert examples.shift_date("2026-02-27", 3) == "2026-03-02, a Monday"
    assert examples.compare_date("2024-02-28", "2024-03-01") == 2


def test_files_below_one_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.txt").write_text("hello")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret.txt")
    read = examples.file_reader(folder)
    assert run([read], Call("read_file", {"path": "inner/a.txt"})) == "hello"
    for path in ("../secret.txt", "link", str(tmp_path / "secret.txt"), "inner/../../secret.txt"):
        assert "outside the folder" in run([read], Call("read_file", {"path": path}))["error"]
    for path in ("nothing.txt", "inner", "a\0b"):
        assert "error" in run([read], Call("read_file", {"path": path}))


def test_schemas_are_json() -> None:
    for one in (*examples.TOOLS, everything):
        assert json.loads(json.dumps(one.schema)) == one.schema
