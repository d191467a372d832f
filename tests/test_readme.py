"""What README says is so: its commands, its Python, its file tree."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from commands import run

from minifc import chat

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
    for command in re.findall(r"python -m minifc\.(\w+(?:\.\w+)*)", README):
        path = ROOT / "minifc" / command.replace(".", "/")
        places = (path.with_name(f"{path.name}.py"), path / "__main__.py")
        assert any(place.is_file() for place in places), command


def test_the_conversation_is_what_chat_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    block = README[README.index("<!-- chat -->") : README.index("<!-- end -->", README.index("<!-- chat -->"))]
    lines = [line[4:] for line in block.splitlines() if line.startswith("    ")]
    questions = [line[2:] for line in lines if line.startswith("> ")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(questions) + "\n"))
    assert run(chat.main) == 0
    assert capsys.readouterr().out.splitlines() == [line for line in lines if not line.startswith("> ")]
