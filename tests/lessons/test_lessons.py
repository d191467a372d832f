"""Every lesson runs, states no number that it does not show, and its checks tell right from wrong."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

from lessons import check
from minifc.text.tokenizer import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]

LESSONS = check.lessons()
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])")


def cells(lesson: str) -> list[tuple[bool, str]]:
    """The cells of a lesson: whether it is prose, and its text."""
    cells = []
    for cell in re.split(r"^# %%", (ROOT / "lessons" / f"{lesson}.py").read_text(encoding="utf-8"), flags=re.M)[1:]:
        head, _, body = cell.partition("\n")
        prose = "[markdown]" in head
        cells.append((prose, re.sub(r"^# ?", "", body, flags=re.M) if prose else body))
    return cells


def stated(prose: str) -> set[str]:
    """The numbers of two digits or more that a text states, without those in links, formulas and headings."""
    prose = re.sub(r"\[[^\]]*\](?:\([^)]*\))?|\$[^$]*\$|^#.*$|lessons?(?:\.check)? \d+", " ", prose, flags=re.M | re.I)
    return {number.rstrip(",.").replace(",", "") for number in NUMBER.findall(prose) if len(number) > 1}


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_runs_and_shows_the_numbers_it_states(lesson: str) -> None:
    script = f"lessons/{lesson}.py"
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONWARNINGS": "error::DeprecationWarning:__main__"}
    result = subprocess.run(
        [sys.executable, script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-3000:]
    code = "\n".join(text for prose, text in cells(lesson) if not prose)
    shown = (code + result.stdout).replace(",", "").replace("_", "")
    missing = {n for _, text in filter(lambda cell: cell[0], cells(lesson)) for n in stated(text) if n not in shown}
    assert not missing, f"{script} states these and neither prints nor asserts them: {sorted(missing)}"


@pytest.mark.parametrize("command", [["lessons/01_tokens.py"], ["-m", "lessons.check", "01"]])
def test_another_model_that_is_none_is_told_in_one_line(command: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"MINIFC_MODEL": str(tmp_path)}
    result = subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 2
    assert re.fullmatch(rf"error: MINIFC_MODEL={tmp_path}: no config\.json there; .*\n", result.stderr), result.stderr


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_is_a_lesson(lesson: str) -> None:
    parts = cells(lesson)
    prose = "\n".join(text for is_prose, text in parts if is_prose)
    assert parts[0][0]
    assert re.match(rf"# {int(lesson[:2])}\. ", parts[0][1].strip()), "it begins with its number and title"
    assert re.search(r"^\*[^*]+\?\*$", prose, flags=re.M), "its question stands alone in italics"
    assert "**Exercises**" in prose
    assert any("assert " in text for is_prose, text in parts if not is_prose)
    for text in (text for is_prose, text in parts if not is_prose):
        for call in re.findall(r"show\((.*?)\)\n", text, flags=re.S):
            assert "alt=" in call or call.count(",") >= 2, f"a picture without words: {call}"


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_checks_tell_right_from_wrong(lesson: str) -> None:
    checks = check.functions(check.load("checks", lesson))
    stubs = check.functions(check.load("exercises", lesson))
    solutions = check.functions(check.load("solutions", lesson))
    assert 2 <= len(checks) <= 3
    assert list(stubs) == list(checks)
    for exercise, judge in checks.items():
        assert stubs[exercise].__doc__
        assert check.verdict(judge, stubs[exercise]).startswith(check.NOT_BEGUN)
        assert check.verdict(judge, solutions[exercise]) == "", exercise
        wrong = {name: mistake for name, mistake in solutions.items() if name.startswith(f"{exercise}__")}
        assert len(wrong) >= 2, f"{exercise}: two mistakes that its check must find"
        for name, mistake in wrong.items():
            hint = check.verdict(judge, mistake)
            assert hint, f"{name} passes"
            assert not hint.startswith((check.NOT_BEGUN, "raised NameError")), f"{name}: {hint}"
    left = [name for name in solutions if name.split("__")[0] not in checks]
    assert not left, f"solutions of no exercise: {left}"


@pytest.mark.parametrize("argv", [["7x"], ["01", "99"], ["--lesson", "1"]])
def test_lessons_that_are_not_there_are_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(check.main, *argv) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert len(out.err.splitlines()) == 1
    assert ("there are 01, 02" in out.err) == (argv[0] != "--lesson")


def test_exercises_that_are_left_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(check.main, "1") == 1
    assert capsys.readouterr().out.startswith("01_tokens\n  ✗ oldest_pair: not begun")


def test_gemmas_pieces_in_lesson_9_are_its_tokenizer_s(shared: Path) -> None:
    """The lesson runs on the embedded model and can only quote them."""
    lesson = (ROOT / "lessons" / "09_new_tokens.py").read_text(encoding="utf-8")
    text, pieces = (
        ast.literal_eval(re.search(rf"^{name} = ([^#\n]+)", lesson, re.M)[1])  # type: ignore[index]
        for name in ("BETWEEN", "OFFICIAL")
    )
    tokenizer = load_tokenizer(shared / "gemma-2-2b-it")
    assert [tokenizer.decode([id_]) for id_ in tokenizer.encode(text)] == pieces
