"""An exported run is an ordinary transformers folder that computes what the adapter model computes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from transformers import AutoModelForCausalLM, AutoTokenizer

import minifc
from minifc import export
from minifc.tuning.lora import plain_vocabulary


@pytest.fixture
def exported(caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    to = tmp_path / "exported"
    assert run(export.main, str(caller), "--to", str(to), "--dtype", "float32", "--model", str(tiny)) == 0
    printed = capsys.readouterr().out
    assert "merged in float32: logits change by at most" in printed
    assert "stored in float32" in printed
    return to


def test_transformers_computes_the_adapter_models_logits(exported: Path, caller: Path, tiny: Path) -> None:
    model, tokenizer = minifc.load_model(tiny, torch.float32), minifc.load_tokenizer(tiny)
    minifc.load_adapter(model, tokenizer, caller)
    ids = torch.randint(0, tokenizer.size, (1, 100))
    theirs = AutoModelForCausalLM.from_pretrained(exported, attn_implementation="eager").eval()
    with torch.no_grad():
        expected, found = model(ids), theirs(ids).logits
    assert theirs.config.vocab_size == tokenizer.size
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_tokenizer_brings_its_template(exported: Path, caller: Path, tiny: Path) -> None:
    ours, theirs = minifc.load_tokenizer(exported), AutoTokenizer.from_pretrained(exported)
    tool = {"name": "find_song", "description": "Finds a song.", "parameters": {"type": "object", "properties": {}}}
    messages = [{"role": "user", "content": "Please find a song."}]
    rendered = minifc.render(messages, ours, [tool], "gemma", add_generation_prompt=True)
    ids = theirs.apply_chat_template(messages, tools=[tool], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == rendered.ids


def test_stops_and_card(exported: Path) -> None:
    generation = json.loads((exported / "generation_config.json").read_text())
    tokenizer = minifc.load_tokenizer(exported)
    assert set(generation["eos_token_id"]) == {tokenizer.eos_id, tokenizer.end_of_turn_id}
    card = (exported / "README.md").read_text()
    assert card.startswith("---\nbase_model: ")
    assert "license: " in card


def test_bfloat16_says_what_it_costs(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(export.main, str(caller), "--to", str(tmp_path / "half"), "--model", str(tiny)) == 0
    assert "stored in bfloat16: logits change by at most" in capsys.readouterr().out
    assert minifc.load_model(tmp_path / "half").model.norm.weight.dtype == torch.bfloat16


def test_a_run_names_its_format_and_base(caller: Path, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(caller, folder / "adapter")
    for settings in ("{}", "[]", '{"run": 5}', '{"run": {"format": "chatml"}}'):
        (folder / "config.json").write_text(settings)
        assert run(export.main, str(folder), "--to", str(tmp_path / "to"), "--model", str(tiny)) == 2
    (folder / "config.json").write_text('{"run": {"format": "course"}}')
    for name in (folder, folder / "adapter"):
        adapter, base, format = export.read_run(str(name))
        assert (adapter, base, format) == (folder / "adapter", "weights/tiny", "course")


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_the_adapters_own_format_is_the_templates(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(caller, tmp_path / "adapter")
    for record, written in (("{}", "user"), ('{"format": "course"}', "human")):
        (folder / "minifc.json").write_text(record)
        to = tmp_path / written
        assert run(export.main, str(folder), "--to", str(to), "--model", str(tiny)) == 0
        assert ("does not say which turns" in capsys.readouterr().out) == (written == "user")
        theirs = AutoTokenizer.from_pretrained(to)
        prompt = theirs.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
        assert f"<start_of_turn>{written}\n" in prompt


def test_the_base_is_of_the_revision_that_was_trained_on(caller: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(caller, tmp_path / "adapter")
    change_config(folder, base_model_name_or_path="google/gemma-2-2b-it", revision="0123abc")
    assert export.read_run(str(folder))[1] == "google/gemma-2-2b-it@0123abc"
    card = export.model_card("caller", "google/gemma-2-2b-it@0123abc")
    assert "base_model: google/gemma-2-2b-it\n" in card
    assert "revision 0123abc" in card
    change_config(folder, base_model_name_or_path=str(tmp_path))
    assert export.read_run(str(folder))[1] == str(tmp_path)


def test_an_adapter_that_names_no_base_can_be_told(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(caller, tmp_path / "adapter")
    for base, why in ((None, "give --model"), ("", "give --model"), (5, "not a string")):
        change_config(folder, base_model_name_or_path=base)
        assert run(export.main, str(folder), "--to", str(tmp_path / "to")) == 2
        assert why in capsys.readouterr().err
    change_config(folder, base_model_name_or_path=None)
    assert run(export.main, str(folder), "--to", str(tmp_path / "to"), "--model", str(tiny)) == 0


@pytest.mark.parametrize("merge_to", [None, torch.bfloat16])
def test_one_layer_at_a_time_is_held_in_fp32(caller: Path, tiny: Path, merge_to: torch.dtype | None) -> None:
    model, tokenizer = minifc.load_model(tiny), minifc.load_tokenizer(tiny)
    minifc.load_adapter(model, tokenizer, caller)
    whole, ids = minifc.load_model(tiny, torch.float32), torch.randint(0, tokenizer.size, (1, 30))
    minifc.load_adapter(whole, minifc.load_tokenizer(tiny), caller)
    plain_vocabulary(model.model.embed_tokens).float()

    def in_fp32() -> list[bool]:
        layers = [layer.mlp.up_proj for layer in model.model.layers]
        return [getattr(layer, "base", layer).weight.dtype == torch.float32 for layer in layers]

    def note(module: Any, inputs: Any, output: Any) -> None:
        counts.append(sum(in_fp32()))

    counts: list[int] = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(note)
    with torch.no_grad():
        assert torch.allclose(export.logits(model, ids, merge_to), whole(ids), atol=1e-5)
    assert counts == [1] * len(model.model.layers)
    assert not any(in_fp32())


def test_what_cannot_be_exported_leaves_nothing(
    caller: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    for argv, why in (
        ([str(tiny)], "adapter_config.json: not found"),
        (["nowhere"], "no such folder"),
        ([str(caller), "--model", "nowhere"], "no such folder"),
    ):
        assert run(export.main, *argv, "--to", str(to)) == 2
        assert why in capsys.readouterr().err
        assert not to.exists()
    to.mkdir()
    (to / "mine.txt").write_text("mine")
    assert run(export.main, str(caller), "--to", str(to)) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in to.iterdir()] == ["mine.txt"]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's client, about its HTTP library
def test_pushing_brings_every_file_to_the_hub(
    caller: Path, tiny: Path, tmp_path: Path, fake_hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "pushed"
    argv = [str(caller), "--to", str(to), "--model", str(tiny), "--push", "who/caller"]
    assert run(export.main, *argv) == 0
    assert "pushed: " in capsys.readouterr().out
    assert fake_hub.pushed == {path.name: path.read_bytes() for path in to.iterdir()}


def test_what_was_exported_stays_where_the_hub_refuses_it(
    caller: Path, tiny: Path, tmp_path: Path, fake_hub: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "refused"
    fake_hub.may_write = False
    argv = [str(caller), "--to", str(to), "--model", str(tiny), "--push", "who/caller"]
    assert run(export.main, *argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --push who/caller: ")
    assert "hf auth login" in line
    assert minifc.load_model(to).config.vocab_size == minifc.load_tokenizer(to).size
    assert not fake_hub.pushed
