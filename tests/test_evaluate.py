"""What the evaluate command refuses, and what it asks."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import run

from minifc import evaluate, train
from minifc.calling.grammar import Grammar
from minifc.data import read_conversations, toy
from minifc.evaluation import asking
from minifc.evaluation.asking import Answers
from minifc.evaluation.questions import Question, data_questions, question_of
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
        (("--part", "first"), "--part first: has no effect"),
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


def as_rows(cases: list[toy.Case]) -> str:
    return "".join(json.dumps(case.row()) + "\n" for case in cases)


COURSE = [
    {"role": "system", "content": '<tools>[{"name": "add", "parameters": {"type": "object"}}]</tools>'},
    {"role": "human", "content": "Add 1."},
    {"role": "model", "content": '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'},
]


def test_questions_of_text_that_holds_its_tags_know_their_tools(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"conversations": COURSE}))
    (question,) = data_questions(read_conversations(tmp_path / "a.jsonl"))
    assert [tool["name"] for tool in question.tools] == ["add"]  # which a grammar needs
    assert question.expected == ("add",)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["lean", "course"])
def test_a_runs_questions_are_asked_again(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rows, in the same order, with the same limit: the same answers, and the same figures."""
    (tmp_path / "rows.jsonl").write_text(as_rows(toy.training_cases(12, 0)))
    folder, asked = tmp_path / "run", list[Answers]()

    def spy(*args, **options) -> Answers:
        asked.append(asking.ask(*args, **options))
        return asked[-1]

    monkeypatch.setitem(asking.ask.__kwdefaults__, "max_new_tokens", 24)  # untrained, it runs on
    monkeypatch.setattr(train, "ask", spy)
    monkeypatch.setattr(evaluate, "ask", spy)
    data = ["--model", "weights/tiny", "--data", str(tmp_path / "rows.jsonl"), "--recipe", recipe, "--max-steps", "2"]
    assert run(train.main, *data, "--to", str(folder), "--cases", "5", "--eval-share", "0.3") == 0
    printed = capsys.readouterr().out
    assert "5 of " in printed
    for row in ("exact calls", "ran to the limit", "bits per byte of model turns"):
        assert row in printed
    assert len((folder / "held_out.jsonl").read_text().splitlines()) == 4
    _, after = asked
    assert len(after.texts) == 5
    for source in ("--model", "--run"):
        assert run(evaluate.main, source, str(folder), "--json", "--max-new-tokens", "24") == 0
        assert asked[-1] == after
        figures = json.loads(capsys.readouterr().out)[str(folder)]["free"]
        assert figures["bits_per_byte"] == after.bits_per_byte
        share = after.score.right
        assert figures["right"] == {"count": share.count, "total": 5, "interval": list(share.interval)}
    assert run(evaluate.main, "--run", str(folder), "--model", "weights/tiny", "--cases", "2") == 0
    assert asked[-1].texts != after.texts[:2]  # its questions, put to another model
    capsys.readouterr()
    assert run(evaluate.main, "--model", str(folder), "--test-seed", "1") == 2
    assert "--test-seed 1: has no effect" in capsys.readouterr().err


def test_a_run_about_the_toy_world_is_asked_the_same_again(
    tmp_path: Path, caller: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(caller, folder / "adapter")
    settings = {
        "run": {"data": "", "cases": 2, "test_seed": 7, "dtype": "float32"},
        "lora": {},
        "loop": {},
        "commits": {},
    }
    (folder / "config.json").write_text(json.dumps(settings))
    asked: list[list[str]] = []
    ask = asking.ask
    spy = lambda m, t, questions, *args, **options: (  # noqa: E731
        asked.append([str(one.messages) for one in questions]) or ask(m, t, questions, *args, **options)
    )
    monkeypatch.setattr(evaluate, "ask", spy)
    for options in (("--model", str(folder)), ("--adapter", str(folder)), ("--run", str(folder))):
        assert run(evaluate.main, *options, "--json") == 0
        assert json.loads(capsys.readouterr().out)["embedded world"]["free"]["exact"]["count"] == 1
    assert asked == [[str(case.messages()[:1]) for case in toy.held_out_cases(2, 7)]] * 3


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("[]", "config.json: not the settings of a training run"),
        ('{"run": {"cases": "x", "test_seed": 0}, "lora": {}, "loop": {}, "commits": {}}', "are not numbers"),
        ('{"run": {"cases": 1, "test_seed": 0, "data": "x"}, "lora": {}, "loop": {}, "commits": {}}', "held_out.jsonl"),
    ],
)
def test_a_damaged_run_is_one_line(settings: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(settings)
    assert run(evaluate.main, "--run", str(tmp_path)) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert why in error
