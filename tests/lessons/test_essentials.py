"""Take out any one essential of the forward pass, and a lesson's claim about behaviour fails.

Each trial is a copy of the package with one piece of its source replaced. The lesson runs on the copy and must fail on
an assertion before the section that holds the package to the lesson's plain version: equality finds every slip, but a
reader learns what a part is for only from what goes wrong without it.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Forks

ROOT = Path(__file__).resolve().parents[2]
EQUALITY = "The package's own"
ATTENDED = "self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), rope, mask, cache))"
THOUGHT = "self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))"

# essential, what stands in minifc/gemma/model.py, what stands there without it, lessons and sections that notice
TRIALS = [
    (
        "embedding scale",
        "x = x * torch.tensor(self.config.hidden_size**0.5, dtype=x.dtype)",
        "pass",
        {"02": "Louder at the door"},
    ),
    ("1 + w", "(1.0 + self.weight.float())", "self.weight.float()", {"02": "A norm", "04": "The block"}),
    (
        "division by the size",
        "h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)",
        "pass",
        {"02": "A norm", "04": "The block"},
    ),
    (
        "rope",
        "rotate(q, *rope) * c.query_pre_attn_scalar**-0.5, rotate(k, *rope)",
        "q * c.query_pre_attn_scalar**-0.5, k",
        {"02": "Where a token stands", "03": "Order"},
    ),
    (
        "rope's angles",
        "angles = torch.cat((angles, angles), dim=-1)",
        "angles = 0 * torch.cat((angles, angles), dim=-1)",
        {"02": "Where a token stands", "03": "Order"},
    ),
    ("rope of the queries", "rotate(q, *rope) *", "q *", {"02": "Where a token stands"}),
    ("rope of the keys", ", rotate(k, *rope)", ", k", {"02": "Where a token stands"}),
    ("query scale", " * c.query_pre_attn_scalar**-0.5", "", {"03": "Why scores are scaled"}),
    (
        "attention soft-cap",
        "scores = softcap(scores.float(), config.attn_logit_softcapping)",
        "scores = scores.float()",
        {"03": "The soft-cap"},
    ),
    (
        "window",
        "SLIDING: self.config.sliding_window, FULL",
        "SLIDING: None, FULL",
        {"03": "Who may be seen", "06": "A ring"},
    ),
    ("window, in the mask", "if window is not None:", "if False:", {"03": "Who may be seen", "06": "A ring"}),
    ("looking back only", "(keys <= queries)", "(keys <= queries + 10**9)", {"03": "Who may be seen"}),
    ("norm before attention", ATTENDED, ATTENDED.replace("self.input_layernorm(x)", "x"), {"04": "The block"}),
    (
        "norm after attention",
        ATTENDED,
        "self.self_attn(self.input_layernorm(x), rope, mask, cache)",
        {"04": "The block"},
    ),
    ("norm before feed-forward", THOUGHT, "self.post_feedforward_layernorm(self.mlp(x))", {"04": "The block"}),
    ("norm after feed-forward", THOUGHT, "self.mlp(self.pre_feedforward_layernorm(x))", {"04": "The block"}),
    ("last norm", "return self.norm(x)", "return x", {"04": "Down the road"}),
    (
        "final soft-cap",
        "softcap(self.model.embed_tokens.project(hidden).float(), self.config.final_logit_softcapping)",
        "self.model.embed_tokens.project(hidden).float()",
        {"04": "A score for every piece"},
    ),
    ("residual of attention", f"x = x + {ATTENDED}", f"x = {ATTENDED}", {"04": "The block"}),
    ("residual of feed-forward", f"return x + {THOUGHT}", f"return {THOUGHT}", {"04": "The block"}),
]
CASES = [(name, old, new, lesson, section) for name, old, new, found in TRIALS for lesson, section in found.items()]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(tmp_path_factory.mktemp("printed"))
    yield forks
    forks.close()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "old", "new", "number", "section"), CASES, ids=[f"{c[0]}-{c[3]}" for c in CASES])
def test_a_claim_about_behaviour_fails(
    name: str, old: str, new: str, number: str, section: str, forks: Forks, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (script,) = (ROOT / "lessons").glob(f"{number}_*.py")
    shutil.copytree(ROOT / "minifc", tmp_path / "minifc", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "minifc/gemma/model.py"
    source = file.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{old} is not in {file.name}, or more than once"
    file.write_text(source.replace(old, new), encoding="utf-8")
    result = forks.run(tmp_path, str(script))
    assert result.returncode != 0, f"{script.name} does not notice"
    assert re.search(r"^AssertionError", result.stderr, flags=re.M), result.stderr[-2000:]
    line = int(re.findall(rf"{script.name}\", line (\d+)", result.stderr)[0])
    lines = script.read_text(encoding="utf-8").splitlines()
    headings = [text.removeprefix("# ## ") for text in lines[:line] if text.startswith("# ## ")]
    with capsys.disabled():
        print(f"\n  {name:<25} {number}, line {line:>3}, {headings[-1]}: {lines[line - 1].strip()}", end=" ")
    assert EQUALITY not in headings, "only the equality at the end notices"
    assert headings[-1] == section
