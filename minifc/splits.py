"""Which files of a data set belong to which split, by the rule of the hub and its datasets library.

A data set's card may list configurations, each with its splits and their files. Without a list the files' paths tell:
names such as data/train-00000-of-00003.parquet, or else words such as `test` or `valid` in a path. A data set whose
paths tell nothing is one train split.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from minifc.errors import DataError

TRAIN = "train"
# The words that name a split in a file's path.
_WORDS = {
    TRAIN: "train|training",
    "validation": "validation|valid|val|dev",
    "test": "test|testing|eval|evaluation",
}
_BY_WORD = {
    split: re.compile(rf"(^|[-._ /\d])({words})([-._ /\d]|$)", re.IGNORECASE) for split, words in _WORDS.items()
}
_NUMBERED = re.compile(r"data/(?P<split>\w+(\.\w+)*)-\d{5}-of-\d{5}\.[^/]*")


@dataclass(frozen=True)
class Choice:
    """The split that is read of a data set: its files, and in words what they are."""

    files: list[str]
    words: str


def choose(files: Sequence[str], configs: Any, configuration: str = "", split: str = "") -> Choice:
    """The files of one split. Raises DataError for a configuration or a split that the data set does not have.

    files: their paths in the data set. configs: as its card has them.
    configuration: "" for the one that is marked as default, or else the first.
    split: "" for the train split. No other one stands in for it: what is kept for testing is not trained on unasked.
    """
    listed = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    config = _configuration(listed, configuration)
    splits = _listed_splits(files, config) or _splits_by_path(files, config.get("data_dir"))
    of = f" of the configuration {config.get('config_name')!a}" if len(listed) > 1 else ""
    wanted = split or TRAIN
    if wanted not in splits:
        others = ", ".join(ascii(str(name)).strip("'") for name in splits)
        more = f"; configurations are {_names(listed)} (--configuration)" if of and not configuration else ""
        raise DataError(f"no split {wanted!a}{of}; there is {others or 'none'}: name one by --split{more}")
    parquet = [file for file in splits[wanted] if file.endswith(".parquet")]
    name = "its train split" if wanted == TRAIN else f"its split {wanted!a}"
    return Choice(parquet or splits[wanted], f"{name}{of}")


def _configuration(listed: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    if name:
        found = [config for config in listed if config.get("config_name") == name]
        if not found:
            raise DataError(f"no configuration {name!a}; there is {_names(listed) or 'none'} (--configuration)")
        return found[0]
    marked = [config for config in listed if config.get("default") or config.get("config_name") == "default"]
    return (marked or list(listed) or [{}])[0]


def _names(listed: Sequence[dict[str, Any]]) -> str:
    return ", ".join(ascii(config.get("config_name")) for config in listed)


def _listed_splits(files: Sequence[str], config: dict[str, Any]) -> dict[str, list[str]]:
    """The splits that a configuration lists, which it has several ways to do; without those that have no file."""
    entries = config.get("data_files") or []
    if isinstance(entries, dict):
        entries = [{"split": split, "path": path} for split, path in entries.items()]
    entries = entries if isinstance(entries, list) else [entries]
    splits: dict[str, list[str]] = {}
    for entry in entries:
        entry = entry if isinstance(entry, dict) else {"split": TRAIN, "path": entry}
        paths = entry.get("path")
        patterns = [path for path in (paths if isinstance(paths, list) else [paths]) if isinstance(path, str)]
        if found := [file for file in files if any(fnmatch(file, pattern) for pattern in patterns)]:
            splits.setdefault(str(entry.get("split", TRAIN)), []).extend(found)
    return splits


def _splits_by_path(files: Sequence[str], folder: Any) -> dict[str, list[str]]:
    """The splits that the paths of the files tell.

    Beside files that are named `train`, files that name no split are of none, as the hub has it; where no file is
    named so, they are the train split.
    """
    folder = f"{folder.strip('/')}/" if isinstance(folder, str) and folder.strip("/") else ""
    within = {file: file.removeprefix(folder) for file in files if file.startswith(folder)}
    within = {file: path for file, path in within.items() if not path.startswith("dataset_info")}  # the hub's own notes
    splits: dict[str, list[str]] = {}
    numbered = {file: match["split"] for file, path in within.items() if (match := _NUMBERED.fullmatch(path))}
    for file, path in within.items():
        split = numbered.get(file) if numbered else _split_by_word(path)
        if split is not None:
            splits.setdefault(split, []).append(file)
    unnamed = [file for file, path in within.items() if not _split_by_word(path)]
    if unnamed and not numbered and TRAIN not in splits:
        splits[TRAIN] = unnamed
    return splits


def _split_by_word(path: str) -> str | None:
    """The split that a path names, None if none; of several words the last counts."""
    found = {split: [match.start() for match in word.finditer(path)] for split, word in _BY_WORD.items()}
    found = {split: places for split, places in found.items() if places}
    return max(found, key=lambda split: found[split][-1]) if found else None
