"""Where the data comes from: public repositories at a commit, and one sha256 over all the files that are read."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from minifc.errors import DataError


@dataclass(frozen=True)
class Source:
    """A repository, and the files of it that are read: `paths`, in which * stands for any name."""

    url: str
    commit: str
    licence: str
    paths: Sequence[str]
    sha256: str  # of the lines that `fingerprint` makes

    def names(self, folder: Path) -> list[str]:
        """The files below a clone's folder, sorted."""
        found = {file for path in self.paths for file in folder.glob(path)}
        return sorted(file.relative_to(folder).as_posix() for file in found)


@lru_cache
def sources() -> dict[str, Source]:
    """The sources by the names of their folders, from sources.json."""
    text = files("minifc.data.public").joinpath("sources.json").read_text(encoding="utf-8")
    return {name: Source(**one) for name, one in json.loads(text).items()}


def file_hashes(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """The sha256 of each file."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def fingerprint(hashes: dict[str, str]) -> str:
    """One sha256 for many files, as `sha256sum FILES | sha256sum` tells it."""
    lines = "".join(f"{sha}  {name}\n" for name, sha in hashes.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def check(folder: Path) -> dict[str, dict[str, str]]:
    """The sha256 of every file by source. Raises DataError for a source that is not there or not as it was."""
    found = {}
    for name, source in sources().items():
        clone = folder / name
        found[name] = file_hashes(clone, source.names(clone))
        if fingerprint(found[name]) != source.sha256:
            raise DataError(
                f"{clone}: not the files of {source.url}; git clone {source.url} {clone} and in it "
                f"git checkout {source.commit[:12]}"
            )
    return found
