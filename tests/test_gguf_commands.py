"""A GGUF file goes wherever a model folder goes: to every command, and as the base of an adapter."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from transformers import AutoModelForCausalLM

import minifc
from minifc import audit, chat, devices, evaluate, export, train, verify
from minifc.data import toy
from minifc.errors import CheckpointError
from minifc.hub import find_model, split_revision
from minifc.loading import base_name, locate

QUESTION = "Please find a song with singer Nina."


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Conversations of the embedded model's world."""
    path = tmp_path / "rows.jsonl"
    cases = toy.training_cases(12, seed=3)
    path.write_text("".join(json.dumps({"messages": case.messages(), "tools": case.tools}) + "\n" for case in cases))
    return path


@pytest.fixture
def trained(tiny_gguf: Path, rows: Path, tmp_path: Path) -> Path:
    """A run of two steps on the file."""
    folder = tmp_path / "run"
    options = ["--max-steps", "2", "--cases", "0", "--dtype", "float32", "--length", "1024"]
    assert run(train.main, "--model", str(tiny_gguf), "--data", str(rows), "--to", str(folder), *options) == 0
    return folder


def test_the_file_is_found_by_its_name(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_model(str(tiny_gguf))
    assert (source.name, source.path, source.commit) == (str(tiny_gguf), tiny_gguf, "")
    monkeypatch.chdir(tiny_gguf.parent)
    assert find_model("tiny.gguf").path == Path("tiny.gguf")
    for name in ("none.gguf", "owner/none.gguf"):  # which is no name of a repository
        with pytest.raises(CheckpointError, match=rf"^{name}: no such file$"):
            find_model(name)


def test_a_path_with_an_at_sign_names_no_revision(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    name = "models/tiny@8bit.gguf"
    Path(name).symlink_to(tiny_gguf)
    assert split_revision(name) == (name, "")
    model, tokenizer = minifc.load_model(name), minifc.load_tokenizer(name)
    minifc.add_lora(model, r=2)
    minifc.save_adapter(model, tokenizer, tmp_path / "adapter", name)
    assert base_name(tmp_path / "adapter") == name
    assert minifc.load(tmp_path / "adapter").base.path == Path(name)


def test_it_is_the_model_of_the_folder(tiny_gguf: Path, tiny: Path) -> None:
    ours, theirs = minifc.load(tiny_gguf), minifc.load(tiny, dtype=torch.bfloat16)
    assert ours.format == "gemma"
    assert ours.model.config == theirs.model.config
    for name, parameter in theirs.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], parameter), name
    for case in toy.held_out_cases(20, seed=0):
        text = json.dumps(case.messages()) + "<start_of_turn>\n<unused3>"
        for control_tokens in (False, True):
            expected = theirs.tokenizer.encode(text, control_tokens=control_tokens)
            assert ours.tokenizer.encode(text, control_tokens=control_tokens) == expected


@pytest.mark.parametrize("fast", [False, True])
def test_quantised_weights_become_what_the_processor_is_fast_at(
    tiny_quantised: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(devices, "computes_bfloat16", lambda device: fast)
    expected = torch.bfloat16 if fast else torch.float32
    assert minifc.load(tiny_quantised, device="cpu").model.model.norm.weight.dtype == expected
    assert minifc.load(tiny_quantised, device="cpu", dtype="float16").model.model.norm.weight.dtype == torch.float16


def test_what_the_processor_is_fast_at_is_torch_s_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for avx512, amx, expected in [(False, False, False), (True, False, True), (False, True, True)]:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda answer=avx512: answer)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda answer=amx: answer)
        assert devices.computes_bfloat16(cpu) is expected
        assert devices.pick_dtype("auto", None, cpu) == (torch.bfloat16 if expected else torch.float32)
        assert devices.pick_dtype("auto", torch.bfloat16, cpu) == torch.bfloat16  # as stored
        assert ("this processor has no bfloat16" in capsys.readouterr().err) is not expected
    for supported in (False, True):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, answer=supported: answer)
        assert devices.pick_dtype("auto", None, cuda) == (torch.bfloat16 if supported else torch.float32)


@pytest.mark.parametrize("which", ["tiny_gguf", "tiny_quantised"])
def test_it_calls_tools_with_the_embedded_adapter(
    request: pytest.FixtureRequest, which: str, caller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even in 8 bits."""
    tools = tmp_path / f"songs_for_{which}.py"
    tools.write_text(
        'import minifc\n\n\n@minifc.tool\ndef find_song(singer: str) -> str:\n    """Use this to find a song."""\n'
        '    return f"Song of {singer}"\n'
    )
    file = str(request.getfixturevalue(which))
    options = ["--model", file, "--adapter", str(caller), "--dtype", "float32", "--tools", str(tools)]
    assert run(chat.main, *options, "--once", QUESTION, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (call,) = [event["call"] for event in events if event["kind"] == "call"]
    assert call == {"name": "find_song", "arguments": {"singer": "Nina"}}
    capsys.readouterr()
    assert run(evaluate.main, *options[:6], "--cases", "8", "--json") == 0
    exact = json.loads(capsys.readouterr().out)["embedded world"]["free"]["exact"]
    assert exact["count"] >= 3


def test_rows_are_audited_with_its_tokenizer(
    tiny_gguf: Path, tiny: Path, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for model in (tiny_gguf, tiny):
        assert run(audit.main, str(rows), "--model", str(model)) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_verify_compares_its_weights_with_transformers(
    tiny_quantised: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(verify.main, str(tiny_quantised), "--tokens", "90", "--new", "12") == 0
    assert "pass: within 1e-04" in capsys.readouterr().out


def test_an_adapter_trained_on_it_names_it_and_is_verified_and_exported(
    trained: Path, tiny_gguf: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = trained / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_gguf)
    assert json.loads((trained / "config.json").read_text())["run"]["model"] == str(tiny_gguf)
    assert (adapter / "tokenizer.model").is_file()
    located = locate(trained)
    assert (located.base.path, located.adapter) == (tiny_gguf, adapter)

    capsys.readouterr()
    assert minifc.load(trained, base=tiny, dtype=torch.float32).model  # the folder has the same weights
    assert "other weights" not in capsys.readouterr().err
    assert run(verify.main, str(tiny_gguf), "--adapter", str(adapter), "--tokens", "40", "--new", "4") == 0
    assert "pass: within 1e-04" in capsys.readouterr().out

    to = tmp_path / "to"
    assert run(export.main, str(trained), "--to", str(to), "--dtype", "float32") == 0
    ours, exported = minifc.load(trained, dtype=torch.float32), minifc.load(to)
    assert exported.tokenizer.control == ours.tokenizer.control
    theirs = AutoModelForCausalLM.from_pretrained(to, attn_implementation="eager").eval()
    ids = torch.tensor([minifc.render([{"role": "user", "content": QUESTION}], ours.tokenizer, [], "gemma").ids])
    with torch.no_grad():
        expected = ours.model(ids)
        for logits in (exported.model(ids), theirs(ids).logits):
            assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-5


def test_quantised_weights_are_exported_in_bfloat16(tiny_quantised: Path, caller: Path, tmp_path: Path) -> None:
    assert run(export.main, str(caller), "--model", str(tiny_quantised), "--to", str(tmp_path / "to")) == 0
    assert minifc.load(tmp_path / "to").model.model.norm.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "command",
    [
        lambda file: (chat.main, "--model", file, "--once", "x"),
        lambda file: (evaluate.main, "--model", file),
        lambda file: (train.main, "--model", file),
        lambda file: (verify.main, file),
        lambda file: (audit.main, "rows.jsonl", "--model", file),
    ],
    ids=["chat", "evaluate", "train", "verify", "audit"],
)
def test_a_damaged_file_is_one_line(
    command: Any, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:100_000])
    assert run(*command("cut.gguf")) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: cut.gguf: cut short: ")
    assert not (tmp_path / "runs").exists()
