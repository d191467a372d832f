"""Examples in a tool's docstring: what somebody may say, and the calls that this asks for.

    >>> "Make the kitchen half as bright" -> set_lamp(room="kitchen", percent=50)
    >>> "A red and a white lamp in the hall!" -> set_lamp(room="hall", colour="red"), set_lamp(room="hall")
    >>> "What lamps are there?" -> no call

Arguments are named, and their values are Python's spelling of JSON values; nothing is executed. A line that begins with
`...` goes on with the example above it. Other `>>>` lines are left to whom they belong, such as doctest.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any

from minifc.errors import CallError, SchemaError
from minifc.text.calls import Call, write_json

NO_CALL = "no call"
_BEGIN = re.compile(r"""\s*>>>\s*(?=["'])(.*)""")
_GOES_ON = re.compile(r"\s*\.\.\.\s?(.*)")


@dataclass(frozen=True)
class Example:
    """A request, and the calls that it asks for, if any."""

    request: str
    calls: tuple[Call, ...]


def read_examples(docstring: str, where: str) -> tuple[str, list[Example]]:
    """The docstring without its examples, and these. Raises SchemaError for one that cannot be read.

    where: what an error calls the tool.
    """
    rest: list[str] = []
    written: list[str] = []
    goes_on = False
    for line in docstring.split("\n"):
        if (begun := _BEGIN.fullmatch(line)) and "->" in line:
            written.append(begun[1])
            goes_on = True
        elif goes_on and (more := _GOES_ON.fullmatch(line)):
            written[-1] += f" {more[1]}"
        else:
            rest.append(line)
            goes_on = False
    return "\n".join(rest), [_read(text, f"{where}, example {number}") for number, text in enumerate(written, 1)]


def _read(text: str, where: str) -> Example:
    for arrow in re.finditer("->", text):  # the request may hold an arrow too
        try:
            request = ast.literal_eval(text[: arrow.start()].strip())
        except (ValueError, SyntaxError):
            continue
        if isinstance(request, str) and request.strip():
            return Example(request, _calls(text[arrow.end() :].strip(), where))
    raise SchemaError(f'{where}: is not "what is said" -> call(name=value)')


def _calls(text: str, where: str) -> tuple[Call, ...]:
    if text == NO_CALL:
        return ()
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SchemaError(f"{where}: {text[:60]!r} is neither a call nor {NO_CALL!r}") from None
    return tuple(_call(node, where) for node in (tree.elts if isinstance(tree, ast.Tuple) else [tree]))


def _call(node: ast.expr, where: str) -> Call:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise SchemaError(f"{where}: {ast.unparse(node)[:60]!r} is neither a call nor {NO_CALL!r}")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise SchemaError(f"{where}: name the arguments of {node.func.id}, as in {node.func.id}(name=value)")
    return Call(node.func.id, {str(keyword.arg): _value(keyword, where) for keyword in node.keywords})


def _value(keyword: ast.keyword, where: str) -> Any:
    try:
        value = ast.literal_eval(keyword.value)
        write_json(value)
    except (ValueError, TypeError, CallError):
        raise SchemaError(f"{where}: {keyword.arg} is not a JSON value: {ast.unparse(keyword.value)[:60]}") from None
    return value
