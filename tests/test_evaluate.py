"""What the evaluate command refuses, and what it asks."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import run

from minifc import evaluate
from minifc.calling.grammar import Grammar
from minifc.evaluation import asking
from minifc.evaluation.questions import Question, question_of
from minifc.terminal import text_samples
from minifc.text.calls import TAGS
from minifc.text.tokenizer import load_tokenizer


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ("--model", "weights/tiny", "--how", "both"),
            "--how both: neither model nor adapter has the token <tool_call>",
        ),
        (("--categories", "multiple"), "--categories multiple: has no effect"),
        (("--data", "x.jsonl", "--sentences", "unseen"), "--sentences unseen: has no effect"),
        (("--data", "x.jsonl", "--test-seed", "0"), "--test-seed 0: has no effect"),
        (("--bfcl", "x", "--sentences", "known"), "--sentences known: has no effect"),
        (("--bfcl", "x", "--data", "y"), "--data and --bfcl ask different questions"),
        (("--run", "runs/nowhere"), "config.json: not found"),
        (("--cases", "0"), "--cases 0: must be at least 1"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], why: str
) -> None:
    assert run(evaluate.main, "--cases", "2", *options) == 2
    assert why in capsys.readouterr().err


def test_a_row_that_cannot_be_rendered_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages = [{"role": "alien", "content": "?"}, {"role": "assistant", "content": "!"}]
    for role in ("alien", ["user"]):
        messages[0]["role"] = role  # type: ignore[assignment]
        (tmp_path / "x.jsonl").write_text(json.dumps({"messages": messages, "tools": [{"name": "f"}]}))
        assert run(evaluate.main, "--data", str(tmp_path / "x.jsonl")) == 2
        assert f"x.jsonl, row 1: message 0: unknown role {role!r}" in capsys.readouterr().err


def test_grammars_are_shared_and_forgotten(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, made = load_tokenizer(tiny), []
    tokenizer.add_tokens(list(TAGS))
    monkeypatch.setattr(asking, "Grammar", lambda *args: made.append(args) or Grammar(*args))

    def question(name: str, kind: str = "object") -> Question:
        return question_of([{"role": "user", "content": "?"}], [{"name": name, "parameters": {"type": kind}}], [])

    grammars = asking.question_grammars([question("f"), question("f"), question("g", "string")], tokenizer)
    assert not made
    assert grammars(0) is grammars(1)
    assert grammars(2) is None
    assert len(made) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "asked without constraint: 1 of 3 questions" in captured.err


def test_what_a_model_wrote_commands_no_terminal() -> None:
    assert "\033" not in text_samples([[("user", "a\033[2Jb\x85c")]])


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Instead of asking, evaluate notes which base model and adapter it would ask."""
    located: list[Any] = []
    monkeypatch.setattr(evaluate, "ask_all", lambda args, where, sets: located.append(where) or {})
    monkeypatch.setattr(evaluate, "report", lambda *args: None)
    return located


def test_a_model_is_not_asked_with_the_embedded_adapter(tiny: Path, tmp_path: Path, no_model: list[Any]) -> None:
    for options, adapter in (
        ((), "tiny-caller"),
        (("--model", str(tiny)), None),
        (("--model", str(tiny), "--adapter", str(tiny.parent / "tiny-caller")), "tiny-caller"),
        (("--adapter", str(tiny.parent / "tiny-caller")), "tiny-caller"),
    ):
        assert run(evaluate.main, *options, "--cases", "2") == 0
        located = no_model.pop()
        assert located.base.path.name == "tiny"
        assert (located.adapter and located.adapter.name) == adapter
