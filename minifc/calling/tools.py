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
import datetime
import enum
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union

from minifc.calling import processes
from minifc.calling.docstrings import read_docstring
from minifc.calling.schema import Schema, find_error, read_schema, same
from minifc.errors import CallError, SchemaError
from minifc.text.calls import Call

SECONDS = 10.0  # that a tool may take
_SIMPLE = {str: "string", int: "integer", float: "number", bool: "boolean", types.NoneType: "null"}
_DATES = {datetime.date: "a date, as 2026-01-31", datetime.datetime: "a date and time, as 2026-01-31T18:30:00"}


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
    signature = inspect.signature(function).parameters
    description, described = read_docstring(inspect.getdoc(function) or "", list(signature))
    for name, parameter in signature.items():
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
    return Tool(
        function, function.__name__, description, parameters, read_schema(parameters, f"tool {function.__name__}")
    )


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise SchemaError(f"tool {function.__name__}: {error}; hints must be names that its module knows") from None


def _schema(hint: Any, where: str, inside: tuple[Any, ...] = ()) -> dict[str, Any]:
    """inside: the dataclasses that this is a part of."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Required, typing.NotRequired):
        return _schema(inner[0], where, inside)
    if origin is Annotated:
        texts = [note for note in inner[1:] if isinstance(note, str)]
        return _schema(inner[0], where, inside) | ({"description": texts[0]} if texts else {})
    if hint is Any:
        return {}
    if hint in _SIMPLE:
        return {"type": _SIMPLE[hint]}
    if hint in _DATES:
        return {"type": "string", "description": _DATES[hint]}
    if origin is Literal:
        return {"enum": list(inner)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(option, where, inside) for option in inner]}
    if hint in (list, dict) or (origin in (list, dict) and not inner):
        return {"type": "array" if list in (hint, origin) else "object"}
    if origin in (list, Sequence):
        return {"type": "array", "items": _schema(inner[0], where, inside)}
    if origin is tuple and len(inner) == 2 and inner[1] is ...:
        return {"type": "array", "items": _schema(inner[0], where, inside)}
    if origin in (dict, Mapping) and inner[0] is str:
        return {"type": "object", "additionalProperties": _schema(inner[1], where, inside)}
    if (fields := _fields(hint)) is not None:
        if hint in inside:
            raise SchemaError(f"{where}: {hint.__name__} contains itself, which a tool's parameter cannot")
        kinds = _hints(hint)
        return {
            "type": "object",
            "properties": {name: _schema(kinds[name], f"{where}.{name}", (*inside, hint)) for name in fields},
            "required": [name for name, required in fields.items() if required],
            "additionalProperties": False,
        }
    raise SchemaError(
        f"{where}: {hint} has no JSON schema here; use str, int, float, bool, list[...], dict[str, ...], Literal, "
        "an Enum, a date, a dataclass or a TypedDict"
    )


def _fields(hint: Any) -> dict[str, bool] | None:
    """Of a dataclass or TypedDict: the fields, and whether each is required."""
    if typing.is_typeddict(hint):
        return {name: name in hint.__required_keys__ for name in hint.__annotations__}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        missing, fields = dataclasses.MISSING, [f for f in dataclasses.fields(hint) if f.init]
        return {f.name: f.default is missing and f.default_factory is missing for f in fields}
    return None


def _made(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checked JSON arguments as the function takes them. A dataclass's own code runs, and may raise anything."""
    hints = _hints(function)
    return {name: _from_json(value, hints[name]) for name, value in given.items()}


def _from_json(value: Any, hint: Any) -> Any:
    """A checked JSON value as its hint wants it: dataclasses and dates made, whole numbers for `float` made floats."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Annotated, typing.Required, typing.NotRequired):
        return _from_json(value, inner[0])
    if origin in (Union, types.UnionType):
        fitting = (option for option in inner if find_error(value, read_schema(_schema(option, ""), "")) is None)
        return _from_json(value, next(fitting))
    if hint in (int, float):
        return hint(value)
    if hint in _DATES:
        return hint.fromisoformat(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return next(member for member in hint if same(member.value, value))
    if origin in (list, Sequence) and inner:
        return [_from_json(item, inner[0]) for item in value]
    if origin is tuple:
        return tuple(_from_json(item, inner[0]) for item in value)
    if origin in (dict, Mapping) and inner:
        return {key: _from_json(item, inner[1]) for key, item in value.items()}
    if _fields(hint) is not None:
        kinds = _hints(hint)
        return hint(**{name: _from_json(item, kinds[name]) for name, item in value.items()})
    return value


# --- running -----------------------------------------------------------------------------------------------------


def run(tools: Sequence[Tool], call: Call, seconds: float = SECONDS) -> Any:
    """What the tool answers: a JSON value, {"error": ...} for whatever goes wrong, or a text that was cut.

    seconds: that the function may take. It runs in a process of its own, as `minifc.calling.processes` describes.
    """
    known = {tool.name: tool for tool in tools}
    if call.name not in known:
        return {"error": f"there is no tool {call.name}; there are {', '.join(known) or 'none'}"}
    try:
        known[call.name].check(call.arguments)
    except CallError as error:
        return {"error": str(error)}
    function = known[call.name].function
    return processes.call(_Task(function, call.arguments), getattr(function, "__module__", ""), seconds)


@dataclass(frozen=True)
class _Task:
    """The call of a tool's function with checked JSON arguments, as it is sent to another process."""

    function: Callable[..., Any]
    given: dict[str, Any]

    def __call__(self) -> Any:
        return self.function(**_made(self.function, self.given))

    def __reduce__(self) -> Any:
        """Pickle sends a function by its module and name, but there @tool has put the tool in the function's place."""
        module, name = self.function.__module__, getattr(self.function, "__qualname__", "")
        if module == "__main__":  # a script or a notebook; to import it would run it again
            raise TypeError("the function is defined in __main__")
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, Tool) and found.function is self.function:
            return _task_of_a_tool, (module, name, self.given)
        return _Task, (self.function, self.given)


def _task_of_a_tool(module: str, name: str, given: dict[str, Any]) -> _Task:
    return _Task(getattr(importlib.import_module(module), name).function, given)
