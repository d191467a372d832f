"""`minifc.verify` passes on what is exact and names the first layer of what is not."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from commands import run
from safetensors.torch import load_file, save_file

import minifc
from minifc import verify

QUICK = ["--tokens", "90", "--new", "12"]  # past the window of 64


def test_the_embedded_model_and_its_adapter_pass(
    tiny: Path, caller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--adapter", str(caller)]):
        assert run(verify.main, str(tiny), *QUICK, *options, "--to", str(tmp_path / "table.json")) == 0
        assert "pass: within 1e-04" in capsys.readouterr().out
        table = json.loads((tmp_path / "table.json").read_text())
        layers = ["embedding", "layer 0", "layer 1", "layer 2", "last layer and norm", "logits", "decoding"]
        assert [row["name"] for row in table] == layers
        assert all(0 <= row["share"] < 1e-4 and row["largest"] > 0 for row in table)


def test_an_adapter_without_a_tokenizer_beside_it_is_compared(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PEFT saves none unless told; without new tokens none is needed."""
    model = minifc.load_model(tiny)
    minifc.add_lora(model, r=2)
    minifc.save_adapter(model, minifc.load_tokenizer(tiny), tmp_path / "adapter")
    for path in (tmp_path / "adapter").glob("*token*"):
        path.unlink()
    assert run(verify.main, str(tiny), *QUICK, "--adapter", str(tmp_path / "adapter")) == 0
    assert "pass: within 1e-04" in capsys.readouterr().out


def test_the_rows_of_new_tokens_are_in_the_prompt() -> None:
    assert {97, 98, 99} <= set(verify.prompt_ids(100, 20, 0, [97, 98, 99])[0].tolist())
    ids = verify.prompt_ids(100, 3, 0, [97, 98, 99])
    assert ids[0].tolist()[:2] == [2, 97]
    assert ids.shape == (1, 3)


def test_without_peft_it_is_said(
    tiny: Path, caller: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert run(verify.main, str(tiny), *QUICK, "--adapter", str(caller)) == 2
    assert "error: verify compares with transformers, and PEFT; pip install" in capsys.readouterr().err


def test_the_first_layer_that_differs_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = minifc.load_model

    def load_wrongly(folder: Path, dtype: torch.dtype | None = None) -> minifc.gemma.model.Gemma:
        model = load(folder, dtype)
        with torch.no_grad():
            model.get_submodule("model.layers.1.mlp.gate_proj").weight.mul_(1.1)
        return model

    monkeypatch.setattr(verify, "load_model", load_wrongly)
    assert run(verify.main, str(tiny), *QUICK) == 2
    captured = capsys.readouterr()
    assert "differ first at layer 1, by" in captured.err
    assert "pass" not in captured.out


def test_weights_that_are_not_numbers_do_not_pass(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert run(verify.main, str(folder), *QUICK) == 2
    assert "model.layers.2.mlp.up_proj.weight holds a number that is not finite" in capsys.readouterr().err


def test_an_adapter_for_another_model_is_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verify.main, str(tiny), "--adapter", str(tiny)) == 2
    assert "adapter_config.json" in capsys.readouterr().err
