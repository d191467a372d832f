"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MINIFC_SHARED", ROOT.parent / "shared"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with official tokenizer files and real rows, which the repository may not contain."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: official files are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The embedded model."""
    return ROOT / "weights" / "tiny"
