"""The benchmark's own arithmetic and its path from end to end, on very little training."""

import json
from pathlib import Path

import pytest
import torch
from commands import run

from minifc import verify
from minifc.bench import __main__ as bench
from minifc.bench import decoding, grammar, held_out, training
from minifc.data import Example
from minifc.data.toy import training_cases
from minifc.hub import TINY, find_model
from minifc.text.calls import TAGS, Call
from minifc.text.tokenizer import load_tokenizer
from minifc.train import RECIPES


@pytest.mark.slow
def test_held_out_measures_every_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(held_out, "SEEDS", (0,))
    monkeypatch.setattr(held_out, "TEST_SEEDS", (0,))
    monkeypatch.setattr(held_out, "CASES", 4)
    monkeypatch.setitem(RECIPES["tiny"], "max_steps", 1)
    bench.main(["held-out", "--to", str(tmp_path / "held-out.json")])
    results = json.loads((tmp_path / "held-out.json").read_text())
    assert len(results) == 4 + 2
    assert all(result["exact"]["total"] == 2 for result in results)
    assert held_out.TAUGHT in capsys.readouterr().out


@pytest.fixture
def rows(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(case.row()) + "\n" for case in training_cases(12, 0)))
    return str(path)


@pytest.mark.slow
def test_training_is_measured_beside_peft(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each engine in its own process, on the same conversations: the same loss."""
    options = ["--model", "weights/tiny", "--data", rows, "--rows", "1", "--length", "640"]
    bench.main(["train", *options, "--batches", "2", "--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()[-len(training.ENGINES) :]
    losses = [float(line.split()[-1]) for line in lines]
    assert all(line.startswith(engine) for line, engine in zip(lines, training.ENGINES, strict=True))
    assert max(losses) - min(losses) < 0.02 * max(losses)


@pytest.mark.slow
def test_decoding_is_measured_beside_transformers(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["decode", "--model", "weights/tiny", "--data", rows, "--new", "4", "--repeats", "1"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-2:]] == list(decoding.ENGINES)


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["train", "--length", "1"], "every conversation is longer than 1 tokens"),
        (["train", "--length", "4096"], "too little to measure; its rows must fill more than 2 batches"),
        (["train", "--batches", "0"], "--batches 0: must be at least 1"),
        (["decode", "--new", "1"], "--new 1: must be at least 2"),
        (["decode", "--data", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_said(
    rows: str, argv: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    what, *more = argv
    assert run(bench.main, what, "--model", "weights/tiny", "--data", rows, *more) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert why in lines[0]


def test_batches_are_padded_little() -> None:
    examples = [Example([1] * length, [True] * length) for length in (9, 2, 8, 3, 2, 30)]
    batches = training.padded_batches(examples, 18)
    assert [[len(one.ids) for one in batch] for batch in batches] == [[2, 2, 3], [8, 9], [30]]


def test_the_worst_figure_is_quoted() -> None:
    def result(exact: int, refused: int, called: int) -> dict:
        shares = dict.fromkeys(held_out.SHARES, 100) | {
            "exact": exact,
            "false_refusals": refused,
            "false_calls": called,
        }
        shares = {name: {"count": count, "total": 100} for name, count in shares.items()}
        return {"model": "m", "seed": 0, "test_seed": 0, "sentences": "known", **shares}

    worst = held_out.worst_of([result(97, 1, 4), result(95, 3, 0)])
    assert [share.count for share in worst] == [95, 3, 4]


@pytest.mark.parametrize("make", grammar.ENGINES, ids=lambda make: make.name)
def test_every_engine_is_held_to_the_same_calls(make) -> None:
    """References inside a tool and objects that take no unknown property, as Grammar reads them."""
    tokenizer = load_tokenizer(find_model(TINY).path)
    tokenizer.add_tokens([tag for tag in TAGS if tag not in tokenizer.control])
    point = {"type": "object", "properties": {"x": {"type": "integer"}, "next": {"$ref": "#/$defs/point"}}}
    route = {"type": "object", "properties": {"start": {"$ref": "#/$defs/point"}}, "$defs": {"point": point}}
    tools = [
        {"name": "draw", "parameters": route},
        {"name": "stop", "parameters": {"type": "object", "additionalProperties": True}},
    ]
    right = [Call("draw", {"start": {"x": 1, "next": {"x": 2}}}), Call("stop", {"now": True})]
    wrong = [Call("draw", {"start": {"x": 1, "next": {"y": 2}}}), Call("draw", {"x": 1})]
    pytest.importorskip(make.name)
    engine = make(tokenizer)
    grammar._follow(engine, (tools, right), tokenizer, torch.zeros(1, tokenizer.size))
    assert engine.times.refused == []
    for call in wrong:
        engine.times.refused.clear()
        grammar._follow(engine, (tools, [call]), tokenizer, torch.zeros(1, tokenizer.size))
        assert len(engine.times.refused) == 1, call


@pytest.mark.parametrize("main", [grammar.main, held_out.main, verify.main])
def test_a_file_that_cannot_be_written_is_told_before_the_work(
    main, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "figures.json"):
        assert run(main, *(["weights/tiny"] if main is verify.main else []), "--to", str(place)) == 2
        out = capsys.readouterr()
        assert f"{place}: no file can be written there" in out.err
        assert len(out.err.splitlines()) == 1
        assert out.out == ""
