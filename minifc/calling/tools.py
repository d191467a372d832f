"""A Python function as a tool: its schema from hints and docstring, its arguments checked, its run bounded.

    @tool
    def convert(amount: float, unit: Literal["km", "mi"]) -> float:
        \"\"\"Convert a distance.

        amount: how far
        unit: what it is measured in
        \"\"\"

Whatever a tool does, what comes back is a value that the model can read: an error is one too.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minifc.calling import processes
from minifc.calling.docstrings import read_docstring
from minifc.calling.hints import from_json, hint_schema, hints_of
from minifc.calling.kinds import Schema
from minifc.calling.schema import read_schema
from minifc.calling.validation import find_error
from minifc.errors import CallError, SchemaError
from minifc.text.calls import Call
from minifc.text.examples import Example, read_examples

SECONDS = 10.0  # that a tool may take


@dataclass(frozen=True)
class Tool:
    """A function that a model can call. Calling it from Python calls the function."""

    function: Callable[..., Any]
    name: str
    description: str
    parameters: dict[str, Any]
    checked: Schema = field(repr=False)
    examples: tuple[Example, ...] = ()  # of its docstring

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

    def answer(self, given: Mapping[str, Any], seconds: float) -> Any:
        """What the function returns for checked JSON arguments, as a JSON value, or {"error": ...}.

        It runs in a process of its own, as `minifc.calling.processes` describes.
        """
        module = getattr(self.function, "__module__", "")
        return processes.call(_Task(self.function, dict(given)), module, seconds)

    def check(self, given: Mapping[str, Any]) -> None:
        """Raise CallError that says which of these JSON arguments is wrong."""
        if found := find_error(dict(given), self.checked):
            raise CallError(f"{self.name}: {found}")


def tool(function: Callable[..., Any]) -> Tool:
    """Make a tool of a function. Raises SchemaError for a parameter whose hint says no JSON type, and for an example in
    its docstring that is no call of it."""
    if not hasattr(function, "__name__"):
        raise SchemaError(f"{function!r}: has no name; a tool is made of a function, as `def` writes one")
    if inspect.iscoroutinefunction(function):
        raise SchemaError(f"tool {function.__name__}: is async; a tool is an ordinary function, run in its own process")
    hints, properties, required = hints_of(function), {}, []
    signature = inspect.signature(function).parameters
    docstring, examples = read_examples(inspect.getdoc(function) or "", f"tool {function.__name__}")
    description, described = read_docstring(docstring, list(signature))
    for name, parameter in signature.items():
        where = f"tool {function.__name__}, parameter {name}"
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise SchemaError(f"{where}: a tool takes named parameters only")
        if name not in hints:
            raise SchemaError(f"{where}: has no type hint")
        try:
            properties[name] = hint_schema(hints[name], where, described.get(name, ""))
        except RecursionError:
            raise SchemaError(f"{where}: its type hint contains itself, which a tool's parameter cannot") from None
        if parameter.default is parameter.empty:
            required.append(name)
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    checked = read_schema(parameters, f"tool {function.__name__}")
    made = Tool(function, function.__name__, description, parameters, checked, tuple(examples))
    _check_examples(made)
    return made


def _check_examples(made: Tool) -> None:
    for number, example in enumerate(made.examples, 1):
        where = f"tool {made.name}, example {number}"
        for call in example.calls:
            if call.name != made.name:
                raise SchemaError(f"{where}: calls {call.name}; an example stands with the tool that it calls")
            if found := find_error(call.arguments, made.checked):
                raise SchemaError(f"{where}: {found}")


def _made(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Checked JSON arguments as the function takes them. Raises CallError, or whatever a dataclass's own code does."""
    hints = hints_of(function)
    return {name: from_json(value, hints[name], f"{function.__name__}: {name}") for name, value in given.items()}


# --- running -----------------------------------------------------------------------------------------------------


def run(tools: Sequence[Tool], call: Call, seconds: float = SECONDS) -> Any:
    """What the tool answers: a JSON value, {"error": ...} for whatever goes wrong, or a text that was cut.

    seconds: that the function may take.
    """
    known = {tool.name: tool for tool in tools}
    if call.name not in known:
        return {"error": f"there is no tool {call.name}; there are {', '.join(known) or 'none'}"}
    try:
        known[call.name].check(call.arguments)
    except CallError as error:
        return {"error": str(error)}
    return known[call.name].answer(call.arguments, seconds)


@dataclass(frozen=True)
class _Task:
    """The call of a tool's function with checked JSON arguments, as it is sent to another process."""

    function: Callable[..., Any]
    given: dict[str, Any]

    def __call__(self) -> Any:
        try:
            made = _made(self.function, self.given)
        except CallError as error:
            return {"error": str(error)}
        return self.function(**made)

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
