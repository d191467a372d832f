"""The chat command as a person and as a program use it."""

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run

from minifc import chat
from minifc.calling import agent as agent_module
from minifc.calling.agent import Event
from minifc.calling.tools import run as run_tool
from minifc.cli import visible
from minifc.text.calls import Call

CALL = (
    '<tool_call>\n{"name": "compare_date", "arguments": {"first": "2026-01-01", "second": "2026-01-03"}}\n</tool_call>'
)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """says(*turns): what the model writes, turn by turn; an exception is raised. `says.prompts` is what it read."""

    def script(*turns: str | BaseException) -> None:
        left = iter(turns)

        def stream(model: Any, prompt: list[int], *_: Any) -> Iterator[list[int | None]]:
            turn = next(left)
            script.prompts.append(prompt)  # type: ignore[attr-defined]
            if isinstance(turn, BaseException):
                raise turn
            for id_ in script.tokenizer.encode(turn, control_tokens=True):  # type: ignore[attr-defined]
                yield [id_]
            yield [None]

        monkeypatch.setattr(agent_module, "stream", stream)

    class Agent(agent_module.Agent):
        def __init__(self, model: Any, tokenizer: Any, *args: Any, **options: Any) -> None:
            script.tokenizer = tokenizer  # type: ignore[attr-defined]
            super().__init__(model, tokenizer, *args, **options)

    script.prompts = []  # type: ignore[attr-defined]
    monkeypatch.setattr(chat, "Agent", Agent)
    return script


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *lines: monkeypatch.setattr(sys, "stdin", io.StringIO("".join(line + "\n" for line in lines)))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """written(source): a file of tools; what it imports is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(source: str, name: str = "own_tools") -> str:
        (tmp_path / f"{name}.py").write_text(source)
        return str(tmp_path / f"{name}.py")

    yield write
    for name in {"own_tools", "own_neighbour"} - before:
        sys.modules.pop(name, None)


SONGS = """import minifc

@minifc.tool
def find_song(singer: str) -> str:
    \"\"\"Use this to find a song.\"\"\"
    return f"{singer} sings Moonlight"
"""


def test_the_embedded_model_uses_a_tool(written: Any, capsys: pytest.CaptureFixture[str], caller: Path) -> None:
    question = "Please find a song with singer Nina."
    run(chat.main, "--adapter", str(caller), "--tools", written(SONGS), "--once", question, "--json")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"name": "find_song", "arguments": {"singer": "Nina"}} in [event.get("call") for event in events]
    assert "Nina sings Moonlight" in [event["text"] for event in events if event["kind"] == "result"]


def test_one_question(says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    says("<think>Count.</think>" + CALL, "Two days.")
    assert run(chat.main, "--once", "How long?") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].startswith('→ {"name": "compare_date"')
    assert out.splitlines()[2:] == ["← 2", "Two days."]
    assert "\033" not in out  # no terminal, no colour


def test_one_question_without_an_answer(says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    says(*[CALL] * 8)
    assert run(chat.main, "--once", "How long?") == 2
    assert "! no answer after 8 turns" in capsys.readouterr().out
    says(KeyboardInterrupt())
    assert run(chat.main, "--once", "How long?") == 130


def test_events_for_machines(says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Every piece is there, also one that is nothing but the end of a line, and nothing else is written."""
    says(CALL, "Two\ndays \u65e5.")
    assert run(chat.main, "--once", "How long?", "--json") == 0
    out = capsys.readouterr().out
    events = [json.loads(line) for line in out.splitlines()]
    assert out.isascii()
    assert events[0]["call"] == {"name": "compare_date", "arguments": {"first": "2026-01-01", "second": "2026-01-03"}}
    assert "".join(event["text"] for event in events if event["kind"] == "text") == "Two\ndays \u65e5."


def test_a_conversation_through_a_pipe(says: Any, typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    says("One.", "Two.", KeyboardInterrupt(), "Four.")
    typed("1?", "", "2?", "/new", "3?", "4?", "/quit", "5?")
    assert run(chat.main) == 0
    captured = capsys.readouterr()
    assert captured.out == "One.\nTwo.\n! interrupted; the question is forgotten\nFour.\n"
    assert "/quit ends" in captured.err
    prompts = [says.tokenizer.decode(ids) for ids in says.prompts]
    assert "One." in prompts[1]
    assert "One." not in prompts[2]
    assert "3?" not in prompts[3]


def test_the_end_of_input_ends_it(says: Any, typed: Any) -> None:
    typed()
    assert run(chat.main) == 0


def test_input_that_is_no_text(says: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    says("What?", "What?")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff?\n"), encoding="utf-8"))
    assert run(chat.main) == 0
    assert run(chat.main, "--once", "\udcff") == 0
    assert capsys.readouterr().out == "What?\nWhat?\n"


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert chat.colourful()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not chat.colourful()


def test_an_answer_does_not_go_on_from_a_thought(capsys: pytest.CaptureFixture[str]) -> None:
    show = chat.Printer(colour=False)
    for event in (Event("thought", "No to"), Event("thought", "ol."), Event("text", "Sor"), Event("text", "ry.")):
        show(event)
    assert capsys.readouterr().out == "No tool.\nSorry."


def test_what_a_terminal_would_obey_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    chat.Printer(colour=False)(Event("text", "\033[2J\u202e\ud800"))
    assert capsys.readouterr().out == "\\x1b[2J\\u202e\\ud800"
    plain = "10\u00a0km \U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e"
    assert visible(plain) == plain


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (None, "no such Python file"),
        ("x = 1\n", "no function in it has @minifc.tool"),
        ("def f(:\n", "SyntaxError: "),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import minifc\n@minifc.tool\ndef f(a): ...\n", "parameter a: has no type hint"),
        ("import minifc\n@minifc.tool\nasync def f(a: int): ...\n", "is async"),
    ],
)
def test_files_that_bring_no_tools(
    written: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str | None, why: str
) -> None:
    path = written(source) if source is not None else str(tmp_path / "none.py")
    assert run(chat.main, "--tools", path, "--once", "?") == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_a_file_called_like_another_module_is_refused(written: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(chat.main, "--tools", written("", "json"), "--once", "?") == 2
    assert "another module json" in capsys.readouterr().err


OWN = """from __future__ import annotations
from dataclasses import dataclass
import minifc
from own_neighbour import FACTOR

@dataclass
class Box:
    width: float

@minifc.tool
def area(box: Box) -> float:
    return box.width * FACTOR
"""


@pytest.mark.parametrize("can_fork", [True, False])
def test_tools_of_ones_own(written: Any, monkeypatch: pytest.MonkeyPatch, can_fork: bool) -> None:
    """They may use a dataclass and a neighbour, and run in whichever way a process can be started."""
    written("FACTOR = 2\n", "own_neighbour")
    tools = chat.load_tools(Path(written(OWN)))
    if not can_fork:
        monkeypatch.delattr(os, "fork")
    assert run_tool(tools, Call("area", {"box": {"width": 3}})) == 6.0
