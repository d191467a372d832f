"""How a tool call is written and read as JSON, which is how data sets hold calls, and most dialects write them.

Written in one way only, so that what a model is trained on and what a grammar later forces are
the same string. Read in the two ways found in real data: JSON and Python's repr. Reading never
executes anything, and its cost is bounded by MAX_LENGTH and MAX_DEPTH whatever a model writes.
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from minifc.errors import CallError

THINK, END_THINK = "<think>", "</think>"
TOOL_CALL, END_TOOL_CALL = "<tool_call>", "</tool_call>"
TOOL_RESPONSE, END_TOOL_RESPONSE = "<tool_response>", "</tool_response>"
TOOLS, END_TOOLS = "<tools>", "</tools>"
TAGS = (TOOLS, END_TOOLS, THINK, END_THINK, TOOL_CALL, END_TOOL_CALL, TOOL_RESPONSE, END_TOOL_RESPONSE)

MAX_LENGTH = 100_000  # characters in one call
MAX_DEPTH = 64  # brackets inside brackets
# A string may lack its end: then it reaches to the end of the text, and is read once.
_STRING_OR_BRACKET = re.compile(r""""(?:\\.|[^"\\])*(?:"|\Z)|'(?:\\.|[^'\\])*(?:'|\Z)|[\[\](){}]""", re.DOTALL)
_TOOLS_BLOCK = re.compile(f"{TOOLS}(.*?){END_TOOLS}", re.DOTALL)
# What is thought is passed over; a call may lack its end.
_THOUGHT_OR_CALL = re.compile(rf"{THINK}.*?(?:{END_THINK}|\Z)|{TOOL_CALL}(.*?)({END_TOOL_CALL}|\Z)", re.DOTALL)
# What Python calls JSON Schema's types: some describe tools with these names.
PYTHON_TYPES = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "tuple": "array",
    "set": "array", "dict": "object", "none": "null",
}  # fmt: skip
_CALL_FIELDS = {"name", "arguments", "id", "type"}


@dataclass(frozen=True)
class Call:
    """One tool call: the tool's name and its arguments as JSON values."""

    name: str
    arguments: dict[str, Any]


def write_json(value: Any) -> str:
    """The one JSON spelling minifc writes: `", "` and `": "` between things, non-ASCII kept, NaN refused."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError(f"not a JSON value: {error}") from None


def write_call(call: Call, tool: Mapping[str, Any] | None = None) -> str:
    """The canonical call without its tags: name first, arguments in the order of `tool`'s schema if given.

    Objects inside the arguments follow the schema too, also where it names a part of itself (`$defs`, `definitions`).
    Where the schema wants an integer, 1.0 is written 1.
    """
    arguments = as_listed(call.arguments, (tool or {}).get("parameters"))
    return write_json({"name": call.name, "arguments": arguments})


def as_listed(value: Any, schema: Any, root: Any = None) -> Any:
    """The value with each object's keys in the order of its schema, and behind these the others in their own.

    Where the schema wants an integer, 1.0 is 1. root: the whole schema, if this is a part of it.
    """
    root = schema if root is None else root
    schema = _named(schema, root)
    if not isinstance(schema, Mapping):
        return value
    if isinstance(options := schema.get("anyOf"), list):
        schema = next((one for option in options if _may_be(value, one := _named(option, root))), {})
    if isinstance(value, list):
        return [as_listed(item, schema.get("items"), root) for item in value]
    if not isinstance(value, dict):
        return int(value) if isinstance(value, float) and value.is_integer() and _is_of_integers(schema) else value
    listed = schema.get("properties")
    listed = listed if isinstance(listed, Mapping) else {}
    ordered = {key: value[key] for key in listed if key in value} | value
    others = schema.get("additionalProperties")
    return {key: as_listed(item, listed.get(key, others), root) for key, item in ordered.items()}


def _named(schema: Any, root: Any) -> Any:
    """In place of a schema that only names another one, by $ref or in an allOf of its own: that one."""
    if not isinstance(schema, Mapping):
        return schema
    if isinstance(parts := schema.get("allOf"), list) and len(parts) == 1:
        (schema,) = parts
    pointer = schema.get("$ref") if isinstance(schema, Mapping) else None
    if not isinstance(pointer, str) or not re.fullmatch(r"#/(\$defs|definitions)/[^/]*", pointer):
        return schema
    places = root.get(pointer.split("/")[1]) if isinstance(root, Mapping) else None
    return places.get(pointer.split("/")[2], schema) if isinstance(places, Mapping) else schema


def _may_be(value: Any, option: Any) -> bool:
    """Whether an option of anyOf has all keys of an object, or is for arrays or for integers where the value is one."""
    if not isinstance(option, Mapping):
        return False
    if isinstance(value, float):
        return value.is_integer() and _is_of_integers(option)
    if isinstance(value, list):
        return option.get("type") == "array"
    listed = option.get("properties")
    return isinstance(value, dict) and isinstance(listed, Mapping) and value.keys() <= listed.keys()


def at_pointer(root: Any, pointer: str) -> Any:
    """What stands at a JSON pointer (RFC 6901) such as #/$defs/x, the value of a `$ref`; None if nothing does."""
    place = root
    for step in pointer.split("/")[1:]:
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        elif isinstance(place, Mapping) and step in place:
            place = place[step]
        else:
            return None
    return place


def _is_of_integers(schema: Mapping[str, Any]) -> bool:
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return "integer" in kinds and "number" not in kinds


def read_value(text: str, longest: int = MAX_LENGTH) -> Any:
    """A JSON value from JSON, in whose strings line breaks and tabs may stand as they are, or from Python's repr.

    Raises CallError, also for a text of more than `longest` characters.
    """
    text = text.strip()
    if len(text) > longest:
        raise CallError(f"{len(text)} characters; at most {longest} are read")
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match.group() in "[](){}":
            depth += 1 if match.group() in "[({" else -1
            if not 0 <= depth <= MAX_DEPTH:
                what = f"nested more than {MAX_DEPTH} deep" if depth > 0 else "a bracket is closed that was not opened"
                raise CallError(f"{what}, at character {match.start()}")
    try:
        return _whole(
            json.loads(
                text,
                strict=False,
                parse_constant=_refuse_constant,
                parse_float=_finite,
                object_pairs_hook=_unique_keys,
            )
        )
    except ValueError as error:
        as_json = error
    try:
        return _whole(_from_literal(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise CallError(f"neither JSON nor a Python literal: {as_json}") from None


def _from_literal(text: str) -> Any:
    """Python's repr of a JSON value. Only literals are accepted: they build values and call nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about "\\d" in somebody's string
        tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _unique_keys([(ast.literal_eval(key), None) for key in node.keys if key is not None])
    return _as_json(ast.literal_eval(tree))


def read_call(text: str) -> Call:
    """A call from the text between its tags. Raises CallError that says what is wrong."""
    value = read_value(text)
    if not isinstance(value, dict):
        raise CallError(f"a call is an object, not a {type(value).__name__}")
    if not isinstance(name := value.get("name"), str) or not name:
        raise CallError("a call needs a name")
    if unknown := sorted(set(value) - _CALL_FIELDS):
        raise CallError(f"the call of {name} has a field {unknown[0]!r}; it takes name and arguments")
    arguments = value.get("arguments", {})
    if isinstance(arguments, str):  # as OpenAI's API writes them: JSON inside a string
        arguments = read_value(arguments or "{}")
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise CallError(f"the arguments of {name} are not an object")
    return Call(name, arguments)


def rewrite_calls(text: str, tools: Mapping[str, dict[str, Any]]) -> str:
    """A model turn's text that holds its tags, with every call in the canonical form. Raises CallError.

    tools: schemas by name, for the order of arguments; a call of another tool keeps its own order.
    """

    def rewrite(match: re.Match[str]) -> str:
        written, end = match.groups()
        if written is None:
            thought = match.group()
            if TOOL_CALL in thought and not thought.endswith(END_THINK):
                raise CallError(f"a call follows a {THINK} that is not closed by {END_THINK}")
            return thought
        if not end:
            raise CallError(f"a call is not closed by {END_TOOL_CALL}")
        call = read_call(written)
        return f"{TOOL_CALL}\n{write_call(call, tools.get(call.name))}\n{END_TOOL_CALL}"

    return _THOUGHT_OR_CALL.sub(rewrite, text)


def tool_schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    """{"name", "description", "parameters"}, out of OpenAI's wrapper if it is in one. Raises CallError."""
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str) or not inner["name"]:
        raise CallError(f"a tool is an object with a name, not {str(tool)[:80]}")
    parameters = inner.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise CallError(f"the parameters of tool {inner['name']} are a {type(parameters).__name__}, not a JSON schema")
    if parameters and not isinstance(parameters.get("properties") or {}, Mapping):
        raise CallError(f"the properties of tool {inner['name']} are not an object")
    return dict(inner)


def spelled_calls(text: str) -> list[Call]:
    """The calls of a model turn's text that holds its tags. Raises CallError for one that cannot be read."""
    return [read_call(match[1]) for match in _THOUGHT_OR_CALL.finditer(text) if match[1] is not None]


def read_tools(text: str) -> list[dict[str, Any]]:
    """The schemas between `<tools>` and `</tools>` in a text: a list, or one object a line. Raises CallError."""
    found: list[dict[str, Any]] = []
    for block in _TOOLS_BLOCK.findall(text):
        if not block.strip():
            continue  # many a system text speaks of empty <tools></tools>
        try:
            values = read_value(block)
        except CallError:
            values = [read_value(line) for line in block.split("\n") if line.strip()]
        found += map(tool_schema, values if isinstance(values, list) else [values])
    return found


def _whole(value: Any) -> Any:
    """The value, if all its strings are text; ValueError for half a surrogate pair, which nothing could encode."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a string holds half a surrogate pair") from None
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    if math.isinf(value := float(number)):
        raise ValueError(f"{number} is too large")
    return value


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if len(result := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return result


def _as_json(value: Any) -> Any:
    """The JSON value that a Python literal stands for; ValueError for one that stands for none."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if (isinstance(value, float) and math.isfinite(value)) or (isinstance(value, int) and value.bit_length() <= 4096):
        return value
    raise ValueError(f"{type(value).__name__} is no JSON type")
