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
# Names of a split that is not the train split, as the datasets library finds them in a file's path.
_OTHER_NAMES = "test|testing|eval|evaluation|val|valid|validation|dev"
_OTHER_SPLIT = re.compile(rf"(^|[-._ /\d])({_OTHER_NAMES})([-._ /\d]|$)", re.IGNORECASE)


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
    """A folder, a GGUF file, the embedded model of the clone that this package runs from, or a repository of the hub.

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
    if source := _from_hub(name, "model"):
        return source
    raise CheckpointError(f"{name}: no such folder, and no hub id such as google/gemma-2-2b-it")


def find_data(name: str) -> Source:
    """A file, a folder of files, or a data set of the hub. Raises DataError or HubError."""
    if Path(name).exists():
        return Source(name, Path(name), files=(Path(name),))
    if source := _from_hub(name, "dataset"):
        return source
    raise DataError(f"{name}: no such file, and no hub id of a data set")


def split_revision(name: str) -> tuple[str, str]:
    """A name, and the revision that a hub id asks for, "" if none; that of a folder or file is not split."""
    match = _ID.fullmatch(name)
    if match is None or Path(name).exists():
        return name, ""
    return match["repo"], match["revision"] or ""


def _from_hub(name: str, kind: Kind) -> Source | None:
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
            files = _data_files(repo, folder)
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


def _data_files(repo: str, folder: Path) -> tuple[Path, ...]:
    """The files of a data set's train split, downloaded into the folder that holds its card."""
    from huggingface_hub import get_cached_repo_tree, metadata_load

    commit = folder.name
    listed = [file.path for file in get_cached_repo_tree(repo, repo_type="dataset", revision=commit)]
    found = sorted(name for name in listed if any(fnmatch(name, pattern) for pattern in _DATA_FILES))
    card = (metadata_load(folder / _CARD) if _CARD in listed else None) or {}
    taken, names = train_files(found, card.get("configs"))
    if not names:
        raise HubError(f"{page(repo, 'dataset')}: holds no {' or '.join(_DATA_FILES)}")
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    print(f"{repo}: {taken}, {', '.join(names[:5])}{more}", file=sys.stderr)
    _snapshot(repo, "dataset", commit, [escape(name) for name in names])
    return tuple(folder / name for name in names)


def train_files(files: Sequence[str], configs: Any) -> tuple[str, list[str]]:
    """Of a data set's files, those of its train split, as the datasets library would take them: what they are, in
    words, and their names.

    configs: as the card has them; of several the one marked as default, or else the first. Without, a file's path
    tells its split. A data set, or a configuration, that has no train split is taken whole.
    """
    listed = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    marked = [config for config in listed if config.get("default") or config.get("config_name") == "default"]
    config = (marked or listed or [{}])[0]
    splits, patterns = _patterns(config)
    taken = "its train split" if "train" in splits else f"no train split; its {' and '.join(splits)} split"
    chosen = [file for file in files if any(fnmatch(file, pattern) for pattern in patterns)]
    if not chosen:
        own = [file for file in files if not file.startswith("dataset_info")]  # not the library's own notes
        train = [file for file in own if not _OTHER_SPLIT.search(file)]
        taken, chosen = ("its train split", train) if train else ("no train split; all its files", own)
    if len(listed) > 1:
        taken += f" of the configuration {config.get('config_name')!r}"
    return taken, [file for file in chosen if file.endswith(".parquet")] or chosen


def _patterns(config: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The splits that are taken from one configuration, and what their files are called, which it has several ways
    to say: the train split, or without one all."""
    entries = config.get("data_files") or []
    if isinstance(entries, dict):
        entries = [{"split": split, "path": path} for split, path in entries.items()]
    entries = entries if isinstance(entries, list) else [entries]
    entries = [entry if isinstance(entry, dict) else {"split": "train", "path": entry} for entry in entries]
    train = [entry for entry in entries if entry.get("split") == "train"] or entries
    paths = [path for e in train for path in (e["path"] if isinstance(e.get("path"), list) else [e.get("path")])]
    splits = sorted({ascii(entry.get("split")).strip("'") for entry in train})
    return splits, [path for path in paths if isinstance(path, str)]
