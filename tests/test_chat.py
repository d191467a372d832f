"""The chat command as a person and as a program use it."""

import dataclasses
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run

from minifc import chat, own_tools
from minifc.calling import agent as agent_module
from minifc.calling import sample_tools, tiny_tools
from minifc.calling.agent import Event
from minifc.calling.confidence import Confidence
from minifc.calling.tools import run as run_tool
from minifc.gemma.generate import Choice, Row
from minifc.hub import Source
from minifc.loading import load
from minifc.terminal import printable
from minifc.text.calls import Call

CALL = '<tool_call>\n{"name": "weigh_parcel", "arguments": {"width": 2, "height": 3}}\n</tool_call>'


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Any:
    """says(*turns): what the model writes, turn by turn; an exception is raised. `says.prompts` is what it read,
    `says.settings` how it was to write."""

    def script(*turns: str | BaseException) -> None:
        left = iter(turns)

        def decode(model: Any, rows: list[Row], cache: Any) -> Iterator[None]:
            turn, (row,) = next(left), rows
            script.settings.append((row.max_new_tokens, row.sampling))  # type: ignore[attr-defined]
            script.prompts.append(list(row.prompt))  # type: ignore[attr-defined]
            if isinstance(turn, BaseException):
                raise turn
            for id_ in script.tokenizer.encode(turn, control_tokens=True):  # type: ignore[attr-defined]
                row.choices.append(Choice(id_))
                yield
            row.end = "stop"

        monkeypatch.setattr(agent_module, "decode", decode)

    class Agent(agent_module.Agent):
        def __init__(self, model: Any, tokenizer: Any, *args: Any, **options: Any) -> None:
            script.tokenizer = tokenizer  # type: ignore[attr-defined]
            super().__init__(model, tokenizer, *args, **options)

    script.prompts, script.settings = [], []  # type: ignore[attr-defined]
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


@pytest.mark.parametrize("option", ["--model", "--adapter"])
def test_a_run_by_its_folder(
    caller: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(caller, tmp_path / "runs" / "mine" / "adapter")
    assert run(chat.main, option, "runs/mine", "--once", tiny_tools.QUESTION) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "The age is 68."


def test_the_first_screen(typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the model's own tools and a question that it can answer with them."""
    typed(tiny_tools.QUESTION)
    assert run(chat.main) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-2:] == [
        "/new begins a new conversation, /quit ends",
        f"try: {tiny_tools.QUESTION}",
    ]
    assert "find_birthday, measure_age, weigh_parcel" in " ".join(captured.err.split())
    assert captured.out.splitlines()[-1] == "The age is 68."
    assert max(map(len, captured.err.splitlines())) <= 80


def test_tools_suit_the_model(tiny: Path, caller: Path) -> None:
    """The calculator and its like are for larger models, and without a token for calls there are no tools."""
    loaded = load(caller, device="cpu")
    assert own_tools.default_tools(loaded) == tiny_tools.TOOLS
    other = dataclasses.replace(loaded, base=Source("google/gemma-2-2b-it", Path("elsewhere")))
    assert own_tools.default_tools(other) == sample_tools.TOOLS
    assert own_tools.default_tools(load(tiny, device="cpu")) == []


def test_a_model_without_tokens_for_calls_chats(tiny: Path, typed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    typed("Hello.")
    assert run(chat.main, "--model", str(tiny), "--max-new-tokens", "3") == 0
    captured = capsys.readouterr()
    assert captured.out.strip()
    assert "tools: none" in captured.err
    assert "try:" not in captured.err


def test_the_course_s_own_inference(says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    says("Count.</think>" + CALL, "The weight is 6.")
    options = ["--think", "--temperature", "0.01", "--top-p", "0.95", "--max-new-tokens", "300"]
    assert run(chat.main, *options, "--once", "How heavy?") == 0
    assert capsys.readouterr().out.splitlines()[0] == "… Count."
    assert [says.tokenizer.decode(ids).endswith("<think>") for ids in says.prompts] == [True, False]
    for limit, sampling in says.settings:
        assert (limit, sampling.temperature, sampling.top_p) == (300, 0.01, 0.95)


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("--top-p", "1.5", "must be above 0 and at most 1"),
        ("--temperature", "-1.0", "must be 0 (greedy) or more"),
        ("--max-new-tokens", "0", "must be at least 1"),
    ],
)
def test_wrong_values_are_named_as_options(
    capsys: pytest.CaptureFixture[str], option: str, value: str, rule: str
) -> None:
    assert run(chat.main, option, value, "--once", "?") == 2
    assert capsys.readouterr().err == f"error: {option} {value}: {rule}\n"


def test_one_question(says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    says("<think>Count.</think>" + CALL, "The weight is 6.")
    assert run(chat.main, "--once", "How heavy?") == 0
    out = capsys.readouterr().out
    call = '→ {"name": "weigh_parcel", "arguments": {"width": 2, "height": 3}}'
    assert out.splitlines() == ["… Count.", call, '← {"weight": 6}', "The weight is 6."]
    assert "\033" not in out  # no terminal, no colour


def test_one_question_without_an_answer(says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    says(*[CALL] * 8)
    assert run(chat.main, "--once", "How heavy?") == 2
    assert "! no answer after 8 turns" in capsys.readouterr().out
    says(KeyboardInterrupt())
    assert run(chat.main, "--once", "How heavy?") == 130


def test_events_for_machines(says: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Every piece is there, also one that is nothing but the end of a line, and nothing else is written."""
    says(CALL, "Two\ndays \u65e5.")
    assert run(chat.main, "--once", "How heavy?", "--json") == 0
    out = capsys.readouterr().out
    events = [json.loads(line) for line in out.splitlines()]
    assert out.isascii()
    assert events[0]["call"] == {"name": "weigh_parcel", "arguments": {"width": 2, "height": 3}}
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


class Terminal(io.StringIO):
    """What a person types at, or reads from."""

    def isatty(self) -> bool:
        return True


def test_colours_in_a_terminal(says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for no_color in ("", "1"):
        says("<think>Well.\n</think>Yes.")
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert run(chat.main, "--once", "?") == 0
        shown = sys.stdout.getvalue()  # type: ignore[attr-defined]
        assert re.sub("\033\\[[0-9]+m", "", shown) == "… Well.\nYes.\n"
        assert ("\033" in shown) == (not no_color)
        assert no_color or (shown.startswith("\033[2m… ") and shown.endswith("\033[0mYes.\n"))


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([("thought", "No to"), ("thought", "ol."), ("text", "Sor"), ("text", "ry.")], "… No tool.\nSorry."),
        ([("thought", "a\nb"), ("thought", "\n"), ("thought", "c\n"), ("text", "d\ne")], "… a\n… b\n… c\nd\ne"),
        ([("thought", "a"), ("text", "\n"), ("call", "b"), ("result", "c\nd")], "… a\n→ b\n← c\n← d\n"),
        ([("call", "a"), ("call", "b"), ("text", "c\n"), ("text", "\n"), ("text", "d")], "→ a\n→ b\nc\n\nd"),
        ([("thought", "a"), ("stopped", "b")], "… a\n! b\n"),
    ],
    ids=["pieces", "lines", "calls", "an answer in paragraphs", "stopped"],
)
def test_each_line_tells_what_it_is(
    capsys: pytest.CaptureFixture[str], events: list[tuple[Any, str]], shown: str
) -> None:
    """Without colour: a thought is never taken for the answer, nor a result's second line."""
    show = chat.Printer(colour=False)
    for kind, text in events:
        show(Event(kind, text))
    assert capsys.readouterr().out == shown


def test_without_readline(says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    says("Yes.")
    monkeypatch.setitem(sys.modules, "readline", None)
    monkeypatch.setattr(sys, "stdin", Terminal("?\n"))
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert run(chat.main) == 0
    assert sys.stdout.getvalue().removeprefix("> ").startswith("Yes.\n")  # type: ignore[attr-defined]


def test_a_terminal_that_lacks_characters(says: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    says("<think>Gr\u00fc\u00df.</think>Gr\u00fc\u00dfe!")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run(chat.main, "--once", "?") == 0
    assert written.getvalue().decode() == "? Gr??.\nGr??e!\n"


def test_what_a_terminal_would_obey_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    chat.Printer(colour=False)(Event("text", "\033[2J\u202e\ud800"))
    assert capsys.readouterr().out == "\\x1b[2J\\u202e\\ud800"
    plain = "10\u00a0km \U0001f469\u200d\U0001f680 \u0645\u06cc\u200c\u062e"
    assert printable(plain) == plain


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
    """They may use a dataclass and a module beside their file, and run in whichever way a process can be started."""
    written("FACTOR = 2\n", "own_neighbour")
    tools = own_tools.load_tools(Path(written(OWN)))
    if not can_fork:
        monkeypatch.delattr(os, "fork")
    assert run_tool(tools, Call("area", {"box": {"width": 3}})) == 6.0


def test_what_does_not_fit_the_model_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, why in (
        (("--adapter", str(tiny)), "tiny: neither an adapter nor a run; name a model by --model"),
        (("--model", str(tiny), "--think"), "--think: the model has no token <think>"),
    ):
        assert run(chat.main, *options, "--once", "Hello.") == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "is_run"), [("y", True), ("", False), ("no", False), (None, False)])
def test_a_person_confirms_a_call_of_little_probability(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str | None, is_run: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("" if answer is None else answer + "\n"))
    confirm = chat.confirmation(0.9)
    assert confirm(Call("f", {}), Confidence(1.0, 0.95, 0.9))
    assert capsys.readouterr().err == ""
    assert confirm(Call("f", {}), Confidence(1.0, 0.95, 0.5)) == is_run
    assert "? run f? The model gives it 50% [y/N]" in capsys.readouterr().err


def test_without_an_answer_an_unsure_call_is_not_run(capsys: pytest.CaptureFixture[str], typed: Any) -> None:
    """The embedded model is hardly ever wholly sure."""
    typed()
    chat.main(["--once", tiny_tools.QUESTION, "--confirm-below", "1", "--json"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (call,) = [event for event in events if event["kind"] == "call"]
    (result,) = [event for event in events if event["kind"] == "result"]
    assert 0.5 < call["confidence"]["whole"] < 1
    assert json.loads(result["text"]) == {"error": "the user does not want this call"}
