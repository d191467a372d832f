"""Seal-Tools: functions and requests that a language model wrote (arxiv.org/abs/2405.08355).

Of the requests only those are taken whose every argument stands in them word for word. Its functions also stand beside
others' as ones that do not fit.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from minifc.data.public.functions import Function, Parameter, Request

_FUNCTIONS = "Seal-Tools_Dataset/tool.jsonl"
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_LEFT = re.compile(r"\b(API_call_\d+|unspecified|specified|certain|given|specific|particular)\b")


def read_functions(folder: Path) -> dict[str, Function]:
    """The functions by name, less those with types of their own."""
    found = {}
    for line in (folder / _FUNCTIONS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        parameters = [
            Parameter(name, {"type": _TYPES[one["type"]]}, [one["description"]], name in row["required"])
            for name, one in row["parameters"].items()
            if one["type"] in _TYPES
        ]
        if len(parameters) == len(row["parameters"]):
            name, text = row["api_name"], row["api_description"]
            purpose = text[0].lower() + text[1:].rstrip(".")
            found[name] = Function([snake_case(name)], [text], parameters, row["field"], purpose, f"seal/{name}")
    return found


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def read_requests(folder: Path, names: Iterable[str], functions: Mapping[str, Function]) -> Iterator[Request]:
    """The requests of these files whose calls can be derived from their words."""
    for file in sorted(set(names) - {_FUNCTIONS}):
        for line in (folder / file).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            text = re.sub(r'"([^"]*)\.$', r'"\1".', row["query"].strip())  # a closing quotation mark was lost
            calls = [_call(call, text, functions) for call in row["calling"]]
            if all(calls) and not _LEFT.search(text) and text.count('"') % 2 == 0:
                yield Request(text, [call for call in calls if call], f"seal/{Path(file).stem}")


def _call(call: Any, text: str, functions: Mapping[str, Function]) -> tuple[Function, dict[str, Any]] | None:
    function = functions.get(call["api"])
    if function is None:
        return None
    kinds = {parameter.name: parameter.schema["type"] for parameter in function.parameters}
    given: dict[str, Any] = {}
    for name, value in call["parameters"].items():
        if name not in kinds:
            return None
        typed = _typed(value, kinds[name])
        if typed is None or not _is_said(typed, text):
            return None
        given[name] = typed
    missing = any(parameter.required and parameter.name not in given for parameter in function.parameters)
    return None if missing or not given else (function, given)


def _typed(value: Any, kind: str) -> Any:
    if kind == "string" and isinstance(value, str) and value.strip():
        return value
    if kind in ("integer", "number") and re.fullmatch(r"-?\d+(\.\d+)?", str(value)):
        number = float(value)
        return int(number) if number.is_integer() else number if kind == "number" else None
    return None  # booleans are seldom said


def _is_said(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text, re.I) is not None
    return re.search(rf"(?<![\w.]){re.escape(str(value))}(?![\w]|\.\d)", text.replace(",", "")) is not None
