"""A name to what lies under it: a folder, a file, or a repository of the Hugging Face hub.

A hub id such as `google/gemma-2-2b-it`, or `owner/name@revision`, is downloaded once, into
weights/owner/name. What was downloaded whole is used from then on without asking the network; a file that
has been lost or cut short since is fetched again.
"""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from minifc.errors import CheckpointError, DataError, HubError, MinifcError, first_line
from minifc.files import read_json, write_text

TINY, TINY_ADAPTER = "weights/tiny", "weights/tiny-caller"
WEIGHTS = Path("weights")
_CLONE = Path(__file__).resolve().parent.parent
_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")
_RECORD = ".cache/minifc.json"
_WANTED = {
    "model": ("*.json", "*.safetensors", "tokenizer.model"),
    "dataset": ("*.parquet", "*.json", "*.jsonl"),
}
# Names of a split that is not the train split, as the datasets library finds them in a file's path.
_OTHER_NAMES = "test|testing|eval|evaluation|val|valid|validation|dev"
_OTHER_SPLIT = re.compile(rf"(^|[-._ /\d])({_OTHER_NAMES})([-._ /\d]|$)", re.IGNORECASE)
_DATA_SUFFIXES = (".parquet", ".json", ".jsonl")
Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Source:
    """Where a model or data set came from: its name and path, and for a repository of the hub its commit,
    which then stands in the name too: owner/name@commit."""

    name: str
    path: Path
    commit: str = ""


def find_model(name: str) -> Source:
    """A folder, the embedded model of the clone that this package runs from, or a repository of the hub.

    Raises CheckpointError if there is none, and HubError where the hub does not give it.
    """
    for folder in (Path(name), _CLONE / name):
        if folder.is_dir():
            return Source(name, folder)
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
        return Source(name, Path(name))
    if source := _from_hub(name, "dataset"):
        return source
    raise DataError(f"{name}: no such file, and no hub id of a data set")


def split_revision(name: str) -> tuple[str, str]:
    """A name, and the revision that a hub id asks for, "" if none; a folder's name is not split."""
    match = _ID.fullmatch(name)
    if match is None or Path(name).is_dir():
        return name, ""
    return match["repo"], match["revision"] or ""


def _from_hub(name: str, kind: Kind) -> Source | None:
    """The repository of that name, downloaded if need be; None if it is no hub id."""
    match = _ID.fullmatch(name)
    # weights/tinny is a folder with a slip of the pen, and data/rows.json a file with one, not a repository. A folder
    # `google` says nothing about google/gemma-2-2b-it.
    ours = name.startswith((f"{WEIGHTS}/", "runs/")) and Path(name).parent.is_dir()
    if match is None or ours or name.endswith(_DATA_SUFFIXES):
        return None
    repo, revision = match["repo"], match["revision"] or "main"
    folder = WEIGHTS / repo
    record = folder / _RECORD
    if record.is_file():
        downloaded = read_json(record, HubError)
        if not _is_record(downloaded):
            raise HubError(f"{record}: not a record of a download; delete it and run the same command again")
        if kind != downloaded["kind"]:
            raise HubError(f"{folder}: holds the {downloaded['kind']} of that name, not a {kind}; move it away first")
        if revision not in (downloaded["revision"], downloaded["commit"]):
            raise HubError(f"{folder}: holds revision {downloaded['revision']}, not {revision}; move it away first")
        lost = [file for file, size in downloaded["files"].items() if not _whole(folder / file, size)]
        if not lost:
            return Source(f"{repo}@{downloaded['commit']}", folder, downloaded["commit"])
        print(f"{folder / lost[0]}: lost or cut short; fetched again", file=sys.stderr)
        for file in lost:
            (folder / file).unlink(missing_ok=True)  # the hub's client takes a file that is there for a whole one
    commit, files = _download(repo, downloaded["commit"] if record.is_file() else revision, kind, folder)
    sizes = {file: (folder / file).stat().st_size for file in files}
    written = {"repo": repo, "kind": kind, "revision": revision, "commit": commit, "files": sizes}
    write_text(record, json.dumps(written, indent=1) + "\n")
    return Source(f"{repo}@{commit}", folder, commit)


def _is_record(data: Any) -> bool:
    if not isinstance(data, dict) or set(data) != {"repo", "kind", "revision", "commit", "files"}:
        return False
    return isinstance(data["files"], dict) and all(isinstance(size, int) for size in data["files"].values())


def _whole(path: Path, size: int) -> bool:
    """Whether a file is there and not shorter than it came; a longer one was changed on purpose."""
    return path.is_file() and path.stat().st_size >= size


def _download(repo: str, revision: str, kind: Kind, folder: Path) -> tuple[str, list[str]]:
    """Bring the files here, one after the other: the commit they are of, and their names. What came whole is kept."""
    from huggingface_hub import HfApi, errors

    api = HfApi()
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
    try:
        info = api.repo_info(repo, repo_type=kind, revision=revision)
        commit = info.sha
        files = api.list_repo_files(repo, repo_type=kind, revision=commit)
        wanted = [file for file in files if any(fnmatch(file, pattern) for pattern in _WANTED[kind])]
        if not wanted:
            raise HubError(f"{page}: holds no {' or '.join(_WANTED[kind])}")
        if kind == "dataset":
            wanted = train_files(wanted, (getattr(info, "card_data", None) or {}).get("configs"))
            more = f" and {len(wanted) - 5} more" if len(wanted) > 5 else ""
            print(f"{repo}: its train split, {', '.join(wanted[:5])}{more}", file=sys.stderr)
        for file in wanted:
            api.hf_hub_download(repo, file, repo_type=kind, revision=commit, local_dir=folder)
    except MinifcError:
        raise
    except errors.GatedRepoError:
        raise HubError(f"{repo}: gated; accept its licence at {page}, then log in: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{repo}: has no revision {revision!r}; {page} lists them") from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{repo}: not on the hub, or private (then log in: hf auth login), and no folder of that name is here"
        ) from None
    except errors.HFValidationError as error:
        raise HubError(f"{repo}: no name that the hub has ({first_line(error)}), and no folder of that name") from None
    except OSError as error:
        if error.errno is not None:  # the disk, not the hub
            raise
        raise HubError(f"{repo}: {first_line(error)}; run the same command again to go on") from None
    except Exception as error:  # the HTTP library's own, whichever the hub's client uses
        raise HubError(f"{repo}: the hub cannot be reached ({first_line(error)}); run the same command again") from None
    return str(commit), wanted


def train_files(files: Sequence[str], configs: Any) -> list[str]:
    """Of a data set's files, those of its train split, as the datasets library would take them.

    configs: as the card has them; of several the one marked as default, or else the first. Without, a file's path
    tells its split. A data set that has no train split is taken whole.
    """
    listed = [config for config in configs if isinstance(config, dict)] if isinstance(configs, list) else []
    marked = [config for config in listed if config.get("default") or config.get("config_name") == "default"]
    patterns = _patterns((marked or listed or [{}])[0])
    files = [file for file in files if any(fnmatch(file, pattern) for pattern in patterns)] or [
        file
        for file in files
        if not file.startswith("dataset_info")  # the library's own notes
    ]
    if not patterns:
        files = [file for file in files if not _OTHER_SPLIT.search(file)] or files
    return [file for file in files if file.endswith(".parquet")] or files


def _patterns(config: dict[str, Any]) -> list[str]:
    """What the train split's files are called in one configuration, which has several ways to say it."""
    entries = config.get("data_files") or []
    if isinstance(entries, dict):
        entries = [{"split": split, "path": path} for split, path in entries.items()]
    entries = entries if isinstance(entries, list) else [entries]
    entries = [entry if isinstance(entry, dict) else {"split": "train", "path": entry} for entry in entries]
    train = [entry for entry in entries if entry.get("split") == "train"] or entries
    paths = [path for e in train for path in (e["path"] if isinstance(e.get("path"), list) else [e.get("path")])]
    return [path for path in paths if isinstance(path, str)]
