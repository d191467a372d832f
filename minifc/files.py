"""Files written whole or not at all, and JSON and tensors read with errors that name the file."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from minifc.errors import CheckpointError, MinifcError

PART = ".part"  # how the hidden name of a file that is being written ends
_WEIGHTS = (".safetensors", ".safetensors.index.json")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "added_tokens.json")


@contextmanager
def whole_folder(target: str | Path) -> Iterator[Path]:
    """A temporary folder to write into, which takes `target`'s place when the block ends well.

    If the block fails, `target` is as it was before. In a `target` that exists, old weights are deleted; old tokenizer
    files too if new ones are written; the rest stays. A shard of an older model, or tokens that were added to an older
    tokenizer, would otherwise be taken for the new one's.
    """
    target = Path(target).resolve()  # through a link to the folder itself
    if target.exists() and not target.is_dir():
        raise MinifcError(f"{target}: a file is in the way; name a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    old = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        # What was made privately becomes as readable as anything else the user makes.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        for path in temporary.rglob("*"):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
        if old.exists():
            gone = _TOKENIZER if any((target / name).exists() for name in _TOKENIZER) else ()
            for path in old.iterdir():
                if not (target / path.name).exists() and not path.name.endswith(_WEIGHTS) and path.name not in gone:
                    os.rename(path, target / path.name)
            shutil.rmtree(old)
    except SafetensorError as error:  # how that library speaks of a full disk
        raise OSError(f"{target}: not written; {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def json_lines(rows: Iterable[Any]) -> str:
    """JSON Lines: each row as a line of its own."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}{PART}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but what a process that was killed had begun to write."""
    return all(path.name.startswith(".") and path.name.endswith(PART) for path in folder.iterdir())


def read_json(path: Path, error: type[MinifcError]) -> Any:
    """The JSON in a file; `error`, naming the file, the place in it, and what to do, if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a byte order mark
    except FileNotFoundError:
        raise error(f"{path}: not found; check the folder, or put the file back") from None
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}"
        raise error(f"{path}: not JSON ({problem.msg}, {place}); mend it, or put a whole copy in its place") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not JSON (no UTF-8 text at byte {problem.start}); save it as UTF-8") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise error(f"{path}: not JSON ({problem}); put a whole copy in its place") from None


def read_tensors(path: Path, advice: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file. CheckpointError, naming it and saying what to do, if it is not a whole one."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cut short, damaged or missing ({error}); {advice}") from None


class JsonLines:
    """A file of a run's records, one line each, on disk as soon as they are written.

    Of what an interrupted run has written, records after `last_step` go: those steps are taken again.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        self.kept: list[dict[str, Any]] = []
        if path.is_file():
            self.kept = [record for record in read_records(path) if record["step"] <= last_step]
            write_text(path, "".join(json.dumps(record) + "\n" for record in self.kept))
        self.file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __call__(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()


def read_records(path: Path) -> list[dict[str, Any]]:
    """A run's records, without a line that the run's interruption cut. Raises CheckpointError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 text at byte {error.start}; put a whole copy in its place") from None
    records = [(number, _record(line)) for number, line in enumerate(lines, 1)]
    for number, record in records:
        if record and not (type(record["step"]) is int and record["step"] >= 0):
            raise CheckpointError(f"{path}, line {number}: the step is {record['step']!r}, not a number; mend the line")
    return [record for _, record in records if record]


def _record(line: str) -> dict[str, Any] | None:
    """A line's record; None if the interruption cut it."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "step" in record else None
