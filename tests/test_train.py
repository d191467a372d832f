"""The commands, as a user runs them: what they leave behind, and one line for bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import run
from safetensors.torch import load_file, save_file

import minifc
from minifc import evaluate, export, train
from minifc.cli import run_command
from minifc.data import Conversation
from minifc.data.toy import training_cases
from minifc.evaluation.held_out import read_held_out, write_conversations
from minifc.evaluation.likelihood import bits_per_byte
from minifc.evaluation.report import BITS_PER_BYTE, SHARES
from minifc.text.calls import TAGS
from minifc.text.dialects.functiongemma import TOKENS
from minifc.text.messages import normal_messages

QUICK = ["--max-steps", "2", "--cases", "4", "--rows", "2"]


def one_line_error(capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    """Exactly one line on standard error, with all of `parts` in it."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


@pytest.fixture(autouse=True)
def _small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where 5,000 generated conversations are not needed, 400 take a tenth of the time."""
    monkeypatch.setattr(train, "WORLD_SIZE", 400)


@pytest.fixture
def model_copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Ten conversations in OpenAI's shape."""
    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "Add 1."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "It is 1."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": messages, "tools": [tool]}) + "\n" for _ in range(10)))
    return path


def test_main_job_leaves_a_whole_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny: Path) -> None:
    folder = tmp_path / "run"
    assert run(train.main, "--to", str(folder), *QUICK) == 0
    printed = capsys.readouterr().out
    assert "exact calls" in printed
    assert str(folder) in printed
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "loss.png",
        "report.md",
        "adapter",
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["loop"]["max_steps"] == 2
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in steps if "loss" in record] == [1, 2]
    assert "`<tool_call>`" in (folder / "report.md").read_text()
    model, tokenizer = minifc.load_model(tiny), minifc.load_tokenizer(tiny)
    minifc.load_adapter(model, tokenizer, folder / "adapter")

    assert run(evaluate.main, "--adapter", str(folder / "adapter"), "--cases", "4", "--json") == 0
    shares = json.loads(capsys.readouterr().out)["embedded world"]["free"]
    assert shares["exact"]["total"] == 2


def shares(printed: str) -> dict[str, list[str]]:
    """The rows of the table of scores: for each share its columns."""
    lines = [re.split(r"\s{2,}", line) for line in printed.splitlines()]
    return {line[0]: line[1:] for line in lines if line[0] in (*SHARES.values(), BITS_PER_BYTE)}


def test_the_scores_of_own_data_and_the_same_asked_again(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out rows stay in the run folder; evaluate asks exactly those, and finds what the end of the run found."""
    monkeypatch.setenv("COLUMNS", "100")
    folder = tmp_path / "run"
    options = ["--data", str(rows), "--max-steps", "2", "--eval-share", "0.2", "--to", str(folder)]
    assert run(train.main, *options) == 0
    printed = capsys.readouterr().out
    assert "4 of 4 questions about 2 held-out conversations are asked" in printed
    at_the_end = shares(printed)
    assert set(at_the_end) == {*SHARES.values(), BITS_PER_BYTE}
    assert all(len(columns) == 2 for columns in at_the_end.values())  # before and after
    assert all(share in (folder / "report.md").read_text() for share in at_the_end)
    rows.unlink()  # not needed any more
    for which in ("--model", "--run"):
        assert run(evaluate.main, which, str(folder)) == 0
        again = shares(capsys.readouterr().out)
        assert again == {share: columns[1:] for share, columns in at_the_end.items()}
    assert run(evaluate.main, "--adapter", str(folder), "--json", "--cases", "3") == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert found["free"]["right"]["total"] == 3
    assert len(found["free"]["right"]["interval"]) == 2


def test_held_out_conversations_are_kept_exactly(tmp_path: Path) -> None:
    verbatim = [{"role": "user", "content": "<tools></tools> \u2028?"}, {"role": "assistant", "content": "<tool_call>"}]
    cases = training_cases(3, seed=0)
    kept = [Conversation(verbatim, (), True), *(Conversation(case.messages(), case.tools) for case in cases)]
    write_conversations(kept, tmp_path / "held_out.jsonl")
    found = read_held_out(tmp_path / "held_out.jsonl")
    assert [(list(c.tools), c.verbatim) for c in found] == [(list(c.tools), c.verbatim) for c in kept]
    assert [normal_messages(c.messages) for c in found] == [normal_messages(c.messages) for c in kept]


def test_a_run_can_be_trained_further(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From its adapter, tokens and rows included, in its own format, on its own base model."""
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--data", str(rows), "--max-steps", "3", "--eval-share", "0.2", "--cases", "0"]
    assert run(train.main, *options, "--format", "course", "--rank", "3", "--to", str(first)) == 0
    capsys.readouterr()
    assert run(train.main, "--model", str(first), *options, "--to", str(second), "--learning-rate", "1e-9") == 0
    assert "new tokens: none" in capsys.readouterr().out
    before, after = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    assert any(name.endswith("trainable_tokens_delta") for name in after)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    config = json.loads((second / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (3, "weights/tiny")
    settings = json.loads((second / "config.json").read_text())
    assert (settings["run"]["format"], settings["lora"]["r"]) == ("course", 3)
    assert minifc.load(second).format == "course"


@pytest.mark.parametrize(("option", "value"), [("--rank", "4"), ("--alpha", "8"), ("--targets", "q_proj")])
def test_an_adapter_that_is_trained_further_keeps_its_lora(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    argv = ["--model", "weights/tiny-caller", "--data", str(rows), "--to", str(tmp_path / "run"), option, value]
    assert run(train.main, *argv) == 2
    one_line_error(capsys, option, "is trained further, with the LoRA that it has")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cases", ["0", "1"])
def test_how_many_questions_are_asked(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cases: str
) -> None:
    options = ["--data", str(rows), "--max-steps", "1", "--cases", cases, "--to", str(tmp_path / "run")]
    assert run(train.main, *options) == 0
    printed = capsys.readouterr().out
    assert f"{cases} of 2 questions" in printed
    assert BITS_PER_BYTE in printed
    assert ("exact calls" in printed) == (cases == "1")


@pytest.mark.parametrize("place", ["file", "file/run", "folder"])
def test_places_are_checked_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("precious")
    monkeypatch.setattr(train, "locate", lambda *name, **format: pytest.fail("the model was looked for"))
    assert run(train.main, "--to", str(tmp_path / place)) == 2
    one_line_error(capsys, "--to", place.split("/")[0])
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("config.json", b"[]", "config.json: not the settings of a training run"),
        ("config.json", b'{"run": {}, "lora": {}}', "config.json: not the settings of a training run"),
        ("config.json", b'{"run": [], "lora": {}, "loop": {}, "commits": {}}', "config.json: not the settings"),
        ("metrics.jsonl", b'{"step": 1, "loss": "\xff"}\n', "metrics.jsonl"),
        ("metrics.jsonl", b'{"step": "one", "loss": 1}\n', "metrics.jsonl"),
    ],
)
def test_a_damaged_run_is_not_gone_on_with(
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
    content: bytes,
    part: str,
) -> None:
    common = ["--data", str(rows), "--max-steps", "2", "--to", str(tmp_path / "run")]
    interrupted(monkeypatch, "minifc.tuning.loop.evaluate_loss", *common)
    (tmp_path / "run" / file).write_bytes(content)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(train.main, *common, "--resume") == 2
    one_line_error(capsys, part)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_the_first_screen_says_what_happens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(train.main, "--to", str(tmp_path / "run"), *QUICK) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("The language model weights/tiny is taught to call functions:\n")
    assert "about functions it has never seen" in printed
    assert all(len(line) <= 80 for line in printed.splitlines()[:5])


@pytest.fixture
def course_rows(tmp_path: Path) -> Path:
    """Conversations whose text holds the tags, calls in Python's form; the last call cannot be read."""
    calls = [str({"name": "add", "arguments": {"a": number}}) for number in range(9)] + ["{'name': "]
    turns = [f"<think>Add.</think><tool_call>\n{call}\n</tool_call>" for call in calls]
    rows = [[("human", "Add."), ("model", turn)] for turn in turns]
    path = tmp_path / "course.jsonl"
    as_dicts = ([{"role": role, "content": content} for role, content in row] for row in rows)
    path.write_text("".join(json.dumps({"conversations": row}) + "\n" for row in as_dicts))
    return path


def test_the_courses_recipe(course_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """COURSE.md's values; one of them overridden; all printed and saved."""
    options = ["--model", "weights/tiny", "--data", str(course_rows), "--max-steps", "1", "--to", str(tmp_path / "run")]
    assert run(train.main, *options, "--recipe", "course", "--alpha", "32") == 0
    printed = capsys.readouterr().out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    lora, loop = config["lora"], config["loop"]
    assert len(lora["targets"]) == 9
    assert (lora["r"], lora["alpha"], lora["dropout"]) == (16, 32, 0.05)
    assert (loop["learning_rate"], loop["warmup_ratio"], loop["weight_decay"]) == (1e-4, 0.1, 0.1)
    assert (loop["rows"], loop["accumulation"], loop["length"], loop["epochs"]) == (1, 4, 1500, 1)
    assert loop["max_grad_norm"] == 1.0
    assert loop["gradient_checkpointing"]
    assert "alpha=32.0" in printed
    assert "learning_rate=0.0001" in printed
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    supervised = json.loads(metrics[0])["supervised"]
    assert supervised == json.loads(metrics[0])["tokens"] - 9  # every token but the first of each conversation


def test_the_laptop_recipe(rows: Path, tmp_path: Path) -> None:
    """Reserved ids for new tokens, states to go on from, and one batch in a step."""
    options = ["--model", "weights/tiny", "--data", str(rows), "--max-steps", "1", "--to", str(tmp_path / "run")]
    assert run(train.main, *options, "--recipe", "laptop", "--no-compile", "--cases", "0") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["lora"]["r"], config["lora"]["alpha"], config["lora"]["dropout"]) == (32, 64, 0)
    loop = config["loop"]
    assert (loop["rows"], loop["length"], loop["accumulation"], loop["save_every"]) == (2, 1024, 1, 100)
    ids = json.loads((tmp_path / "run/adapter/adapter_config.json").read_text())["trainable_token_indices"]
    assert max(ids["embed_tokens"]) < minifc.load_tokenizer("weights/tiny").size


def test_tokens_that_the_model_has_already_are_named_and_stay(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second training, of the exported model: its tokens are ordinary ones now, whose rows are frozen."""
    first, to = str(tmp_path / "first"), str(tmp_path / "model")
    options = ["--data", str(rows), "--max-steps", "1", "--cases", "0"]
    assert run(train.main, *options, "--to", first) == 0
    assert "already" not in words_about_tokens(capsys.readouterr().out)
    assert run(export.main, first, "--to", to) == 0
    capsys.readouterr()
    assert run(train.main, *options, "--model", to, "--to", str(tmp_path / "second")) == 0
    said = words_about_tokens(capsys.readouterr().out)
    assert "new tokens: none" in said
    assert (
        "the model has these tokens already, and their rows stay as they are: <tools> </tools> <tool_call> </tool_call>"
        in said
    )
    targets = ("--targets", "q_proj,embed_tokens,lm_head")  # LoRA on the table changes them
    assert run(train.main, *options, *targets, "--model", to, "--to", str(tmp_path / "third")) == 0
    assert "already" not in words_about_tokens(capsys.readouterr().out)


def words_about_tokens(printed: str) -> str:
    text = " ".join(printed.split())  # notes are wrapped
    return text[text.index("new tokens:") : text.index("LoRA on")]


@pytest.mark.parametrize("chosen", [None, "ACTIVE"])
def test_waiting_threads_sleep_unless_the_user_chose_otherwise(chosen: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    script = "import minifc, os; print(os.environ['OMP_WAIT_POLICY'])"
    environment |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == (chosen or "PASSIVE")


def test_the_lean_recipe_rewrites_calls(course_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", "weights/tiny", "--data", str(course_rows), "--max-steps", "1", "--to", str(tmp_path / "run")]
    assert run(train.main, *options) == 0
    printed = " ".join(capsys.readouterr().out.split())  # notes are wrapped
    assert "left out: 1 of 10 conversations have calls that cannot be read" in printed
    assert "course.jsonl, row 10" in printed


def test_own_data_in_the_courses_format(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(train.main, "--data", str(rows), "--format", "course", "--to", str(tmp_path / "run"), "--epochs", "1") == 0
    )
    printed = capsys.readouterr().out
    tags = "<tools> </tools> <think> </think> <tool_call> </tool_call> <tool_response> </tool_response>"
    assert f"new tokens: {tags}" in " ".join(printed.split())
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80
    assert "bits per byte" in printed


def test_own_data_in_functiongemmas_format(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, asked with and without the grammar, exported, and asked again there."""
    monkeypatch.setenv("COLUMNS", "100")
    folder, to = str(tmp_path / "run"), str(tmp_path / "model")
    options = ["--data", str(rows), "--format", "functiongemma", "--max-steps", "2", "--eval-share", "0.2"]
    assert run(train.main, *options, "--to", folder) == 0
    printed = capsys.readouterr().out
    assert f"new tokens: {' '.join(TOKENS)}" in " ".join(printed.split())
    assert "bits per byte" in printed
    assert run(evaluate.main, "--model", folder, "--how", "both", "--max-new-tokens", "60") == 0
    assert set(shares(capsys.readouterr().out)) == {*SHARES.values(), BITS_PER_BYTE}
    assert run(export.main, folder, "--to", to) == 0
    loaded = minifc.load(to)
    assert loaded.format == "functiongemma"
    assert loaded.tokenizer.control["<start_function_response>"] in loaded.model.config.eos_token_id


def interrupted(monkeypatch: pytest.MonkeyPatch, place: str, *argv: str) -> None:
    """A run that is stopped by Ctrl-C when it comes to `place`."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(place, stop)
        assert run(train.main, *argv) == 130


@pytest.mark.parametrize("place", ["minifc.tuning.loop.evaluate_loss", "minifc.train.write_report"])
def test_an_interrupted_run_goes_on(place: str, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at the last step, or in all that follows: with --resume it ends as if it had not been."""
    common = ["--data", str(rows), "--max-steps", "4", "--save-every", "2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(train.main, *common, "--to", str(whole)) == 0
    interrupted(monkeypatch, place, *common, "--to", str(broken))
    with (broken / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 4, "lo')  # as a machine that loses its power would leave it
    assert run(train.main, *common, "--to", str(broken), "--resume") == 0
    a, b = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (whole, broken))
    assert all(torch.equal(a[name], b[name]) for name in a)
    records = [list(map(json.loads, (f / "metrics.jsonl").read_text().splitlines())) for f in (whole, broken)]
    for record in (*records[0], *records[1]):
        record.pop("tokens_per_second", None)
    assert records[0] == records[1]  # how much was read before is known as well
    assert [record["step"] for record in records[0]] == [1, 2, 3, 4, 4]
    new_rows = [
        [line for line in (f / "report.md").read_text().splitlines() if "`<tool" in line] for f in (whole, broken)
    ]
    assert new_rows[0] == new_rows[1] != []
    assert "minutes from step 2 on, 4 optimiser steps." in (broken / "report.md").read_text()
    assert not (broken / "states").exists()


def test_a_run_goes_on_with_the_same_data_only(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(rows), "--max-steps", "2", "--to", str(tmp_path / "run")]
    interrupted(monkeypatch, "minifc.tuning.loop.evaluate_loss", *common)
    rows.write_text(rows.read_text().replace("Add 1.", "Add 2."))
    capsys.readouterr()
    assert run(train.main, *common, "--resume") == 2
    one_line_error(capsys, "begun with examples=")


def test_a_run_stopped_before_its_first_state_says_that_it_starts_anew(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(rows), "--max-steps", "2", "--to", str(tmp_path / "run")]
    interrupted(monkeypatch, "minifc.tuning.loop.evaluate_loss", *common)
    assert run(train.main, *common, "--resume") == 0
    assert "no state was saved yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (["--alpha", "8"], "begun with alpha=32.0, not 8.0"),
        (["--dropout", "0.5"], "begun with dropout="),
        (["--format", "course"], "begun with format='gemma', not 'course'"),
        (["--learning-rate", "1"], "begun with learning_rate="),
        (["--calls", "verbatim"], "begun with calls="),
    ],
)
def test_a_run_goes_on_with_the_same_options_only(
    change: list[str],
    part: str,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    common = ["--data", str(rows), "--max-steps", "2", "--to", str(tmp_path / "run")]
    interrupted(monkeypatch, "minifc.tuning.loop.evaluate_loss", *common)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(train.main, *common, *change, "--resume") == 2
    one_line_error(capsys, part)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_finished_run_is_not_run_again(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--data", str(rows), "--max-steps", "1", "--to", str(tmp_path / "run")]
    assert run(train.main, *argv) == 0
    capsys.readouterr()
    assert run(train.main, *argv, "--resume") == 2
    one_line_error(capsys, "is finished")


def test_conversations_kept_for_evaluation_may_all_be_too_long(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitting = train.fitting
    calls: list[int] = []

    def second_is_empty(*args):
        calls.append(1)
        return fitting(*args) if len(calls) == 1 else []

    monkeypatch.setattr(train, "fitting", second_is_empty)
    assert run(train.main, "--data", str(rows), "--max-steps", "1", "--to", str(tmp_path / "run")) == 0
    assert "0 of 0 questions about 0 held-out conversations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["rows.json", "empty"]),
        ("{nonsense", ["rows.json", "line 1"]),
        ("[1]", ["row 1", "int"]),
        ('[{"text": "x"}]', ["row 1", "messages"]),
        ('[{"messages": [{"role": "critic", "content": "x"}]}]', ["row 1", "unknown role 'critic'"]),
        ('[{"messages": [{"role": "user", "content": "x"}]}]', ["row 1", "nothing to learn"]),
    ],
)
def test_bad_data_is_one_line_and_leaves_nothing(
    content: str, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.json").write_text(content)
    folder = tmp_path / "run"
    assert run(train.main, "--data", str(tmp_path / "rows.json"), "--to", str(folder)) == 2
    one_line_error(capsys, *parts)
    assert not folder.exists()


def test_absent_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(train.main, "--data", str(tmp_path / "none.json")) == 2
    one_line_error(capsys, "none.json", "no such file")
    assert run(train.main, "--model", str(tmp_path / "none")) == 2
    one_line_error(capsys, "no such folder")


def test_outside_the_clone_the_default_models_absence_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minifc.hub._CLONE", tmp_path)
    assert run(train.main) == 2
    one_line_error(capsys, "weights/tiny", "clone", "--model")


def break_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def break_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))


def break_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def break_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"] = torch.zeros(7)
    save_file(tensors, folder / "model.safetensors")


def break_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (break_config, "config.json: not found"),
        (break_architecture, "model_type is 'llama'"),
        (break_weights, "model.safetensors: cut short"),
        (lose_weights, "model.safetensors: not found"),
        (break_shape, "model.norm.weight has shape [7]"),
        (break_tokenizer, "tokenizer.json: not a tokenizer.json"),
    ],
)
def test_a_damaged_model_is_one_line_and_leaves_nothing(
    damage, part: str, model_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(model_copy)
    assert run(train.main, "--model", str(model_copy), "--to", str(tmp_path / "run")) == 2
    one_line_error(capsys, part)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["--lerning-rate", "1"], "did you mean --learning-rate?"),
        (["--learning-rate", "fast"], "invalid float value"),
        (["--learning-rate", "-1"], "--learning-rate -1.0: must be above 0"),
        (["--rank", "0"], "--rank 0: the rank must be at least 1"),
        (["--targets", "q_prj"], "'q_prj' is no linear layer"),
        (["--targets", "q_proj,lm_head"], "both embed_tokens and lm_head, or on neither"),
        (["--tokens", "<tool>"], "--tokens <tool>: it never occurs"),
        (["--length", "20"], "raise it"),
        (["--format", "chatml"], "invalid choice"),
        (["--device", "tpu"], "--device tpu"),
        (["--resume"], "needs --to"),
        (["--tokens", ""], "name tags"),
        (["--seed", "-1"], "--seed -1: must be 0 or more"),
        (["--device", "meta"], "--device meta"),
        (["--eval-share", "0.5"], "--eval-share 0.5: means something only with --data; leave it out"),
        (["--eval-share", "many"], "invalid float value"),
        (["--calls", "verbatim"], "--calls verbatim: means something only with --data; leave it out"),
        (
            ["--data", "x", "--test-seed", "1"],
            "--test-seed 1: means something only with the embedded model's own world",
        ),
        (["--epochs", "2", "--max-steps", "3"], "--epochs 2 and --max-steps 3: give only one of them"),
        (["--cases", "-1"], "--cases -1: must be 0 or more"),
        (["--resume", "--to", "runs/none"], "runs/none"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    argv: list[str], part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(train.main, "--cases", "2", *argv) == 2
    one_line_error(capsys, part)
    assert not (tmp_path / "runs").exists()


def test_epochs_that_are_asked_for_are_not_overruled_by_a_recipe(rows: Path, tmp_path: Path) -> None:
    options = ["--data", str(rows), "--recipe", "tiny", "--model", "weights/tiny", "--epochs", "3"]
    assert run(train.main, *options, "--to", str(tmp_path / "run")) == 0
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len([record for record in steps if "loss" in record]) == 3  # nine short conversations fit into a batch


def test_conversations_that_begin_with_the_model_are_shown(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Hi."}]
    messages.append({"role": "assistant", "tool_calls": [call]})
    rows.write_text((json.dumps({"messages": messages}) + "\n") * 8)
    assert run(train.main, "--data", str(rows), "--max-steps", "1", "--to", str(tmp_path / "run")) == 0
    assert (tmp_path / "run" / "report.md").is_file()


def test_before_and_after_are_measured_on_the_same_conversations(tiny: Path) -> None:
    """Tags as tokens make a conversation shorter; what fits then is measured before, too."""
    model, tokenizer = minifc.load_model(tiny, torch.float32), minifc.load_tokenizer(tiny)
    case = next(iter(training_cases(1, seed=0)))
    held_out = [Conversation(case.messages(), case.tools)]
    before = bits_per_byte(model, tokenizer, held_out, "gemma")
    minifc.add_tokens(model, tokenizer, list(TAGS))
    after = bits_per_byte(model, tokenizer, held_out, "gemma")
    assert 0 < before < 100
    assert 0 < after < 100


def test_a_folder_in_use_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    assert run(train.main, "--to", str(tmp_path)) == 2
    one_line_error(capsys, "not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(minifc.MinifcError):
        run_command(train.main, ["--debug", "--model", "nowhere"])


@pytest.mark.parametrize("command", [train, evaluate])
def test_help_has_an_example(command, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command.main, "--help") == 0
    assert "example: python -m minifc." in capsys.readouterr().out


def test_a_newcomer_is_told_first_what_happens(
    rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "prepare", lambda *_: (_ for _ in ()).throw(minifc.MinifcError("enough")))
    monkeypatch.setattr(train, "WORLD_SIZE", 5000)
    assert run(train.main, "--to", str(tmp_path / "run")) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The language model weights/tiny is taught to call functions:"
    assert "asked 400 questions" in lines[1]
    assert "360 steps on 4,900 generated conversations" in lines[2]
    assert any("about five minutes" in line for line in lines)
    assert run(train.main, "--data", str(rows), "--cases", "0", "--to", str(tmp_path / "run")) == 2
    printed = capsys.readouterr().out
    assert "trained for 1 epoch on the conversations of" in printed
    assert "asked" not in printed
    assert "minutes" not in printed


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert run(train.main, "--to", str(tmp_path / "run")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert (
        captured.err == f"error: --to {tmp_path / 'run'}: cannot be written (Permission denied); name another place\n"
    )
