"""What the Hugging Face hub may answer, and what is said where it answers otherwise.

The hub's client makes paths of what a hub answers: it joins commits, file names and ETags to its cache's folder, not
all of them checked. So each answer is checked here before the client sees it.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Literal

from minifc.errors import HubError, MinifcError, first_line

Kind = Literal["model", "dataset"]
COMMIT = re.compile("[0-9a-f]{40}")
_DIGEST = re.compile("[0-9a-f]{1,128}")
_ETAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_PINNED = re.compile(r"/resolve/([0-9a-f]{40})/")
_LISTING = re.compile(r"/api/(?:models|datasets)/[^/]+/[^/]+/(tree|revision)/")
MOST_ANSWERS = 100_000
SECONDS = 30.0


def page(repo: str, kind: Kind) -> str:
    """The address of a repository's page."""
    return f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"


@contextmanager
def errors_in_a_line(repo: str, revision: str, kind: Kind) -> Iterator[None]:
    """What the hub's client raises within the block, as a HubError that says what to do."""
    from huggingface_hub import errors

    here, again = "no folder of that name is here", "run the same command again"
    try:
        yield
    except MinifcError:
        raise
    except errors.GatedRepoError:
        raise HubError(f"{repo}: gated; accept its licence at {page(repo, kind)}, then log in: hf auth login") from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{repo}: has no revision {revision!r}; {page(repo, kind)} lists them") from None
    except errors.RepositoryNotFoundError:
        raise HubError(f"{repo}: not on the hub, or private (then log in: hf auth login), and {here}") from None
    except errors.HFValidationError as error:
        raise HubError(f"{repo}: no name that the hub has ({first_line(error)}), and {here}") from None
    except errors.CachedRepoTreeNotFoundError:
        raise HubError(f"{repo}: the hub's cache has no list of its files; {again} with a network") from None
    except Exception as error:
        # That nothing was found in the cache either: why the hub was of no help is the cause of it.
        cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None
        reason = cause or error
        if isinstance(reason, errors.OfflineModeIsEnabled):
            raise HubError(
                f"{repo}: not whole in the hub's cache, and HF_HUB_OFFLINE forbids to download it; unset it, or name "
                f"a folder ({here})"
            ) from None
        if _is_of_the_network(reason):
            raise HubError(f"{repo}: the hub cannot be reached ({first_line(reason)}); {again}; {here}") from None
        if isinstance(reason, errors.HfHubHTTPError):
            raise HubError(f"{repo}: the hub answered with an error ({first_line(reason)}); {again}") from None
        if isinstance(reason, OSError) and reason.errno is not None:  # the disk, not the hub
            raise reason from None
        raise HubError(f"{repo}: the hub's answer cannot be used ({first_line(reason)}); {again}") from None


def _is_of_the_network(error: BaseException) -> bool:
    """Whether a connection failed. The client uses httpx or, later, httpx2, whose classes are named alike."""
    return any(base.__name__ == "TransportError" for base in type(error).__mro__)


@contextmanager
def checked_answers() -> Iterator[None]:
    """Within the block, each answer of the hub is checked before its client sees it, and none is waited for forever.

    The hooks go into the factory of HTTP clients: after some failures the hub's client makes itself a new one.
    """
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    factory: Callable[[], Any] = _http._GLOBAL_CLIENT_FACTORY  # it has a public setter, but no getter
    answers = count(1)

    def check(response: Any) -> None:
        if next(answers) > MOST_ANSWERS:
            raise _wrong(response, "no end of answers")
        _check_headers(response)
        if listing := _LISTING.search(response.url.path):
            _check_listing(response, listing[1])

    def checked() -> Any:
        client = factory()
        request, response = client.event_hooks["request"], client.event_hooks["response"]
        client.event_hooks = {"request": [*request, _limit_time], "response": [*response, check]}
        return client

    set_client_factory(checked)
    try:
        yield
    finally:
        set_client_factory(factory)


def _limit_time(request: Any) -> None:
    """Limits in seconds where the hub's client sets none."""
    limits = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        phase: limits.get(phase) or SECONDS for phase in ("connect", "read", "write", "pool")
    }


def _check_headers(response: Any) -> None:
    """Of the commit and of the ETag of a file the client makes paths."""
    headers = response.headers
    pinned = _PINNED.search(response.url.path)
    commit = headers.get("X-Repo-Commit")
    if commit is not None and not (commit == pinned[1] if pinned else COMMIT.fullmatch(commit)):
        raise _wrong(response, f"a commit that was not asked for, {_shown(commit)}")
    if response.request.method != "HEAD" or response.status_code >= 400:
        return  # such ETags are not used, and may be of any kind
    if response.url.join(headers.get("Location", "https://elsewhere")).host == response.url.host:
        return  # the client asks on
    etag = headers.get("X-Linked-ETag") or headers.get("ETag")
    if etag is not None and not _ETAG.fullmatch(etag.lstrip("W/").strip('"')):  # as the client takes it
        raise _wrong(response, f"an ETag that is no digest of a file, {_shown(etag)}")


def _check_listing(response: Any, kind: str) -> None:
    """A repository's description or list of files, and where the next part of it is to be asked for."""
    onward = [response.links["next"].get("url", "")] if "next" in response.links else []
    if "Location" in response.headers:
        onward.append(str(response.url.join(response.headers["Location"])))
    for address in onward:
        found = _LISTING.search(address)
        if not found or found[1] != kind or not address.startswith(("http://", "https://")):
            raise _wrong(response, f"an address where no such list is, {_shown(address)}")
    if response.status_code != 200:
        return
    response.read()
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        raise _wrong(response, "something that is not JSON") from None
    if kind == "tree":
        _check_files(response, answer)
    elif not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
        raise _wrong(response, "something that is not a description of a repository")
    elif not isinstance(answer.get("sha"), str) or not COMMIT.fullmatch(answer["sha"]):
        raise _wrong(response, f"a commit that is not 40 hex digits, {_shown(answer.get('sha'))}")


def _check_files(response: Any, answer: Any) -> None:
    if not isinstance(answer, list) or not all(isinstance(entry, dict) for entry in answer):
        raise _wrong(response, "something that is not a list of files")
    for entry in answer:
        name, large = entry.get("path"), entry.get("lfs")
        if not isinstance(name, str) or not _is_relative(name):
            raise _wrong(response, f"a file name that leads elsewhere, {_shown(name)}")
        digests = [entry.get("oid"), *([large.get("oid")] if isinstance(large, dict) else [])]
        if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests):
            raise _wrong(response, f"digests of a file that are not in hex, {_shown(digests)}")


def _is_relative(name: str) -> bool:
    """Whether a path leads downwards on every system, and can be shown."""
    parts = name.split("/")
    allowed = name.isprintable() and not re.search(r"[\\:]", name)
    return allowed and not any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _wrong(response: Any, what: str) -> HubError:
    return HubError(f"{response.url}: the hub answered with {what}; look at that address, or at HF_ENDPOINT")
