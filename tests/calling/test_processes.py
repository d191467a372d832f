"""Functions in processes of their own: whatever they do, they are answered, and nothing of them is left."""

import dataclasses
import datetime
import enum
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from minifc.calling import processes, sample_tools
from minifc.calling.processes import MOST_CHARACTERS
from minifc.calling.tools import Tool, run, tool
from minifc.text.calls import Call

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux can do")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Box:
    side: int
    colour: Colour


def _interrupts() -> None:
    raise KeyboardInterrupt


def _floods() -> str:
    """50 MB each, by Python, by file descriptor and from a subprocess."""
    for _ in range(50):
        print("x" * 2**20)
        os.write(1, b"x" * 2**20)
    subprocess.run([sys.executable, "-c", "for _ in range(50): print('x' * 2**20)"], check=True)
    return "done"


def _ignores_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(60)


def _writes_to_descriptors(kinds: Sequence[Callable[[int], bool]]) -> str:
    for descriptor in range(3, 256):
        with suppress(OSError):
            if any(kind(os.fstat(descriptor).st_mode) for kind in kinds):
                os.set_blocking(descriptor, False)
                os.write(descriptor, b"\xff" * 4096)
    return "done"


def _forks() -> str:
    return "parent" if os.fork() else "child"


def _raises_what_cannot_be_said() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise Odd


def _has_itself() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def _recurses() -> None:
    _recurses()


DEEDS: dict[str, Callable[[], Any]] = {
    "raise": lambda: 1 / 0,
    "raise what cannot be said": _raises_what_cannot_be_said,
    "exit": lambda: os._exit(3),
    "exit well": lambda: os._exit(0),
    "system exit": lambda: sys.exit(4),
    "interrupt": _interrupts,
    "be killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "kill the server": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "recurse": _recurses,
    "sleep": lambda: time.sleep(60),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "ignore signals": _ignores_signals,
    "wait for a child": lambda: subprocess.run(["sleep", "60"], check=True),
    "flood": _floods,
    "write to sockets": lambda: _writes_to_descriptors([stat.S_ISSOCK]),
    "write to pipes": lambda: _writes_to_descriptors([stat.S_ISSOCK, stat.S_ISFIFO, stat.S_ISREG]),
    "read": lambda: sys.stdin.read(),
    "fork": _forks,
    "huge": lambda: "x" * 10**6,
    "too huge": lambda: "x" * 2**25,
    "many numbers": lambda: list(range(10**6)),
    "generator": lambda: (number for number in range(3)),
    "lambda": lambda: lambda: 1,
    "bytes": lambda: b"abc",
    "object": lambda: torch.ones(1),
    "keys": lambda: {(1, 2): 3},
    "nan": lambda: {"value": float("nan")},
    "itself": _has_itself,
    "surrogate": lambda: ["\ud800"],
    "surrogate in an error": lambda: int("\ud800"),
    "date": lambda: datetime.date(2026, 1, 31),
    "box": lambda: [Box(1, Colour.RED)],
    "torch": lambda: float((torch.ones(512, 512) @ torch.ones(512, 512))[0, 0]),
}  # fmt: skip


@tool
def do(what: str) -> Any:
    """Do something that a tool should not."""
    return DEEDS[what]()


def local(function: Callable[..., Any]) -> Tool:
    """A tool that no other process can import."""

    def do(what: str) -> Any:
        return function(what)

    return tool(do)


@pytest.fixture(params=["server", pytest.param("fork", marks=LINUX)])
def tried(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """tried(what, seconds): what is answered, by a function of a module and by one that is defined in a function."""
    made = do if request.param == "server" else local(do.function)
    return lambda what, seconds=60.0: run([made], Call("do", {"what": what}), seconds)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("raise", "ZeroDivisionError: division by zero"),
        ("raise what cannot be said", "Odd"),
        ("exit", "ended without an answer, exit status 3"),
        ("exit well", "ended without an answer, exit status 0"),
        ("system exit", "SystemExit: 4"),
        ("interrupt", "KeyboardInterrupt"),
        ("be killed", "ended without an answer, exit status -9"),
        ("recurse", "RecursionError: maximum recursion depth exceeded"),
        ("unknown", "KeyError: 'unknown'"),
        ("generator", "TypeError: returned a value of type generator, which JSON does not have"),
        ("lambda", "TypeError: returned a value of type function, which JSON does not have"),
        ("bytes", "TypeError: returned a value of type bytes, which JSON does not have"),
        ("object", "TypeError: returned a value of type torch.Tensor, which JSON does not have"),
        ("keys", "TypeError: keys must be str, int, float, bool or None, not tuple"),
        ("nan", "ValueError: returned what JSON does not have: Out of range float values are not JSON compliant"),
        ("itself", "ValueError: returned what JSON does not have: Circular reference detected"),
        ("surrogate in an error", "ValueError: invalid literal for int() with base 10: '\\ud800'"),
    ],
)
def test_what_goes_wrong_is_an_answer(tried: Callable[..., Any], what: str, why: str) -> None:
    error = tried(what)["error"]
    assert error.startswith(why)
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("what", ["sleep", "stop", "ignore signals", "wait for a child"])
def test_a_function_that_takes_too_long_is_ended(tried: Callable[..., Any], what: str) -> None:
    tried("date")  # the server has begun
    started = time.monotonic()
    assert tried(what, 0.3) == {"error": "took longer than 0.3 seconds and was ended"}
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("what", "answer"),
    [
        ("flood", "done"),
        ("write to sockets", "done"),
        ("read", ""),
        ("fork", "parent"),
        ("surrogate", ["?"]),
        ("date", "2026-01-31"),
        ("box", [{"side": 1, "colour": "red"}]),
        ("torch", 512.0),
    ],
)
def test_what_is_unusual_is_answered(tried: Callable[..., Any], what: str, answer: Any) -> None:
    assert tried(what) == answer
    assert tried("date") == "2026-01-31"  # and the next call too


@pytest.mark.parametrize(("what", "size"), [("huge", 10**6 + 2), ("too huge", 2**25 + 2), ("many numbers", 7888890)])
def test_a_long_result_is_cut_and_says_so(tried: Callable[..., Any], what: str, size: int) -> None:
    answer = tried(what)
    assert len(answer) < MOST_CHARACTERS + 100
    assert answer.endswith(f"... (cut; {size:,} characters in all)")


def test_a_function_that_writes_to_every_descriptor() -> None:
    """Only in the server: a fork of ours also has what pytest has open."""
    assert run([do], Call("do", {"what": "write to pipes"})) == "done"
    assert run([do], Call("do", {"what": "date"})) == "2026-01-31"


def test_a_function_that_kills_the_server() -> None:
    assert "so did the server" in run([do], Call("do", {"what": "kill the server"}))["error"]
    assert run([do], Call("do", {"what": "date"})) == "2026-01-31"


# --- what is left of a call ----------------------------------------------------------------------------------------


def _sleeper(pids: Path, setsid: bool) -> None:
    """Fork twice, so that the sleeper's parent ends, and write down the sleeper's id."""
    if os.fork():
        os.wait()
        return
    if setsid:
        os.setsid()
    if os.fork() == 0:
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(120)
    os._exit(0)


@tool
def leave(pids: str, setsid: bool, wait: bool) -> str:
    """Leave two processes behind: a subprocess, and one whose parent has ended."""
    child = subprocess.Popen(["sleep", "120"], start_new_session=setsid)
    with Path(pids).open("a") as file:
        file.write(f"{child.pid}\n")
    _sleeper(Path(pids), setsid)
    while len(Path(pids).read_text().split()) < 2:
        time.sleep(0.01)
    if wait:
        time.sleep(60)
    return "left"


def lives(pid: int) -> bool:
    """Whether it runs; a zombie, which only waits to be noted by its parent, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_gone(pids: list[int]) -> None:
    end = time.monotonic() + 10
    while (left := [pid for pid in pids if lives(pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@LINUX
@pytest.mark.parametrize("wait", [False, True], ids=["returns", "takes too long"])
@pytest.mark.parametrize("kind", ["server", "server, other session", "fork"])
def test_nothing_that_a_function_started_goes_on(tmp_path: Path, kind: str, wait: bool) -> None:
    pids = tmp_path / "pids"
    made = leave
    if kind == "fork":

        def leave_(pids: str, setsid: bool, wait: bool) -> Any:
            return leave.function(pids, setsid, wait)

        made = tool(leave_)
    given = {"pids": str(pids), "setsid": "session" in kind, "wait": wait}
    answer = run([made], Call(made.name, given), seconds=1.0 if wait else 60.0)
    assert answer == ({"error": "took longer than 1 seconds and was ended"} if wait else "left")
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 2
    assert_gone(found)


# --- beside our own process ----------------------------------------------------------------------------------------

PRINTS = """
import os, subprocess, sys
from minifc.calling.tools import tool

@tool
def shout() -> str:
    "Shout."
    print("by Python")
    os.write(1, b"by descriptor\\n")
    subprocess.run(["echo", "by subprocess"])
    return "quiet"
"""
ASKS = """
import sys
{imports}
from minifc.calling.tools import run
from minifc.text.calls import Call
print("ours, unwritten yet;", end=" ")
print(run([shout], Call("shout", {{}})))
"""


@pytest.mark.parametrize("kind", ["module", pytest.param("script", marks=LINUX)])
def test_what_a_function_prints_is_no_part_of_our_output(tmp_path: Path, kind: str) -> None:
    """A script has no `if __name__ == "__main__"`: it must not be run again by the process of its function."""
    (tmp_path / "shouting.py").write_text(PRINTS)
    imports = PRINTS if kind == "script" else "from shouting import shout"
    (tmp_path / "script.py").write_text(ASKS.format(imports=imports))
    path = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ended.stdout == "ours, unwritten yet; quiet\n"
    assert ended.stderr.splitlines() == ["by Python", "by descriptor", "by subprocess"]


TORCH = """
import os
import torch
from minifc.calling.tools import tool
{early}
NUMBER = os.getpid()

@tool
def multiply(threads: int) -> list[float]:
    "Multiply two matrices."
    if threads:
        torch.set_num_threads(threads)
    product = torch.ones(512, 512) @ torch.ones(512, 512)
    return [float(product[0, 0]), torch.get_num_threads(), NUMBER]
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """written(source): the module of that source, imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> Any:
        (tmp_path / "own_module.py").write_text(source)
        monkeypatch.delitem(sys.modules, "own_module", raising=False)
        return __import__("own_module")

    return write


def test_torch_computes_in_a_tool(written: Callable[[str], Any]) -> None:
    """And its module is imported once, by the server, for all calls."""
    (torch.ones(512, 512) @ torch.ones(512, 512)).sum()  # we have threads of our own
    module = written(TORCH.format(early=""))
    first, second = (run([module.multiply], Call("multiply", {"threads": 2}), 60) for _ in range(2))
    assert first[:2] == [512.0, 2]
    assert first == second
    assert first[2] != os.getpid()


@LINUX
def test_torch_computes_in_a_tool_whose_module_has_started_threads(written: Callable[[str], Any]) -> None:
    early = "torch.set_num_threads(2)\ntorch.ones(512, 512) @ torch.ones(512, 512)"
    module = written(TORCH.format(early=early))
    assert run([module.multiply], Call("multiply", {"threads": 0}), 60)[:2] == [512.0, 1]


@LINUX
def test_torch_computes_in_a_function_that_cannot_be_imported() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (torch.ones(512, 512) @ torch.ones(512, 512)).sum()
        multiply = local(lambda what: float((torch.ones(512, 512) @ torch.ones(512, 512))[0, 0]))
        assert run([multiply], Call("do", {"what": ""}), 60) == 512.0
    finally:
        torch.set_num_threads(before)


ANSWERS = """
import os
from minifc.calling.tools import tool

@tool
def answer() -> list:
    "Answer."
    return [{number}, os.getcwd(), os.environ.get("MINIFC_TEST")]
"""


def test_a_changed_file_folder_and_environment_are_noticed(
    tmp_path: Path, written: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = written(ANSWERS.format(number=1))
    assert run([module.answer], Call("answer", {})) == [1, os.getcwd(), None]
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    monkeypatch.setenv("MINIFC_TEST", "yes")
    assert run([module.answer], Call("answer", {})) == [1, str(tmp_path / "folder"), "yes"]
    changed = written(ANSWERS.format(number=23))
    assert run([changed.answer], Call("answer", {})) == [23, str(tmp_path / "folder"), "yes"]


@LINUX
@pytest.mark.parametrize("kind", ["server", "fork"])
def test_ctrl_c_ends_the_call(tmp_path: Path, kind: str) -> None:
    pids = tmp_path / "pids"

    def interrupt() -> None:
        while len(pids.read_text().split() if pids.exists() else ()) < 2:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    function = leave.function
    made = leave if kind == "server" else local(lambda what: function(what, False, True))
    given = {"pids": str(pids), "setsid": True, "wait": True} if kind == "server" else {"what": str(pids)}
    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest in the background of a shell ignores it
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            run([made], Call(made.name, given), 60)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert_gone([int(pid) for pid in pids.read_text().split()])
    assert run([do], Call("do", {"what": "date"})) == "2026-01-31"


def test_where_a_process_cannot_be_forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("hello")
    monkeypatch.delattr(os, "fork")
    monkeypatch.setattr(processes.sys, "platform", "win32")
    assert run([sample_tools.file_reader(tmp_path)], Call("read_file", {"path": "a.txt"})) == "hello"
    assert run([do], Call("do", {"what": "sleep"}), 0.3)["error"].startswith("took longer")
    assert run([local(str)], Call("do", {"what": ""}))["error"].startswith("no other process can import the function;")
