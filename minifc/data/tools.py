"""The tools of a row, in whatever field and spelling, to JSON schemas."""

from collections.abc import Mapping
from typing import Any

from minifc.data.nulls import tidy_schema
from minifc.errors import DataError
from minifc.text.calls import MAX_LENGTH, PYTHON_TYPES, read_value, tool_schema

# The names that data sets give the field with the tools. `functions` is OpenAI's older one.
FIELDS = (
    "tools", "tool_defs", "tool_definitions", "tool_schemas", "tools_json", "available_tools", "functions",
    "function_definitions",
)  # fmt: skip
_PARAMETERS = ("parameters", "input_schema", "inputSchema", "args_schema")  # Anthropic's, MCP's
_LONGEST = 100 * MAX_LENGTH  # characters of JSON inside a string


def unpacked(value: Any) -> Any:
    """The value that a string of JSON holds; any other value as it is. Raises CallError."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        return read_value(value, _LONGEST)
    return value


def read_tool_field(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The tools of a row, None where no field speaks of them. Raises DataError or CallError."""
    found: dict[str, Any] = {}
    for name in FIELDS:
        if (given := row.get(name)) is not None:
            found[name] = [] if str(given).strip() in ("", "null", "None") else unpacked(given)
    filled = {name: tools for name, tools in found.items() if tools or not isinstance(tools, list)}
    if len(filled) > 1 and len({str(tools) for tools in filled.values()}) > 1:
        raise DataError(f"tools in {' and in '.join(filled)}; leave one of these fields")
    tools = next(iter((filled or found).values()), None)
    if tools is not None and not isinstance(tools, list):
        raise DataError(f"tools are a {type(tools).__name__}, not a list")
    return None if tools is None else [read_tool(tool) for tool in tools]


def read_tool(tool: Any) -> dict[str, Any]:
    """One tool, which may be a string of JSON, without nulls, its parameters as a JSON schema."""
    tool = unpacked(tool)
    inner = unpacked(tool.get("function", tool)) if isinstance(tool, Mapping) else tool
    if not isinstance(inner, Mapping):
        return tool_schema(tool)  # which says what is wrong
    name = next((name for name in _PARAMETERS if inner.get(name) is not None), "parameters")
    inner = {
        "parameters" if key == name else key: inner_schema(unpacked(value)) if key == name else value
        for key, value in inner.items()
        if key == name or key != "parameters"
    }
    schema: dict[str, Any] = tidy_schema(tool_schema(inner))
    return schema


def inner_schema(parameters: Any) -> Any:
    """Parameters as a JSON schema: they may come as bare properties, as xLAM has them; `str, optional` is a type."""
    if not isinstance(parameters, Mapping) or not parameters or "properties" in parameters:
        return parameters
    if not all(_is_parameter(parameter) for parameter in parameters.values()):
        return parameters
    properties, required = {}, []
    for name, parameter in parameters.items():
        kind, _, optional = str(parameter.get("type") or "").partition(",")
        needed = parameter.get("required")
        properties[name] = {key: value for key, value in parameter.items() if key not in ("type", "required")}
        properties[name] = json_type(kind) | properties[name]
        if needed if isinstance(needed, bool) else not optional.strip() and "default" not in parameter:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required}


def _is_parameter(value: Any) -> bool:
    described = isinstance(value, Mapping) and ("type" in value or "description" in value)
    return described and isinstance(value.get("type") or "", str)


def json_type(python: str) -> dict[str, Any]:
    """A Python type's name as a JSON schema; {}, which any value fits, for one that JSON does not have."""
    python = python.strip()
    if python.lower() in (*PYTHON_TYPES.values(), "any", ""):
        return {"type": python.lower()} if python and python.lower() != "any" else {}
    outer, _, inside = python.partition("[")
    outer, inside = outer.strip().lower(), inside.rsplit("]", 1)[0]
    if outer == "optional":
        return json_type(inside)
    if outer == "union" or ("|" in python and not inside):
        names = inside.split(",") if inside else python.split("|")
        return {"anyOf": [json_type(name) for name in names]}
    if outer not in PYTHON_TYPES:
        return {}
    kind: dict[str, Any] = {"type": PYTHON_TYPES[outer]}
    if outer in ("list", "set") and inside and (items := json_type(inside)):
        kind["items"] = items
    return kind
