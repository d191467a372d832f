"""A name to what lies under it: a folder, a file, or a repository of the Hugging Face hub.

A hub id such as `google/gemma-2-2b-it`, or `owner/name@revision`, is downloaded once, into
weights/owner/name. What was downloaded whole is used from then on without asking the network.
"""

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from minifc.errors import CheckpointError, DataError, HubError, MinifcError, first_line
from minifc.files import read_json, write_text

TINY, TINY_ADAPTER = "weights/tiny", "weights/tiny-caller"
WEIGHTS = Path("weights")
_CLONE = Path(__file__).resolve().parent.parent
_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_RECORD = ".cache/minifc.json"
_WANTED = {
    "model": ("*.json", "*.safetensors", "tokenizer.model"),
    "dataset": ("*.parquet", "*.json", "*.jsonl"),
}
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
    # weights/tinny is a folder with a slip of the pen, not the repository `tinny` of a user named weights.
    if match is None or Path(name).parent.is_dir():
        return None
    repo, revision = match["repo"], match["revision"] or "main"
    folder = WEIGHTS / repo
    record = folder / _RECORD
    if record.is_file():
        downloaded = read_json(record, HubError)
        if not isinstance(downloaded, dict) or set(downloaded) != {"repo", "kind", "revision", "commit"}:
            raise HubError(f"{record}: not a record of a download; delete it and run the same command again")
        if kind != downloaded["kind"]:
            raise HubError(f"{folder}: holds the {downloaded['kind']} of that name, not a {kind}; move it away first")
        if revision not in (downloaded["revision"], downloaded["commit"]):
            raise HubError(f"{folder}: holds revision {downloaded['revision']}, not {revision}; move it away first")
        return Source(f"{repo}@{downloaded['commit']}", folder, downloaded["commit"])
    commit = _download(repo, revision, kind, folder)
    written = {"repo": repo, "kind": kind, "revision": revision, "commit": commit}
    write_text(record, json.dumps(written, indent=1) + "\n")
    return Source(f"{repo}@{commit}", folder, commit)


def _download(repo: str, revision: str, kind: Kind, folder: Path) -> str:
    """Bring the files here, one after the other; the commit they are of. What came whole before is kept."""
    from huggingface_hub import HfApi, errors

    api = HfApi()
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
    try:
        commit = api.repo_info(repo, repo_type=kind, revision=revision).sha
        files = api.list_repo_files(repo, repo_type=kind, revision=commit)
        wanted = [file for file in files if any(fnmatch(file, pattern) for pattern in _WANTED[kind])]
        if not wanted:
            raise HubError(f"{page}: holds no {' or '.join(_WANTED[kind])}")
        for file in wanted:
            api.hf_hub_download(repo, file, repo_type=kind, revision=commit, local_dir=folder)
    except MinifcError:
        raise
    except errors.GatedRepoError:
        raise HubError(f"{repo}: gated; accept its licence at {page}, then log in: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{repo}: has no revision {revision!r}; {page} lists them") from None
    except errors.RepositoryNotFoundError:
        raise HubError(f"{repo}: not on the hub, or private; for a private one log in: hf auth login") from None
    except OSError as error:
        if error.errno is not None:  # the disk, not the hub
            raise
        raise HubError(f"{repo}: {first_line(error)}; run the same command again to go on") from None
    except Exception as error:  # the HTTP library's own, whichever the hub's client uses
        raise HubError(f"{repo}: the hub cannot be reached ({first_line(error)}); run the same command again") from None
    return str(commit)
