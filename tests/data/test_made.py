"""Rows made of examples: what is exchanged is exchanged in both places, and no row says what an example denies."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run

from minifc import make
from minifc.calling.grammar import arguments_of
from minifc.calling.validation import find_error
from minifc.data import read_conversations
from minifc.data.made import KINDS, REFUSAL, Maker
from minifc.data.wordings import Wording, other_value
from minifc.errors import OptionError
from minifc.text.calls import Call
from minifc.text.examples import Example

LAMP = {
    "name": "set_lamp",
    "description": "Set a lamp.",
    "parameters": {
        "type": "object",
        "properties": {
            "room": {"enum": ["kitchen", "hall", "garage"]},
            "percent": {"type": "integer", "minimum": 0, "maximum": 100},
        },
        "required": ["room"],
        "additionalProperties": False,
    },
}
ALARM = {
    "name": "set_alarm",
    "description": "Set an alarm.",
    "parameters": {
        "type": "object",
        "properties": {"time": {"type": "string"}, "days": {"type": "array", "items": {"type": "string"}}},
        "required": ["time"],
        "additionalProperties": False,
    },
}
MESSAGE = {
    "name": "send_message",
    "description": "Send a message.",
    "parameters": {
        "type": "object",
        "properties": {"to": {"type": "string"}, "text": {"type": "string"}},
        "required": ["to", "text"],
        "additionalProperties": False,
    },
}
TOOLS = [LAMP, ALARM, MESSAGE]


def example(request: str, *calls: tuple[str, dict[str, Any]]) -> Example:
    return Example(request, tuple(Call(*call) for call in calls))


DAYS = ["Monday", "Friday"]
EXAMPLES = {
    "set_lamp": [
        example("Make the kitchen half as bright", ("set_lamp", {"room": "kitchen", "percent": 50})),
        example("Dim the hall to 30 percent.", ("set_lamp", {"room": "hall", "percent": 30})),
        example("Dim the garage to 40 percent."),  # what another example's pattern would call
        example("Turn on the light in the garage", ("set_lamp", {"room": "garage"})),
        example("What lamps are there?"),
    ],
    "set_alarm": [
        example("Wake me at 07:30", ("set_alarm", {"time": "07:30"})),
        example(
            "Wake me at 06:00 on Monday and Friday", ("set_alarm", {"time": "06:00", "days": ["Monday", "Friday"]})
        ),
    ],
    "send_message": [
        example("Tell Maria that I am late", ("send_message", {"to": "Maria", "text": "I am late"})),
        example("Write to James: dinner is ready", ("send_message", {"to": "James", "text": "dinner is ready"})),
    ],
}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(Maker(TOOLS, EXAMPLES).rows(60))


def calls_of(row: dict[str, Any]) -> list[tuple[str, Any]]:
    calls = [call["function"] for call in row["messages"][1].get("tool_calls", ())]
    return [(call["name"], json.loads(call["arguments"])) for call in calls]


# Wordings


def test_what_a_request_says_once_can_be_exchanged() -> None:
    wording = Wording.of("Dim the Hall to 30 percent.", [Call("f", {"room": "hall", "percent": 30, "on": True})])
    assert [(wording.text[slot.start : slot.end], slot.path) for slot in wording.slots] == [
        ("Hall", (0, "room")),
        ("30", (0, "percent")),
    ]
    assert wording.filled({}) == ("Dim the hall to 30 percent.", list(wording.calls))
    text, calls = wording.filled({(0, "room"): "garage", (0, "percent"): 5})
    assert (text, calls) == ("Dim the garage to 5 percent.", [Call("f", {"room": "garage", "percent": 5, "on": True})])


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("Three of 30, or 300", {"n": 30}, ["30"]),
        ("Book two rooms", {"n": 2}, ["two"]),
        ("2 rooms for two", {"n": 2}, ["2"]),
        ("2 and 2", {"n": 2}, []),
        ("1.5 km, not 1.55", {"km": 1.5}, ["1.5"]),
        ("Version 1.5.2", {"v": 1.5}, []),
        ("3 and 4", {"list": [3, 4]}, ["3", "4"]),
        ("Ann and Anna", {"of": {"name": "Ann"}}, ["Ann"]),
        ("half", {"n": 50, "s": ""}, []),
        ("to New York", {"from": "York", "to": "New York"}, ["York"]),  # of two that overlap, the first one
    ],
)
def test_what_is_found_in_a_request(text: str, arguments: dict[str, Any], said: list[str]) -> None:
    assert [text[slot.start : slot.end] for slot in Wording.of(text, [Call("f", arguments)]).slots] == said


def test_a_number_in_words_stays_in_words() -> None:
    wording = Wording.of("Book two rooms", [Call("f", {"n": 2})])
    assert wording.filled({(0, "n"): 5}) == ("Book five rooms", [Call("f", {"n": 5})])
    assert wording.filled({(0, "n"): 25})[0] == "Book 25 rooms"


@pytest.mark.parametrize(
    ("value", "schema", "known", "allowed"),
    [
        ("hall", {"enum": ["hall", "attic", 3]}, [], {"hall", "attic"}),
        ("x1", {"type": "string"}, ["x1", "x2", 7], {"x1", "x2"}),
        ("x1", {"type": "string", "pattern": "x"}, ["x2"], {"x1"}),
        (7, {"type": "integer", "maximum": 3}, [], {1, 2, 3}),
        (7, {"minimum": 20}, [], {7}),
        (7, {"multipleOf": 7}, [], {7}),
        (40, None, [], set(range(10, 100))),
    ],
)
def test_other_values(value: Any, schema: Any, known: list[Any], allowed: set[Any]) -> None:
    rng = random.Random(0)
    found = {other_value(value, schema, known, rng) for _ in range(300)}
    assert found <= allowed
    assert len(found) == len(allowed) or len(allowed) > 50


def test_well_known_values_times_and_dates() -> None:
    rng = random.Random(0)
    assert "Paris" in {other_value("Oslo", {}, [], rng) for _ in range(500)}
    assert all(len(other_value("07:30", {}, [], rng)) == 5 for _ in range(50))
    assert {other_value("2026-03-01", {}, [], rng)[:4] for _ in range(50)} == {"2026"}


# Rows


def test_there_are_as_many_of_each_kind_as_asked_for(rows: list[dict[str, Any]]) -> None:
    for tool in TOOLS:
        for kind in KINDS:
            count = sum(row["tool"] == tool["name"] and row["kind"] == kind for row in rows)
            if kind == "no call":
                assert count == (0 if tool is not LAMP else count)
            else:
                assert count == 60, (tool["name"], kind)
    assert sum(row["kind"] == "no call" for row in rows) > 5


def test_every_row_is_right(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        text, calls = row["messages"][0]["content"], calls_of(row)
        offered = {tool["function"]["name"]: tool["function"] for tool in row["tools"]}
        for name, arguments in calls:
            assert find_error(arguments, arguments_of(offered[name]["parameters"], name)) is None
            for value in arguments.values():
                for said in value if isinstance(value, list) else [value]:
                    assert str(said).lower() in text.lower() or (said, "half" in text) == (50, True)
        match row["kind"]:
            case "simple":
                assert [name for name, _ in calls] == [row["tool"]]
            case "joined":
                assert len(calls) in (2, 3)
                assert calls[0][0] == row["tool"]
            case "masked":
                assert not set(offered) & {tool["name"] for tool in TOOLS}
                assert all(name.startswith("arg_") for _, arguments in calls for name in arguments)
            case "taken away":
                assert row["tool"] not in offered
                assert row["messages"][1]["content"] == REFUSAL
            case "no call":
                assert calls == []
                assert row["tool"] in offered
                assert text == "What lamps are there?" or "garage to 40 percent" in text


def test_no_row_says_what_an_example_denies() -> None:
    rows = list(Maker(TOOLS, EXAMPLES).rows(600))
    dimmed = [row for row in rows if "garage to" in row["messages"][0]["content"] and row["kind"] == "simple"]
    numbers = {arguments["percent"] for row in dimmed for _, arguments in calls_of(row)}
    assert len(numbers) > 30
    assert 40 not in numbers


def test_what_is_kept_out_is_never_said() -> None:
    unsaid = "turn on the light in the hall!"
    rows = list(Maker(TOOLS, EXAMPLES, unsaid=[unsaid]).rows(60))
    assert rows
    assert all(row["messages"][0]["content"].lower().strip(".!?") != unsaid.strip("!") for row in rows)
    assert any("light in the garage" in row["messages"][0]["content"] for row in rows)


# The command

FILE = '''
import minifc
from typing import Literal

@minifc.tool
def set_lamp(room: Literal["kitchen", "hall"], percent: int = 100) -> str:
    """Set a lamp.

    >>> "Dim the hall to 30 percent" -> set_lamp(room="hall", percent=30)
    >>> "Turn on the light in the kitchen" -> set_lamp(room="kitchen")
    >>> "What lamps are there?" -> no call
    """
    return "ok"

@minifc.tool
def wake(time: str) -> str:
    """Set an alarm.

    >>> "Wake me at 07:30" -> wake(time="07:30")
    >>> "Get me up at 06:15, please" -> wake(time="06:15")
    """
    return "ok"
'''


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rows can be trained on; two hash seeds make the same file."""
    (tmp_path / "home_made.py").write_text(FILE)
    to = tmp_path / "rows.jsonl"
    make.main(["--tools", str(tmp_path / "home_made.py"), "--to", str(to), "--rows", "20", "--keep-out", "1"])
    out = capsys.readouterr().out
    assert "set_lamp" in out
    assert "taken away" in out
    conversations = read_conversations([to])
    assert len(conversations) > 100
    kept = [json.loads(line) for line in (tmp_path / "rows.kept_out.jsonl").read_text().splitlines()]
    assert [row["messages"][0]["content"] for row in kept] == ["What lamps are there?", "Get me up at 06:15, please"]
    assert [calls_of(row) for row in kept] == [[], [("wake", {"time": "06:15"})]]
    for number in ("1", "2"):
        command = [sys.executable, "-m", "minifc.make", "--tools", "home_made.py", "--to", f"{number}.jsonl"]
        environment = {"PYTHONHASHSEED": number, "PYTHONPATH": str(Path(make.__file__).parents[1]), "PATH": "/usr/bin"}
        subprocess.run(
            [*command, "--rows", "20", "--keep-out", "1"],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
        )
        assert (tmp_path / f"{number}.jsonl").read_bytes() == to.read_bytes()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--rows", "0"], "--rows 0: must be at least 1"),
        (["--keep-out", "2"], "wake has 2 examples; at least 3 are needed"),
        (["--to", "home_bad.py"], "is there already; name another file"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, monkeypatch: Any, options: list[str], why: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home_bad.py").write_text(FILE)
    with pytest.raises(OptionError, match=why):
        make.main(["--tools", "home_bad.py", "--to", "rows.jsonl", *options])
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("place", [".", "nowhere/rows.jsonl"])
def test_a_place_where_nothing_can_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "home_place.py").write_text(FILE)
    to = str(tmp_path / place)
    assert run(make.main, "--tools", str(tmp_path / "home_place.py"), "--to", to) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no file can be written there" in line


def test_a_tool_without_examples_is_named(tmp_path: Path) -> None:
    (tmp_path / "bare_made.py").write_text("import minifc\n\n\n@minifc.tool\ndef add(a: int) -> int:\n    return a\n")
    with pytest.raises(OptionError, match="add has no example, >>>"):
        make.main(["--tools", str(tmp_path / "bare_made.py"), "--to", str(tmp_path / "rows.jsonl")])
