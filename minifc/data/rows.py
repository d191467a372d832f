"""Data files to rows: JSON, JSON Lines and parquet, one file or a folder of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minifc.errors import DataError
from minifc.hub import folder_files


@dataclass(frozen=True)
class BadLine:
    """In place of a row: why a line of JSON Lines cannot be read."""

    why: str


def read_rows(path: str | Path | Sequence[Path]) -> list[tuple[str, Any]]:
    """(where it stands, the row) for each row of a JSON, JSON Lines or parquet file, of the train split in a
    folder of them, or of several.

    A line that is not JSON is a BadLine. Raises DataError for a file that cannot be read or is empty.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else path
    files = [file for path in paths for file in (folder_files(path) if path.is_dir() else [path])]
    rows = [(f"{file}, row {number}", row) for file in files for number, row in enumerate(_read_file(file), 1)]
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: empty; a data file holds one conversation per row")
    return rows


def _read_file(path: Path) -> list[Any]:
    return _READERS.get(path.suffix, _read_json)(path)


def _read_parquet(path: Path) -> list[Any]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise DataError(f"{path}: a parquet file needs pyarrow; pip install pyarrow") from None
    try:
        rows: list[Any] = read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({error})") from None
    return rows


def _read_json(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}") from None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows = [_read_line(line, number) for number, line in lines]
        if rows and all(isinstance(row, BadLine) for row in rows):
            raise DataError(f"{path}: {rows[0].why}; as one JSON value: {error}") from None
        return rows
    return whole if isinstance(whole, list) else [whole]


def _read_line(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadLine(f"line {number} is neither of a JSON file nor JSON Lines ({error})")


_READERS = {".json": _read_json, ".jsonl": _read_json, ".parquet": _read_parquet}
