"""Imports run downwards, without a circle, and the drawing of the rooms shows them as they are."""

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import house
import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_the_drawing_is_of_the_package_as_it_is() -> None:
    assert house.DRAWING.read_text(encoding="utf-8") == house.draw(ROOT / "minifc"), "run python tests/house.py"


def test_every_arrow_of_the_drawing_runs_down() -> None:
    svg = "{http://www.w3.org/2000/svg}"
    arrows = [path.get("d") for path in ET.parse(house.DRAWING).getroot().findall(f"{svg}path")]
    assert len(arrows) == len(house.without_detours(house.room_imports(ROOT / "minifc"))) > 8
    for arrow in arrows:
        points = [tuple(map(float, point.lstrip("MC").split(","))) for point in arrow.split()]
        assert points[-1][1] > points[0][1] + 10


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("gemma/model.py", "from minifc.tuning.lora import Lora", "gemma/model.py:1: minifc.tuning.lora: an import up"),
        ("gemma/cache.py", "import minifc.text.calls", "gemma/cache.py:1: minifc.text.calls: an import beside"),
        ("calling/trie.py", "from minifc.tuning import vocab", "calling/trie.py:1: minifc.tuning.vocab: an import be"),
        ("hub.py", "def f():\n    from minifc.train import main", "hub.py:2: minifc.train: an import upward"),
        ("data/rows.py", "from . import examples", "data/rows.py:1: a relative import"),
        ("attic.py", "", "attic.py: in no room of STOREYS"),
        ("errors.py", "import minifc.files", "a circle of imports: "),
        ("gemma/config.py", "from minifc.gemma.model import Gemma", "a circle of imports: "),
    ],
)  # fmt: skip
def test_what_runs_up_or_in_a_circle_is_named_and_nothing_is_drawn(
    file: str, line: str, found: str, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "minifc", tmp_path / "minifc", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    script = shutil.copy(ROOT / "tests" / "house.py", tmp_path / "tests")
    path = tmp_path / "minifc" / file
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{line}\n{old}", encoding="utf-8")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert result.returncode == 1
    assert f"error: minifc/{found}" in result.stderr or f"error: {found}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "tests" / "house.svg").exists()


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    edges = {("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d"), ("a", "e")}
    assert house.without_detours(edges) == {("a", "b"), ("b", "c"), ("c", "d"), ("a", "e")}
