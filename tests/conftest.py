"""Fixtures that every room's tests share."""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
import torch
from huggingface_hub import constants
from measured import LARGEST

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MINIFC_SHARED", ROOT.parent / "shared"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with official tokenizer files and real rows, which the repository may not contain."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: official files are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The embedded model."""
    return ROOT / "weights" / "tiny"


@pytest.fixture(scope="session")
def caller(tiny: Path) -> Path:
    """Its trained adapter."""
    return tiny.parent / "tiny-caller"


@pytest.fixture(scope="session")
def tiny_gguf(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a GGUF file, in the dtype it is stored in."""
    from gguf_files import embedded_gguf

    return embedded_gguf(tiny, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_quantised(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, quantised to 8 bits, with which it still answers as it did."""
    from gguf_files import embedded_gguf

    return embedded_gguf(tiny, tmp_path_factory.mktemp("gguf") / "tiny-q8_0.gguf", ["Q8_0"])


@pytest.fixture
def two_threads() -> Iterator[None]:
    """For what may differ where several threads add up."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = {
    "config.json": b'{"model_type": "gemma2"}',
    "model.safetensors": bytes(range(256)) * 2**16,  # 16 MiB: the client writes 10 MiB at a time
    "pytorch_model.bin": b"a pickle",
    "README.md": b"# card",
}


Lie = Callable[[int, bytes, dict[str, str]], tuple[int, bytes, dict[str, str]]]  # status, body, headers


class FakeHub:
    """What the server gives, and what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.commit, self.model = COMMIT, MODEL
        self.files: dict[str, dict[str, bytes]] = {"google/gemma-2-2b-it": MODEL, "who/rows": {"train.jsonl": b"{}"}}
        self.gated = False
        self.lies: dict[str, Lie] = {}  # what becomes of an answer: to "revision", "tree", "HEAD" or "GET" of a file
        self.cut_after = self.then = 0  # bytes after which the next download, and those that follow, break off
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.may_write = True
        self.private: dict[str, bool] = {}  # of each repository that was made here, or that is not public
        self.pushed: dict[str, bytes] = {}  # what the last commit put there
        self.blobs: dict[str, bytes] = {}  # large files, by their sha256

    def card(self, repo: str, **head: object) -> None:
        """Give a repository a README with this head; JSON is YAML too."""
        self.files[repo] = self.files[repo] | {"README.md": f"---\n{json.dumps(head)}\n---\n".encode()}

    def point_to(self, url: str) -> None:
        """Make the client take this for the hub's address."""
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        self.monkeypatch.setattr(constants, "ENDPOINT", url)
        self.monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub on this machine, and an empty folder to work in."""
    fake = FakeHub(monkeypatch)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        kind = ""

        def log_message(self, *args: object) -> None:
            pass

        def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
            if lie := fake.lies.get(self.kind):
                status, body, headers = lie(status, body, headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            elif headers["Content_Length"] != str(len(body)) and self.command != "HEAD":
                self.close_connection = True
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path).strip("/")
            fake.asked.append(path)
            if path.startswith("api/"):
                self.api(path.split("/"))
            else:
                self.file(path)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            """To push: make the repository, ask how each file wants to come, and commit."""
            path = unquote(urlparse(self.path).path).strip("/")
            fake.asked.append(path)
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            if not fake.may_write:
                return self.reply(401, b'{"error": "Invalid username or password."}')
            answer: dict[str, object] = {}
            if path == "api/repos/create":
                fake.files.setdefault("who/caller", {})
                wanted = json.loads(sent)
                fake.private.setdefault("who/caller", wanted.get("visibility") == "private" or wanted.get("private"))
                answer = {"url": "https://huggingface.co/who/caller"}
            elif "/preupload/" in path:
                modes = {True: "lfs", False: "regular"}
                answer["files"] = [
                    {"path": f["path"], "uploadMode": modes[f["path"].endswith(".safetensors")], "shouldIgnore": False}
                    for f in json.loads(sent)["files"]
                ]
            elif path.endswith("objects/batch"):
                here = f"http://127.0.0.1:{server.server_port}/blobs"
                answer["objects"] = [
                    one | {"actions": {"upload": {"href": f"{here}/{one['oid']}"}}}
                    for one in json.loads(sent)["objects"]
                ]
            elif "/commit/" in path:
                for line in map(json.loads, sent.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        fake.pushed[value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        fake.pushed[value["path"]] = fake.blobs[value["oid"]]
                answer = {"commitUrl": f"https://huggingface.co/who/caller/commit/{COMMIT}", "commitOid": COMMIT}
            return self.reply(200, json.dumps(answer).encode(), Content_Type="application/json")

        def do_PUT(self) -> None:
            body = b""
            if "Content-Length" in self.headers:
                body = self.rfile.read(int(self.headers["Content-Length"]))
            else:  # in chunks: the size of each in hex, the last one empty
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            fake.blobs[hashlib.sha256(body).hexdigest()] = body
            self.reply(200)

        def api(self, parts: list[str]) -> None:
            repo = "/".join(parts[2:4])
            what, revision = parts[4:6] or ("revision", "main")
            self.kind = what
            if repo not in fake.files:
                return self.reply(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
            if revision not in ("main", fake.commit):
                return self.reply(404, X_Error_Code="RevisionNotFound", X_Error_Message="no such revision")
            files = fake.files[repo]
            if what == "tree":
                listed = [{"type": "file", "path": n, "size": len(b), "oid": COMMIT} for n, b in files.items()]
                return self.reply(200, json.dumps(listed).encode(), Content_Type="application/json")
            info = {"id": repo, "sha": fake.commit, "siblings": [{"rfilename": name} for name in files]}
            info["private"] = bool(fake.private.get(repo))
            return self.reply(200, json.dumps(info).encode(), Content_Type="application/json")

        def file(self, path: str) -> None:
            repo, _, rest = path.removeprefix("datasets/").partition("/resolve/")
            commit, _, name = rest.partition("/")
            assert commit == fake.commit
            self.kind = self.command
            if fake.gated:
                return self.reply(401, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
            body = fake.files[repo][name]
            headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X_Repo_Commit": commit}
            if self.command == "HEAD":
                return self.reply(200, Content_Length=str(len(body)), **headers)
            start = 0
            if asked := self.headers.get("Range"):
                fake.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").split("-")[0])
                headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            rest_of = body[start:]
            if fake.cut_after and len(rest_of) > fake.cut_after:
                some, fake.cut_after = rest_of[: fake.cut_after], fake.then
                return self.reply(206 if start else 200, some, Content_Length=str(len(rest_of)), **headers)
            return self.reply(206 if start else 200, rest_of, **headers)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    fake.point_to(f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield fake
    server.shutdown()
    server.server_close()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--measured", action="store_true", help="show the largest difference that each comparison found")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of pytest-xdist's processes
        session.config.workeroutput["measured"] = LARGEST


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for test, share in getattr(node, "workeroutput", {}).get("measured", {}).items():
        LARGEST[test] = max(LARGEST.get(test, 0.0), share)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--measured"):
        for test, share in sorted(LARGEST.items()):
            terminalreporter.write_line(f"{share:.1e}  {test}")
