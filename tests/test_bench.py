"""The benchmark's own arithmetic and its path from end to end, on very little training."""

import json
from pathlib import Path

import pytest
import torch
from commands import run

from minifc import verify
from minifc.bench import __main__ as bench
from minifc.bench import grammar, held_out
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
    tools = [{"name": "draw", "parameters": route}, {"name": "stop", "parameters": {"type": "object"}}]  # any argument
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
