"""Files and folders are written whole or not at all."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minifc
from minifc.errors import ConfigError
from minifc.files import is_empty, read_json, whole_folder, write_text


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


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill(folder: Path, *names: str, text: str) -> None:
    for name in names:
        (folder / name).write_text(text)


def write(target: Path, error: BaseException | None = None) -> None:
    with whole_folder(target) as temporary:
        fill(temporary, "model.safetensors", text="new")
        if error:
            raise error


def test_what_was_there_is_put_back_when_the_last_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    target.mkdir()
    fill(target, "model.safetensors", "notes.txt", text="old")
    rename = os.rename

    def fails_once(source: Path, to: Path) -> None:
        if to == target and contents(source).get("model.safetensors") == "new":
            raise OSError("the disk is gone")
        rename(source, to)

    monkeypatch.setattr(os, "rename", fails_once)
    with pytest.raises(OSError, match="the disk is gone"):
        write(target)
    assert contents(tmp_path) == {"model/model.safetensors": "old", "model/notes.txt": "old"}


def test_a_block_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for there in ({}, {"model/model.safetensors": "new"}):
        assert contents(tmp_path) == there
        with pytest.raises(KeyboardInterrupt):
            write(target, KeyboardInterrupt())
        assert contents(tmp_path) == there
        write(target)


@pytest.mark.parametrize("tokenizer", [False, True])
def test_old_weights_go_old_tokenizers_make_room_for_new_ones_and_the_rest_stays(
    tmp_path: Path, tokenizer: bool
) -> None:
    old = ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json", "notes.txt")
    words = ("tokenizer.json", "tokenizer.model", "added_tokens.json")
    fill(tmp_path, *old, *words, text="old")
    with whole_folder(tmp_path) as temporary:
        fill(temporary, "model.safetensors", "config.json", *words[:tokenizer], text="new")
    rest = {"tokenizer.json": "new"} if tokenizer else dict.fromkeys(words, "old")
    assert contents(tmp_path) == {"model.safetensors": "new", "config.json": "new", "notes.txt": "old"} | rest


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (b'{"a": 1,\n "b": 2,\n}', "not JSON (Expecting property name enclosed in double quotes, line 3, column 1)"),
        (b'[{"a": 1},\n]', "line 2, column 1)"),
        (b'{"a": 1\n"b": 2}', "not JSON (Expecting ',' delimiter, line 2, column 1)"),
        (b"", "line 1, column 1)"),
        ('{"a": 1}'.encode("utf-16"), "not JSON (no UTF-8 text at byte 0); save it as UTF-8"),
        (b'{"a": "\xe9"}', "no UTF-8 text at byte 7"),
    ],
)
def test_a_fault_of_json_has_a_place(tmp_path: Path, written: bytes, why: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(written)
    with pytest.raises(ConfigError) as error:
        read_json(path, ConfigError)
    assert str(error.value).startswith(f"{path}: not JSON (")
    assert why in str(error.value)


def test_a_byte_order_mark_is_no_fault_of_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "config.json", ConfigError) == {"a": 1}
