"""A real server in a thread, with the embedded model, for real clients."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

import minifc
from minifc.calling import tiny_tools
from minifc.serving.answering import Answering
from minifc.serving.app import make_app
from minifc.serving.engine import Engine
from minifc.serving.running import bind

NAME = "tiny-caller"


class Running:
    """A server that listens. `notes` is what it would print."""

    def __init__(self, loaded: minifc.loading.Loaded, key: str | None, options: dict[str, Any]) -> None:
        self.notes: list[str] = []
        self.engine = Engine(loaded.model, **options)
        self.answering = Answering(loaded, self.engine, NAME, 512, self.notes.append)
        self.socket = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        app = make_app(self.answering, key, ["127.0.0.1", "localhost"], tiny_tools.TOOLS)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))

    def __enter__(self) -> "Running":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.engine.close()
        self.socket.close()


@pytest.fixture(scope="session")
def loaded() -> minifc.loading.Loaded:
    return minifc.load()


@pytest.fixture(scope="session")
def start(loaded: minifc.loading.Loaded) -> Callable[..., Any]:
    """start(key=None, **engine's options): a server, as a context."""

    @contextmanager
    def begin(key: str | None = None, **options: Any) -> Iterator[Running]:
        with Running(loaded, key, options) as running:
            yield running

    return begin


@pytest.fixture(scope="session")
def server(start: Callable[..., Any]) -> Iterator[Running]:
    """One server for all tests that leave it as it is."""
    with start() as running:
        yield running
