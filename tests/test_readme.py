"""What README says is so: its commands, its Python, its file tree."""

import contextlib
import io
import re
from pathlib import Path

import pytest

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
        places = (ROOT / "minifc" / f"{command}.py", ROOT / "minifc" / command / "__main__.py")
        assert any(place.is_file() for place in places), command
