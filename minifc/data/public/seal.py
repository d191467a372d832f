"""Seal-Tools: functions and requests that a language model wrote (arxiv.org/abs/2405.08355).

Of the requests only those are taken whose every argument stands in them word for word. Functions whose descriptions
name examples of values are asked for in words of ours, and all stand beside others' as ones that do not fit.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minifc.data.public.catalogue import Entry
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


# --- in words of ours --------------------------------------------------------------------------------------------

_EXAMPLES = re.compile(r"\(e\.?g\.?,? (.*?)\)")
_VERBS = set(
    "retrieve get find calculate check create analyze generate add provide search update monitor estimate predict "
    "convert send schedule translate book compare delete determine start list identify evaluate track order".split()
)
# Wordings of one argument: its value, and the words of its name.
_SAID = (
    "with the {n} {v}",
    "for the {n} {v}",
    "with {v} as the {n}",
    "where the {n} is {v}",
    "({n}: {v})",
    "using {n} {v}",
)


def read_entries(functions: Mapping[str, Function]) -> list[Entry]:
    """Functions that can be asked for, since a value is known for each required parameter."""
    found = []
    for name, function in functions.items():
        kinds = {one.name: kind for one in function.parameters if (kind := _kind(one))}
        required = [one.name for one in function.parameters if one.required]
        if function.purpose.split()[0] in _VERBS and required and len(required) <= 4 and set(required) <= kinds.keys():
            rng = random.Random(name)
            wordings = [("i", f"{_purpose(function)} [[{_said(required, rng)}]]") for _ in range(3)]
            phrases = {
                one.name: [_said([one.name], rng).replace(f"{{{one.name}}}", "{}")] for one in function.parameters
            }
            known = {one.name: phrases[one.name] if one.name in kinds else [] for one in function.parameters}
            found.append(Entry(function, kinds, known, wordings, [], [], [], "seal/functions"))
    return found


def _purpose(function: Function) -> str:
    return re.sub(r"\b(a )?(specific|specified|given|certain) ", lambda match: match[1] or "", function.purpose)


def _said(names: Sequence[str], rng: random.Random) -> str:
    """How arguments are said: each in its own way, or all in one."""
    forms = [rng.choice(_SAID)] * len(names) if rng.random() < 0.5 else [rng.choice(_SAID) for _ in names]
    parts = [form.format(n=words(name), v=f"{{{name}}}") for form, name in zip(forms, names, strict=True)]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def words(name: str) -> str:
    """A parameter's name as words: patient_id, patient ID."""
    return re.sub(r"\bid$", "ID", snake_case(name).replace("_", " "))


def _kind(parameter: Parameter) -> str | None:
    """The kind of a parameter's values: its examples, a date or a time, an identifier, a number. None: not known."""
    name, kind, text = snake_case(parameter.name), parameter.schema["type"], parameter.texts[0]
    match = _EXAMPLES.search(text)
    examples = [one.strip(" '\"") for one in re.split(r", | or ", match[1])] if match else []
    plain = [one for one in examples if re.fullmatch(r"[\w .&'+#-]{2,30}", one) and one != "etc."]
    if re.search("location|city|country|region|area|place|jurisdiction", name):
        plain = [one for one in plain if one[0].isupper()]  # no city called city
    if kind == "string":
        if "YYYY-MM-DD" in text:
            return "date %Y-%m-%d"
        if re.search(r"HH:MM(?!:)", text):
            return "time HH:MM"
        if name.endswith("_id"):
            return "id AA9999"
        return f"of {'; '.join(plain)}" if len(plain) > 1 else None
    if kind == "integer":
        return "year 1990 2024" if "year" in name else "exact 2 90"
    return "num 1 90" if kind == "number" else None
