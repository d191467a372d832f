"""What README says is so: its commands, its Python, its file tree, its figures."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

from minifc import bench

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_prints_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert "Call(name='find_song', arguments={'singer': 'Nina'})" in out.getvalue()


def test_every_module_is_in_the_file_tree() -> None:
    tree = README[README.index("```\nminifc/") :]
    for path in (ROOT / "minifc").iterdir():
        if path.name.startswith("__"):
            continue
        assert f"{path.name}/" in tree or path.name in tree, path.name


def test_commands_exist() -> None:
    for command in re.findall(r"python -m minifc\.(\w+)", README):
        assert (ROOT / "minifc" / f"{command}.py").is_file()


def test_quoted_figures_are_the_measured_ones() -> None:
    """README's table is what bench made of its own records."""
    results = json.loads((ROOT / "weights" / "held-out.json").read_text())
    for row in bench.summary(results):
        assert "| " + " | ".join(row) + " |" in README
    taught = [r for r in results if r["model"] == bench.TAUGHT]
    assert len({(r["seed"], r["test_seed"]) for r in taught}) == 9
    assert all(r["exact"]["total"] >= 200 and r["false_calls"]["total"] >= 200 for r in taught)
