"""Every test of test_known_failures.py fails when its defence is taken out: tried here, one by one.

Each trial is a copy of the package with one piece of source replaced, and the tests run on the copy.
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import Forks

ROOT = Path(__file__).parents[1]
Run = Callable[[str], subprocess.CompletedProcess[str]]

WITHOUT_27 = "(weight + (first @ second * self.scaling).to(weight.dtype))"
TURNS = "text/dialects/turns.jinja"
# test, file, the defence, what stands there without it
TRIALS = [
    ("test_01", "tuning/adapter.py", "= new.rows.detach()", "= new.table()"),
    ("test_02", "tuning/vocab.py", "table[list(self.ids)] = self.rows.data.to(base.dtype)", "pass"),
    ("test_03", "tuning/vocab.py", "self.rows.to(old.dtype))", "self.rows.detach().to(old.dtype))"),
    ("test_03", "tuning/vocab.py", "hidden @ self.rows.to(", "hidden @ self.rows.detach().to("),
    ("test_04", "tuning/adapter.py", "        extend(model, ids, rows)", "        pass"),
    ("test_05", "tuning/vocab.py", "[ids].float().mean(0)", "[ids].float().mean(0) + torch.randn(())"),
    ("test_06", "tuning/loss.py", "max(1, CHUNK_ELEMENTS // int(vocabulary.size))", "len(hidden)"),
    ("test_07_no", "devices.py", 'and device.type == "cuda"', "and False"),
    ("test_07_no", "gemma/model.py", "h = x.float()", "h = x"),
    ("test_07_training", "tuning/loop.py", "if not math.isfinite(loss):", "if False:"),
    ("test_08", "gemma/model.py", "(keys <= queries) & (keys >= 0)", "keys <= queries"),
    ("test_09", TURNS, "message.role in ['system', 'developer']", "false"),
    (
        "test_10",
        TURNS,
        "{{- ns.written ~ turn_end }}{%- endgeneration %}",
        "{{- ns.written }}{%- endgeneration %}{{- turn_end }}",
    ),
    ("test_10", "text/template.py", "(tokenizer.eos_id, tokenizer.end_of_turn_id)", "(tokenizer.eos_id,)"),
    ("test_10", "gemma/config.py", "if self.pad_token_id in self.eos_token_id:", "if False:"),
    ("test_11", "text/template.py", "encode(pending)", "encode(pending, add_bos=True)"),
    ("test_12_packed", "gemma/model.py", "mask &= documents[:, :, None] == documents[:, None, :]", "pass"),
    ("test_12_a", "data/examples.py", "len(mask) if cut else 0", "len(mask)"),
    ("test_13", "cli.py", "if unknown:", "if False:"),
    ("test_14", "hub_answers.py", "except errors.GatedRepoError:", "except ZeroDivisionError:"),
    ("test_15", "data/learning.py", "if not found.tags[token]:", "if False:"),
    ("test_15", "data/learning.py", "in found.unknown.items():", "in ():"),
    ("test_15", "data/learning.py", "return named or list(found.tags)", "return named or ['<tool_response>']"),
    ("test_16", "tuning/loop.py", "self.device)) / supervised", "self.device)) / batch.supervised / len(batches)"),
    ("test_17", "data/examples.py", "if not any(piece.learned for piece in written):", "if False:"),
    ("test_18", "gemma/cache.py", "min(config.sliding_window,", "min(config.sliding_window - 1,"),
    ("test_19", "tuning/loop.py", 'torch.set_rng_state(tensors["rng.cpu"])', "pass"),
    ("test_19", "tuning/loop.py", "optimizer_of[parameter].state[parameter] = {", "_ = {"),
    ("test_20", "text/template.py", "encode(pending)", "encode(pending, control_tokens=True)"),
    ("test_21", "text/calls.py", "value = read_value(text)\n", 'value = read_value(re.findall("{.*?}", text)[0])\n'),
    ("test_21", "text/calls.py", "return _as_json(ast.literal_eval(tree))", "return eval(text)"),
    ("test_21", "text/template.py", "part in names, learned))", "part in names, True))"),
    ("test_22", "text/messages.py", 'raise TemplateError(f"{where}: unknown role', "return {}  #"),
    ("test_23", "tuning/vocab.py", "def project(self, hidden: Tensor)", "def projected(self, hidden: Tensor)"),
    ("test_24", "tuning/lora.py", "table = (EMBEDDING, HEAD) if EMBEDDING in modules else ()", "table = ()"),
    ("test_25", "tuning/adapter.py", "= new.rows.detach()", "= new.table()"),
    ("test_26", "tuning/adapter.py", "        extend(model, ids, rows)", "        pass"),
    ("test_27", "tuning/lora.py", "torch.addmm(weight.float(), first, second, alpha=self.scaling)", WITHOUT_27),
    ("test_28", "text/messages.py", '{"role": ROLES[role]}', '{"role": role}'),
    ("test_32", "text/turns.py", "if tokenizer.control.keys() >= {dialect.begin, dialect.end}:", "if False:"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for name in ("minifc", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "weights").symlink_to(ROOT / "weights")
    return folder


@pytest.fixture(scope="module")
def run(copy: Path) -> Iterator[Run]:
    """Run tests of test_known_failures.py on the copy."""
    forks = Forks(copy)
    # Plain assertions: pytest cannot rewrite those of plugins that are imported already, and warns.
    options = ["-q", "-p", "no:cacheprovider", "--assert=plain", "tests/test_known_failures.py", "-k"]
    yield lambda tests: forks.run(copy, "-m", "pytest", *options, tests)
    forks.close()


@pytest.mark.slow
def test_every_known_failure_has_a_trial(run: Run) -> None:
    source = (ROOT / "tests" / "test_known_failures.py").read_text()
    rows = {line[4:11] for line in source.splitlines() if line.startswith("def test_") and line[9:11].isdigit()}
    assert rows == {trial[0][:7] for trial in TRIALS}
    result = run("test_")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRIALS, ids=[f"{trial[0]}-{number}" for number, trial in enumerate(TRIALS)])
def test_without_its_defence_the_test_fails(run: Run, copy: Path, trial: tuple[str, str, str, str]) -> None:
    name, file, defence, without = trial
    path = copy / "minifc" / file
    source = path.read_text()
    assert source.count(defence) == 1
    path.write_text(source.replace(defence, without))
    try:
        result = run(name)
    finally:
        path.write_text(source)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(r"^\d+ failed", result.stdout, flags=re.M), result.stdout + result.stderr  # by a test
