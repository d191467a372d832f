"""The Berkeley Function Calling Leaderboard: its files, and its rules for what a right call is.

The leaderboard (gorilla.cs.berkeley.edu) compares calls with hand-written answers: for each parameter a list of
values that are right, in which an empty string says that it may be left out. Its rules are followed to the letter,
also where one would choose otherwise, because a score is worth something only beside the others' scores.
Read are the single-turn categories in Python, from the `data` folder of the package bfcl-eval.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minifc.errors import DataError
from minifc.text.calls import Call

CATEGORIES = (
    "simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance",
)  # fmt: skip
# Its types, as JSON Schema's and as the Python values that a call is read into.
_TYPES: dict[str, tuple[str | None, type]] = {
    "string": ("string", str),
    "integer": ("integer", int),
    "float": ("number", float),
    "boolean": ("boolean", bool),
    "array": ("array", list),
    "tuple": ("array", list),
    "dict": ("object", dict),
    "any": (None, str),
}
_NO_SCHEMA = {"optional", "format"}  # said for the reader


@dataclass(frozen=True)
class Entry:
    """One question, with the answers that are right. `answers` is None where only calling or not counts."""

    id: str
    category: str
    messages: list[dict[str, Any]]
    functions: list[dict[str, Any]]  # as the file describes them
    answers: list[dict[str, dict[str, list[Any]]]] | None

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The functions with JSON schemas."""
        return [function | {"parameters": json_schema(function["parameters"])} for function in self.functions]


def read_bfcl(folder: Path, categories: Sequence[str] = CATEGORIES) -> list[Entry]:
    """The entries of these categories. Raises DataError naming the file that is missing or not as expected."""
    entries = []
    for category in categories:
        path = _file(folder, category)
        answers: dict[str, Any] = {}
        if "relevance" not in category:
            key = path.parent / "possible_answer" / path.name
            answers = {row["id"]: row["ground_truth"] for row in _rows(key, {"id", "ground_truth"})}
        for row in _rows(path, {"id", "question", "function"}):
            if answers and row["id"] not in answers:
                raise DataError(f"{path}: {row['id']} has no answer in possible_answer")
            entries.append(Entry(row["id"], category, row["question"][0], row["function"], answers.get(row["id"])))
    return entries


def _file(folder: Path, category: str) -> Path:
    # Not any name that ends like this: there are `multiple` and `parallel_multiple`.
    named = re.compile(rf"BFCL_v\d+_{category}\.json")
    found = sorted(path for path in folder.rglob("*.json") if named.fullmatch(path.name) and path.parent.name == "data")
    found = found or sorted(path for path in folder.glob("*.json") if named.fullmatch(path.name))
    if not found:
        raise DataError(f"{folder}: no BFCL_v*_{category}.json in it; name the data folder of the package bfcl-eval")
    return found[-1]


def _rows(path: Path, fields: set[str]) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a file of JSON lines ({error})") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            place = f"line {number}, column {error.colno}"
            raise DataError(f"{path}: not a file of JSON lines ({error.msg}, {place}); download it again") from None
        if not isinstance(row, dict) or not fields <= row.keys():
            raise DataError(f"{path}, line {number}: not an entry with {', '.join(sorted(fields))}")
        rows.append(row)
    return rows


def json_schema(described: Any) -> Any:
    """The leaderboard's description of a type as a JSON schema."""
    if not isinstance(described, Mapping):
        return described
    schema = {key: value for key, value in described.items() if key not in _NO_SCHEMA}
    kind = schema.pop("type", None)
    name = _TYPES[kind][0] if kind in _TYPES else kind
    schema = ({"type": name} if name else {}) | schema
    if "properties" in schema:
        schema["properties"] = {name: json_schema(part) for name, part in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in schema:
            schema[key] = json_schema(schema[key])
    return schema


# --- the rules ---------------------------------------------------------------------------------------------------


def find_error(calls: Sequence[Call] | None, entry: Entry) -> str | None:
    """What is wrong with these calls as the answer to an entry; None if nothing is. calls: None if unreadable."""
    calls = calls or ()  # what the leaderboard cannot read is no call for it, which is right where none fits
    if entry.answers is None:
        if entry.category == "live_relevance":
            return None if calls else "no call"
        return "a call where none fits" if calls else None
    if len(calls) != len(entry.answers):
        return f"{len(calls)} calls instead of {len(entry.answers)}"
    if "parallel" not in entry.category:
        return _call_error(calls[0], entry.answers[0], entry.functions)
    left = list(calls)
    for answer in entry.answers:
        errors = [_call_error(call, answer, entry.functions) for call in left]
        if None not in errors:
            return f"no call is the one of {next(iter(answer))}: {errors[0]}"
        del left[errors.index(None)]
    return None


def _call_error(call: Call, answer: Mapping[str, Mapping[str, list[Any]]], functions: Sequence[Any]) -> str | None:
    ((name, right),) = answer.items()
    function = next((function for function in functions if function["name"] == name), functions[0])
    described, given = function["parameters"]["properties"], call.arguments
    if call.name != function["name"]:
        return f"{call.name} was called instead of {function['name']}"
    if missing := [parameter for parameter in function["parameters"].get("required", []) if parameter not in given]:
        return f"{missing[0]} is missing"
    for parameter, value in given.items():
        if parameter not in described or parameter not in right:
            return f"{parameter} is too much"
        if not _is_right(value, right[parameter], described[parameter]):
            return f"{parameter} is {value!r}, not one of {right[parameter]!r}"
    left_out = [parameter for parameter in right if parameter not in given and "" not in right[parameter]]
    return f"{left_out[0]} is missing" if left_out else None


def _is_right(value: Any, right: list[Any], described: Mapping[str, Any]) -> bool:
    kind: Any = _TYPES[described["type"]][1]
    inner: Any = _TYPES[described["items"]["type"]][1] if kind is list else None
    if kind is float and type(value) is int:
        value = float(value)
    first = next((type(answer) for answer in right if answer != ""), None)
    if type(value) is not kind:
        # Answers of another type than described are names of variables.
        return type(value) is first and value in right
    if inner and not any(type(answer) is not list or _all_are(value, answer, inner) for answer in right):
        return False
    if first is not None and first is not kind:
        return value in right
    if kind is dict:
        return any(_same_dict(value, answer) for answer in right)
    if inner is dict:
        return any(len(value) == len(answer) and all(map(_same_dict, value, answer)) for answer in right)
    if kind is list:
        return [_plain(item) for item in value] in [[_plain(item) for item in answer] for answer in right]
    if kind is str:
        return _plain(value) in [_plain(answer) for answer in right if isinstance(answer, str)]
    return value in right


def _all_are(values: Sequence[Any], right: Sequence[Any], kind: type) -> bool:
    """Whether all values are of the kind described, or of that of the first right one."""
    first = next((type(answer) for answer in right if answer != ""), None)
    return all(type(value) in (kind, first) for value in values)


def _same_dict(given: Any, answer: Any) -> bool:
    """One level deep: each value is one of those that are right, and nothing needed is left out."""
    if not isinstance(given, Mapping) or not isinstance(answer, Mapping):
        return False
    known = all(key in answer and _plain(value) in map(_plain, answer[key]) for key, value in given.items())
    return known and all(key in given or "" in values for key, values in answer.items())


def _plain(value: Any) -> Any:
    """Strings without what does not count: case, spaces, some punctuation, the kind of quotes."""
    return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"') if isinstance(value, str) else value
