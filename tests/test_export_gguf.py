"""`minifc.export --gguf`: one file, which holds the same model, tokenizer and template."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from commands import run
from measured import measured

import minifc
from minifc import export, export_gguf
from minifc.data import toy
from minifc.loading import locate
from minifc.text.calls import TAGS
from minifc.text.template import stop_ids
from minifc.tuning.adapter import save_adapter
from minifc.tuning.lora import ATTENTION, VOCABULARY

# Reads prompts from standard input, and answers with what llama.cpp writes, and how it cuts their texts.
LLAMA_CPP = """
import {getLlama} from 'node-llama-cpp';
import {readFileSync, writeSync} from 'fs';
const {file, cases, stops} = JSON.parse(readFileSync(0));
const llama = await getLlama({build: 'never', gpu: false, logLevel: 'error'});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: 1024, threads: 1});
const answers = [];
for (const {ids, text} of cases) {
    const sequence = context.getSequence();
    const written = [];
    for await (const token of sequence.evaluate(ids, {temperature: 0})) {
        if (stops.includes(token) || written.push(token) === 120) break;
    }
    sequence.dispose();
    answers.push({written, ids: model.tokenize(text, true), text: model.detokenize(written, false)});
}
writeSync(1, JSON.stringify(answers));
process.exit(0);
"""


def write(caller: Path, tiny: Path, to: Path, kind: str, *more: str) -> Path:
    assert run(export.main, str(caller), "--to", str(to), "--gguf", kind, "--model", str(tiny), *more) == 0
    return to / f"{to.name}-{kind}.gguf"


def merged(caller: Path, tiny: Path) -> tuple[Any, Any]:
    model, tokenizer = minifc.load_model(tiny, torch.float32), minifc.load_tokenizer(tiny)
    minifc.load_adapter(model, tokenizer, caller)
    return model, tokenizer


@pytest.mark.parametrize(
    ("kind", "within"), [("f32", 1e-5), ("bf16", 0.03), ("f16", 5e-3), ("q8_0", 0.06), ("q4_0", 0.5)]
)
def test_the_file_is_the_merged_model(caller: Path, tiny: Path, tmp_path: Path, kind: str, within: float) -> None:
    file = write(caller, tiny, tmp_path / "out", kind, "--dtype", "float32")
    assert sorted(path.name for path in file.parent.iterdir()) == ["Modelfile", "README.md", file.name]
    card = (file.parent / "README.md").read_text(encoding="utf-8")
    assert "transformers" not in card
    assert export.TRAINING_TEMPLATE not in card  # which is not there
    (model, tokenizer), loaded = merged(caller, tiny), minifc.load(file, dtype="float32")
    assert (loaded.tokenizer.size, loaded.format) == (tokenizer.size, "gemma")
    assert set(tokenizer.control) == set(loaded.tokenizer.control)
    assert {loaded.tokenizer.control[tag] for tag in TAGS} == {tokenizer.control[tag] for tag in TAGS}
    largest = 0.0
    for case in toy.held_out_cases(3, seed=0):
        ids = minifc.render(case.messages(), tokenizer, case.tools, "gemma").ids
        assert minifc.render(case.messages(), loaded.tokenizer, case.tools, "gemma").ids == ids
        assert minifc.render(case.messages(), loaded.tokenizer, case.tools, "own").ids == ids
        with torch.no_grad():
            expected, found = model(torch.tensor([ids])), loaded.model(torch.tensor([ids]))
        largest = max(largest, float((found - expected).abs().max() / expected.abs().max()))
    assert measured(largest) < within


def test_it_is_a_file_as_llama_cpp_writes_it(caller: Path, tiny: Path, tmp_path: Path) -> None:
    file = write(caller, tiny, tmp_path / "out", "q8_0")
    reader = gguf.GGUFReader(file)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert {kind for name, kind in kinds.items() if "norm" in name} == {"F32"}
    assert {kind for name, kind in kinds.items() if "norm" not in name} == {"Q8_0"}
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    types = dict(zip(tokens, reader.fields["tokenizer.ggml.token_type"].contents(), strict=True))
    assert types["<tool_call>"] == gguf.TokenType.USER_DEFINED  # else programs would not see it
    assert types["<end_of_turn>"] == gguf.TokenType.CONTROL
    assert types["<0x0A>"] == gguf.TokenType.BYTE
    assert "tool_calls" in reader.fields["tokenizer.chat_template"].contents()


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_llama_cpp_writes_the_same_tokens(caller: Path, tiny: Path, tmp_path: Path, kind: str) -> None:
    """And cuts the prompts into the same ids, and shows the tags of calls. NODE_PATH says where npm has put it."""
    place = os.environ.get("NODE_PATH", "")
    if not shutil.which("node") or not (Path(place) / "node-llama-cpp").is_dir():
        pytest.skip("node has no node-llama-cpp: npm install node-llama-cpp, and NODE_PATH=.../node_modules")
    file = write(caller, tiny, tmp_path / "out", kind)
    loaded = minifc.load(file, dtype="float32")
    stops = stop_ids(loaded.tokenizer, "gemma")
    cases, expected = [], []
    for case in toy.held_out_cases(8, seed=1):
        prompt = minifc.render(case.messages()[:1], loaded.tokenizer, case.tools, "gemma", add_generation_prompt=True)
        cases.append({"ids": prompt.ids, "text": prompt.text.removeprefix("<bos>")})
        (new,) = minifc.generate(loaded.model, prompt.ids, 120, stops)
        expected.append({"written": new, "ids": prompt.ids[1:], "text": loaded.tokenizer.decode(new)})
    given = json.dumps({"file": str(file), "cases": cases, "stops": stops})
    (tmp_path / "ask.mjs").write_text(LLAMA_CPP)
    (tmp_path / "node_modules").symlink_to(place)
    command = ["node", str(tmp_path / "ask.mjs")]
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == expected
    assert any("<tool_call>" in case["text"] for case in expected)


def test_a_file_in_another_format_says_so(caller: Path, tiny: Path, tmp_path: Path) -> None:
    file = write(caller, tiny, tmp_path / "out", "f16", "--format", "course")
    assert locate(file).format == "course"


def test_a_head_of_its_own_is_refused(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """llama.cpp would find a tensor too many."""
    model, tokenizer = minifc.load_model(tiny, torch.float32), minifc.load_tokenizer(tiny)
    minifc.add_lora(model, r=2, targets=(*ATTENTION, *VOCABULARY))
    save_adapter(model, tokenizer, tmp_path / "adapter", str(tiny), "course")
    assert run(export.main, str(tmp_path / "adapter"), "--to", str(tmp_path / "out"), "--gguf", "f16") == 2
    assert "--gguf: this adapter makes the head a table of its own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_it_is_refused_before_the_work(
    caller: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = (str(caller), "--to", str(tmp_path / "out"), "--gguf", "f16")
    assert run(export.main, *argv, "--adapter") == 2
    assert "--gguf: holds a whole model" in capsys.readouterr().err
    monkeypatch.setattr(export_gguf.importlib.util, "find_spec", lambda name: None)
    assert run(export.main, *argv) == 2
    assert "pip install -e '.[gguf]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
