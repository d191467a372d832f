"""A function called in a process of its own, which is ended whatever the function does.

A function of a module runs in a fork of a *server*: a Python process that is started for the first call, imports the
module once and does nothing else, so that a later call takes milliseconds and a fork finds no threads that it lacks.
(A fork has only the thread that forked. Those in which torch computes are missing there, and torch waits for them for
ever.) The server imports the module anew when its file has changed, but does not notice a change of what it imports.

A function that no other process can import (of `__main__`: a notebook, a script; or inside another function) runs in
a fork of this process, on Linux. There torch computes in one thread, and a GPU that this process has used cannot be
used. macOS and Windows refuse such a function; and on Windows, which cannot fork, each call starts a Python.

When the function has returned or its time is over, its process group is ended: also a subprocess of a subprocess. One
that left the group (`setsid`, a daemon) is ended on Linux where the server runs the function, and survives elsewhere.
This guards against mistakes. It is no sandbox: the function may do whatever its user may.
"""

import atexit
import ctypes
import dataclasses
import datetime
import enum
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from multiprocessing.connection import Connection, Pipe
from multiprocessing.reduction import ForkingPickler
from pathlib import Path, PurePath
from typing import Any

import torch

from minifc.errors import first_line

STARTING = 60.0  # seconds that a process may take until it calls the function
MOST_CHARACTERS = 4000  # of a result
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_BEGUN = b"begun\n"
Task = Callable[[], Any]


def call(task: Task, module: str, seconds: float) -> Any:
    """What the task returns, as a JSON value; {"error": ...} for whatever goes wrong; a text for what is too long.

    task: can be pickled if its function can be imported; raises TypeError in pickle's stead if not.
    module: in which its function is defined. seconds: from the beginning of the call.
    """
    try:
        sent = bytes(ForkingPickler.dumps(task))
    except Exception as error:  # of pickle, in several classes
        why = first_line(error)
    else:
        if not hasattr(os, "fork"):
            return json.loads(_supervised(task, seconds, "spawn"))
        loaded, text = _ask_server(sent, module, seconds)
        if loaded:
            return json.loads(text)
        why = text
    if sys.platform == "linux":
        return json.loads(_supervised(task, seconds, "fork"))
    return {"error": f"no other process can import the function; define it in a module ({why})"}


# --- the server, as we see it ------------------------------------------------------------------------------------


class _Server:
    def __init__(self) -> None:
        self.owner = os.getpid()
        self.versions: dict[str, Any] = {}  # of the modules that it has imported
        self.connection, theirs = Pipe()
        source = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs.fileno()})"
        # Its own session: Ctrl-C in a terminal is for us. Its output is no part of ours.
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdin=subprocess.DEVNULL,
            stdout=2,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()

    def close(self) -> None:
        self.connection.close()  # which ends it, and what it is running
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_lock = threading.Lock()
_server: _Server | None = None


def _ask_server(task: bytes, module: str, seconds: float) -> tuple[bool, str]:
    """Whether the server could load the task, and the result as JSON, or why it could not."""
    with _lock:
        server = _running_server(module)
        try:
            server.connection.send((sys.path, os.getcwd(), dict(os.environ), seconds))
            server.connection.send_bytes(task)
            if server.connection.poll(STARTING + seconds):
                loaded, text = server.connection.recv()
                return loaded, text
        except (EOFError, OSError):  # a tool may have killed it
            _close_server()
            return True, _error("ended without an answer, and so did the server of tools")
        except BaseException:  # Ctrl-C
            _close_server()
            raise
        _close_server()
        return True, _error(f"took longer than {seconds:g} seconds and was ended, with the server of tools")


def _running_server(module: str) -> _Server:
    global _server
    file = getattr(sys.modules.get(module), "__file__", None)
    version = file and os.path.exists(file) and (file, os.stat(file).st_mtime_ns)
    if _server and _server.owner != os.getpid():  # we are a fork of its owner
        _server.connection.close()
        _server = None
    if _server and (_server.process.poll() is not None or _server.versions.get(module, version) != version):
        _close_server()
    _server = _server or _Server()
    _server.versions[module] = version
    return _server


@atexit.register
def _close_server() -> None:
    global _server
    if _server and _server.owner == os.getpid():
        _server.close()
    _server = None


# --- the server itself -------------------------------------------------------------------------------------------


def serve(descriptor: int) -> None:
    """Run what comes through this connection, one after the other, until it is closed."""
    connection = Connection(descriptor)
    if sys.platform == "linux":  # who loses his parent becomes our child, and can be found
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with suppress(EOFError, OSError):
        while True:
            sys.path[:], folder, environment, seconds = connection.recv()
            os.environ.clear()
            os.environ.update(environment)
            importlib.invalidate_caches()
            sent = connection.recv_bytes()
            try:
                os.chdir(folder)
                task = ForkingPickler.loads(sent)  # imports its module
            except (Exception, SystemExit) as error:
                connection.send((False, first_line(error)))
            else:
                try:
                    text = _supervised(task, seconds, "fork", connection)
                finally:
                    _end_orphans()
                connection.send((True, text))


def _end_orphans() -> None:
    """End our children, and theirs, which become ours: what a function has left behind. Linux only."""
    listing = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    for _ in range(100):  # what forks faster than this is not caught
        if not listing.exists() or not (children := listing.read_text().split()):
            return
        for child in map(int, children):
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


# --- one call ----------------------------------------------------------------------------------------------------


def _supervised(task: Task, seconds: float, start: str, asker: Connection | None = None) -> str:
    """The result as JSON. asker: the call ends when this connection is closed.

    The result comes back in a file: a pipe could be written to by the function, and be held open by what it started.
    """
    context: Any = multiprocessing.get_context(start)
    try:
        handle, path = tempfile.mkstemp(prefix="minifc-")
    except OSError as error:
        return _error(f"cannot be run: no file for its result can be made ({first_line(error)})")
    os.close(handle)
    process = context.Process(target=_work, args=(path, task, asker, start == "fork" and _has_threads()))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of a fork beside threads: see above
            process.start()
        begun, end, pause = False, time.monotonic() + STARTING, 0.001
        while process.exitcode is None:
            if not begun and os.path.getsize(path):
                begun, end = True, time.monotonic() + seconds
            if time.monotonic() > end:
                return _error(f"took longer than {seconds:g} seconds and was ended")
            pause = min(1.2 * pause, 0.02)
            if asker is None:
                time.sleep(pause)
            elif asker.poll(pause):
                raise EOFError
        text = Path(path).read_bytes().removeprefix(_BEGUN).decode()
        if process.exitcode or not text:
            return _error(f"ended without an answer, exit status {process.exitcode}")
        return text
    except OSError as error:  # there may be no more processes
        return _error(f"cannot be run: {first_line(error)}")
    finally:
        if process.pid:
            _end(process)
        os.unlink(path)


def _has_threads() -> bool:
    """Whether this process has threads that a fork would lack. Known on Linux only."""
    tasks = Path("/proc/self/task")
    return tasks.exists() and len(os.listdir(tasks)) > 1


def _end(process: Any) -> None:
    """End the process and its group."""
    with suppress(AttributeError, OSError):  # there are no groups on this system, or it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _work(path: str, task: Task, asker: Connection | None, alone: bool) -> None:
    """In the new process: write the result into the file. alone: threads of the process that forked are missing."""
    if hasattr(os, "setsid"):
        os.setsid()
    for connection in (asker, _server and _server.connection):
        if connection:
            connection.close()  # the function could write to it
    os.dup2(2, 1)  # what a function prints is no part of our output,
    # nor is what we had not yet written when the process began.
    sys.stdout = sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if alone:
        torch.set_num_threads(1)
    Path(path).write_bytes(_BEGUN)
    process = os.getpid()
    try:
        text = _as_json(task())
    except BaseException as error:  # SystemExit and KeyboardInterrupt too
        text = _error(_described(error))
    if os.getpid() == process:  # and not a fork of it that has returned as well
        Path(path).write_bytes(_BEGUN + text.encode())
    os._exit(0)  # not waiting for threads


def _as_json(value: Any) -> str:
    """The value as JSON, or the beginning of that as a JSON string. Raises TypeError or ValueError for what is none."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError as error:
        raise ValueError(f"returned what JSON does not have: {error}") from None
    text = text.encode(errors="replace").decode()  # half a surrogate pair is no text
    return text if len(text) <= MOST_CHARACTERS else json.dumps(shortened(text))


def shortened(text: str) -> str:
    """A result that is not too long to be read; the reader is told what was left out."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]} ... (cut; {len(text):,} characters in all)"


def _plain(value: Any) -> Any:
    """What json does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, PurePath)):
        return str(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (set, frozenset)):  # in an order that every process has
        return sorted(value, key=repr)
    if isinstance(value, deque):
        return list(value)
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    raise TypeError(f"returned a value of type {name}, which JSON does not have")


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _error(text: str) -> str:
    return json.dumps({"error": text[:MOST_CHARACTERS].encode(errors="replace").decode()})
