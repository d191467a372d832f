"""The way from nothing to a model, on a few steps; tests of the texts are in test_toy.py."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import run
from safetensors.torch import load_file

import minifc
from minifc import pretrain


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    """Both stages cut to four steps, without torch.compile, with the vocabulary that is there."""
    few = {"max_steps": 4, "save_every": 2, "rows": 1, "compile": False, "eval_every": 0}
    monkeypatch.setattr(pretrain, "STAGES", [(name, replace(c, **few), make) for name, c, make in pretrain.STAGES])
    monkeypatch.setattr(pretrain, "build_tokenizer", lambda folder: minifc.load_tokenizer(tiny))
    documents = pretrain.Documents.__getitem__
    monkeypatch.setattr(
        pretrain.Documents,
        "__getitem__",
        lambda self, i: documents(self, slice(0, 2) if isinstance(i, slice) else i),
    )


@pytest.fixture
def small(few_steps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a narrow model in fp32: Muon's products take minutes on a processor without bf16."""
    narrow = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
    monkeypatch.setattr(pretrain, "SHAPE", pretrain.SHAPE | narrow)
    stages = [(name, replace(config, autocast=False), make) for name, config, make in pretrain.STAGES]
    monkeypatch.setattr(pretrain, "STAGES", stages)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch hides it while it compiles
@pytest.mark.usefixtures("few_steps", "two_threads")
def test_two_compiled_runs_make_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile lets threads add to the table's gradient in any order, unless it is told not to."""
    stages = [(name, replace(c, compile=True, rows=3, max_steps=8), make) for name, c, make in pretrain.STAGES[:1]]
    monkeypatch.setattr(pretrain, "STAGES", stages)
    for name in ("one", "other"):
        assert run(pretrain.main, "--to", str(tmp_path / name), "--work", str(tmp_path / f"{name}-work")) == 0
    one, other = (load_file(tmp_path / f"{name}-work" / "text" / "model.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("small")
def test_an_interrupted_pretraining_makes_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def argv(name: str) -> list[str]:
        return ["--to", str(tmp_path / name), "--work", str(tmp_path / f"{name}-work")]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    assert run(pretrain.main, *argv("whole")) == 0
    for place in ("minifc.tuning.loop.evaluate_loss", "minifc.pretrain.save_model"):  # in a stage, and after both
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            assert run(pretrain.main, *argv("broken")) == 130
    assert run(pretrain.main, *argv("broken")) == 0

    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    for stage in ("text", "chat"):
        steps = [
            json.loads(line)["step"] for line in (tmp_path / "broken-work" / f"{stage}.jsonl").read_text().splitlines()
        ]
        assert steps == [1, 2, 3, 4, 4]
    model = minifc.load_model(tmp_path / "whole")
    assert next(model.parameters()).dtype == torch.bfloat16
    assert (tmp_path / "whole" / "loss.png").is_file()


@pytest.mark.usefixtures("small")
def test_a_stage_that_was_cut_short_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--to", str(tmp_path / "to"), "--work", str(tmp_path / "work")]
    assert run(pretrain.main, *argv) == 0
    learned = tmp_path / "work" / "text" / "model.safetensors"
    assert sorted(path.name for path in learned.parent.iterdir()) == ["model.safetensors", "step-000002"]
    learned.write_bytes(learned.read_bytes()[:1000])
    capsys.readouterr()
    assert run(pretrain.main, *argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {learned}: cut short")
    assert error.endswith("; delete it, and its stage is learned again\n")
    assert error.count("\n") == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("option", "there", "message"),
    [
        ("--to", "a file", "--to {}: a file is in the way"),
        ("--work", "a file", "--work {}: a file is in the way"),
        ("--to", "a file above", "--to {}: a file is in the way"),
        ("--work", "a file above", "--work {}: a file is in the way"),
        ("--work", "a file in a folder", "--work {}: not empty, and no pretraining was begun there"),
        ("--work", "another seed", "--work {}: a run with another seed or recipe was begun there"),
    ],
)
def test_what_is_in_the_way_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, there: str, message: str
) -> None:
    place = tmp_path / "place"
    if there == "a file":
        place.write_text("mine")
    elif there == "a file above":
        place.write_text("mine")
        place = place / "folder"
    elif there == "a file in a folder":
        place.mkdir()
        (place / "notes.txt").write_text("mine")
    else:
        assert run(pretrain.main, "--to", str(tmp_path / "first"), "--work", str(place)) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    folders = {"--to": str(tmp_path / "to"), "--work": str(tmp_path / "work")} | {option: str(place)}
    assert run(pretrain.main, *(word for pair in folders.items() for word in pair), "--seed", "1") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: " + message.format(place))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
