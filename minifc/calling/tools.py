"""A Python function as a tool: its schema from hints and docstring, its arguments checked, its run bounded.

    @tool
    def convert(amount: float, unit: Literal["km", "mi"]) -> float:
        \"\"\"Convert a distance.

        amount: how far
        unit: what it is measured in
        \"\"\"

Whatever a tool does, what comes back is a value that the model can read: an error is one too.
"""

import dataclasses
import importlib
import inspect
import json
import multiprocessing
import os
import re
import signal
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal, Union

from minifc.calling.schema import Schema, find_error, read_schema
from minifc.errors import CallError, SchemaError, first_line
from minifc.text.calls import Call, write_json

SECONDS = 10.0  # that a tool may take
STARTING = 60.0  # that a process may take to begin
# A fork begins at once and knows the function wherever it was written. Elsewhere than on Linux it is not there, or not
# safe beside threads, as the system's libraries have them.
START = "fork" if sys.platform == "linux" else "spawn"
MOST_CHARACTERS = 4000  # of a result; the model is told what was left out
_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}


@dataclass(frozen=True)
class Tool:
    """A function that a model can call. Calling it from Python calls the function."""

    function: Callable[..., Any]
    name: str
    description: str
    parameters: dict[str, Any]
    checked: Schema = field(repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @property
    def schema(self) -> dict[str, Any]:
        """As a model is shown it."""
        return {"name": self.name, "description": self.description, "parameters": self.parameters}

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """JSON arguments as the function takes them. Raises CallError that says which one is wrong."""
        self.check(given)
        return _made(self.function, given)

    def check(self, given: Mapping[str, Any]) -> None:
        """Raise CallError that says which of these JSON arguments is wrong."""
        if found := find_error(dict(given), self.checked):
            raise CallError(f"{self.name}: {found}")


def tool(function: Callable[..., Any]) -> Tool:
    """Make a tool of a function. Raises SchemaError for a parameter whose hint says no JSON type."""
    if not hasattr(function, "__name__"):
        raise SchemaError(f"{function!r}: has no name; a tool is made of a function, as `def` writes one")
    if inspect.iscoroutinefunction(function):
        raise SchemaError(f"tool {function.__name__}: is async; a tool is an ordinary function, run in its own process")
    hints, properties, required = _hints(function), {}, []
    described, summary = _descriptions(function)
    for name, parameter in inspect.signature(function).parameters.items():
        where = f"tool {function.__name__}, parameter {name}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise SchemaError(f"{where}: a tool takes named parameters only")
        if name not in hints:
            raise SchemaError(f"{where}: has no type hint")
        properties[name] = _schema(hints[name], where)
        if name in described:
            properties[name]["description"] = described[name]
        if parameter.default is parameter.empty:
            required.append(name)
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Tool(function, function.__name__, summary, parameters, read_schema(parameters, f"tool {function.__name__}"))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, SyntaxError) as error:
        raise SchemaError(f"tool {function.__name__}: {error}; hints must be names that its module knows") from None


def _descriptions(function: Callable[..., Any]) -> tuple[dict[str, str], str]:
    """Of the parameters, from the docstring's lines `name: what it is`, and of the tool, from its first paragraph."""
    text = inspect.getdoc(function) or ""
    names = "|".join(map(re.escape, inspect.signature(function).parameters)) or "$^"
    lines = re.findall(rf"^\s*({names})(?:\s*\([^)]*\))?:\s*(.+?)\s*$", text, re.MULTILINE)
    return dict(lines), " ".join(text.split("\n\n")[0].split())


def _schema(hint: Any, where: str, inside: tuple[Any, ...] = ()) -> dict[str, Any]:
    """inside: the dataclasses that this is a part of."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if hint in (list, dict) or (origin in (list, dict) and not inner):
        return {"type": "array" if list in (hint, origin) else "object"}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(option, where, inside) for option in inner]}
    if origin is list:
        return {"type": "array", "items": _schema(inner[0], where, inside)}
    if origin is dict and inner[0] is str:
        return {"type": "object", "additionalProperties": _schema(inner[1], where, inside)}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if hint in inside:
            raise SchemaError(f"{where}: {hint.__name__} contains itself, which a tool's parameter cannot")
        kinds, fields = _hints(hint), [f for f in dataclasses.fields(hint) if f.init]
        missing = dataclasses.MISSING
        return {
            "type": "object",
            "properties": {f.name: _schema(kinds[f.name], f"{where}.{f.name}", (*inside, hint)) for f in fields},
            "required": [f.name for f in fields if f.default is missing and f.default_factory is missing],
            "additionalProperties": False,
        }
    raise SchemaError(f"{where}: {hint} is no JSON type; use str, int, float, bool, list, dict, Literal or a dataclass")


def _made(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checked JSON arguments as the function takes them. A dataclass's own code runs, and may raise anything."""
    hints = _hints(function)
    return {name: _from_json(value, hints[name]) for name, value in given.items()}


def _from_json(value: Any, hint: Any) -> Any:
    """A checked JSON value as its hint wants it: dataclasses made, whole numbers for `float` made floats."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        fitting = (option for option in inner if find_error(value, read_schema(_schema(option, ""), "")) is None)
        return _from_json(value, next(fitting))
    if hint is float:
        return float(value)
    if hint is int:
        return int(value)
    if origin is list and inner:
        return [_from_json(item, inner[0]) for item in value]
    if origin is dict and inner:
        return {key: _from_json(item, inner[1]) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        kinds = typing.get_type_hints(hint)
        return hint(**{name: _from_json(item, kinds[name]) for name, item in value.items()})
    return value


# --- running -----------------------------------------------------------------------------------------------------


def run(tools: Sequence[Tool], call: Call, seconds: float = SECONDS) -> Any:
    """What the tool answers: a JSON value, {"error": ...} for whatever goes wrong, or a text that was cut."""
    known = {tool.name: tool for tool in tools}
    if call.name not in known:
        return {"error": f"there is no tool {call.name}; there are {', '.join(known) or 'none'}"}
    try:
        known[call.name].check(call.arguments)
    except CallError as error:
        return {"error": str(error)}
    text = _in_a_process(known[call.name].function, call.arguments, seconds)
    if len(text) > MOST_CHARACTERS:
        return f"{text[:MOST_CHARACTERS]} ... (cut; {len(text):,} characters in all)"
    return json.loads(text)


def _in_a_process(function: Callable[..., Any], arguments: dict[str, Any], seconds: float) -> str:
    """The result as JSON. A process of its own can be ended, whatever the function does."""
    context: Any = multiprocessing.get_context(START)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, _sendable(function), arguments), daemon=True)
    try:
        process.start()
    except Exception as error:  # of pickle, in several classes
        why = f"{type(error).__name__}: {first_line(error)}"
        return write_json({"error": f"cannot be sent to a process of its own; define the tool in a module ({why})"})
    theirs.close()
    try:
        if ours.poll(STARTING):  # a new Python first reads the tool's module
            ours.recv_bytes()
            if ours.poll(seconds):
                return ours.recv_bytes(16 * 2**20).decode()
        return write_json({"error": f"took longer than {seconds:g} seconds and was ended"})
    except EOFError:
        process.join(1)
        return write_json({"error": f"ended without an answer, exit status {process.exitcode}"})
    except OSError:
        return write_json({"error": "answered with more than 16 MB"})
    finally:
        _end(process)


def _sendable(function: Callable[..., Any]) -> Callable[..., Any] | tuple[str, str]:
    """What a pickle can hold: under the name by which it would look for a function stands the tool made of it."""
    name = (getattr(function, "__module__", ""), getattr(function, "__qualname__", ""))
    found = vars(sys.modules.get(name[0]) or types).get(name[1])
    return name if isinstance(found, Tool) and found.function is function else function


def _end(process: Any) -> None:
    """End the process and whatever it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, OSError):  # no groups on this system, or it has ended
        process.kill()
    process.join()


def _answer(pipe: Connection, function: Callable[..., Any] | tuple[str, str], arguments: dict[str, Any]) -> None:
    """In the new process: call the function and send what it returns, or why it did not."""
    if hasattr(os, "setsid"):
        os.setsid()
    os.dup2(2, 1)  # what a tool prints is no part of our output,
    sys.stdout = sys.stderr  # nor is what we had not yet written when the process began
    try:
        if isinstance(function, tuple):
            called = getattr(importlib.import_module(function[0]), function[1]).function
        else:
            called = function
        pipe.send_bytes(b"begun")
        answer = _as_json(called(**_made(called, arguments)))
    except Exception as error:
        answer = write_json({"error": f"{type(error).__name__}: {error}"[:MOST_CHARACTERS]})
    pipe.send_bytes(answer.encode(errors="replace"))


def _as_json(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    try:
        return write_json(value)
    except CallError:
        return write_json(str(value))
