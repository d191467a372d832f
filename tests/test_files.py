"""Files written whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minifc
from minifc.files import is_empty, write_text


@pytest.mark.parametrize("place", ["write_text", "replace"])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    path = tmp_path / "config.json"
    write_text(path, "before")

    def full(self: Path, *args: Any, **_: Any) -> None:
        with open(self, "w") as file:
            file.write("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*((Path, place) if place == "write_text" else (os, place)), full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "after")
    assert list(tmp_path.iterdir()) == [path]
    assert place == "replace" or path.read_text() == "before"


KILLED = """
import os, pathlib, signal
from minifc import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_text(pathlib.Path("config.json"), "{}")
"""


def test_what_a_killed_process_had_begun_to_write_does_not_fill_a_folder(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(minifc.__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    assert is_empty(tmp_path)
    write_text(tmp_path / "config.json", "{}")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert not is_empty(tmp_path)
