"""The Berkeley Function Calling Leaderboard: what no row may share with it, and rows as questions in its form."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minifc.data.public.compose import Row
from minifc.data.rows import read_rows
from minifc.errors import DataError

OVERLAP = 8  # words in a row
_TYPES = {"number": "float", "object": "dict"}  # as it calls them


@dataclass(frozen=True)
class Leaderboard:
    """The names of its functions, and all runs of OVERLAP words in its questions."""

    names: frozenset[str]
    runs: frozenset[tuple[str, ...]]

    @classmethod
    def read(cls, folder: Path) -> "Leaderboard":
        """From all files of its data folder. Raises DataError."""
        if not (files := sorted(folder.glob("BFCL_v*.json"))):
            raise DataError(f"{folder}: no BFCL_v*.json; name the data folder of bfcl-eval")
        names: set[str] = set()
        runs: set[tuple[str, ...]] = set()
        for _, row in read_rows(files):
            names |= {function["name"] for function in row.get("function", [])}
            for turn in row.get("question", []):
                for message in turn:
                    runs |= _runs(str(message.get("content", "")))
        return cls(frozenset(names), frozenset(runs))

    def shares(self, row: Row) -> str | None:
        """What a row has in common with it, or None."""
        names = [tool["function"]["name"] for tool in row["tools"]]
        return self.has(names, [message["content"] for message in row["messages"] if message["role"] == "user"])

    def has(self, names: Iterable[str], said: Iterable[str]) -> str | None:
        """What it has in common with these names of functions and requests, or None."""
        if any(name in self.names for name in names):
            return "a function name of the leaderboard"
        if any(not self.runs.isdisjoint(_runs(text)) for text in said):
            return f"{OVERLAP} words of a question of the leaderboard"
        return None


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + OVERLAP]) for i in range(len(words) - OVERLAP + 1)}


# --- rows in its form --------------------------------------------------------------------------------------------


def questions(rows: Sequence[Row]) -> dict[str, str]:
    """Rows as the files of a data folder of its form, for `python -m minifc.evaluate --bfcl`.

    Its rules ignore case and some punctuation, and what can be left out may be given if it is the default.
    """
    lines: dict[str, list[str]] = {}
    for number, row in enumerate(rows):
        category = {"simple": "simple_python"}.get(row["category"], row["category"])
        tools = [tool["function"] for tool in row["tools"]]
        question = {
            "id": f"{category}_{number}",
            "question": [[row["messages"][0]]],
            "function": [tool | {"parameters": _described(tool["parameters"])} for tool in tools],
        }
        lines.setdefault(f"BFCL_v0_{category}.json", []).append(json.dumps(question))
        if calls := row["messages"][1].get("tool_calls"):
            parameters = {tool["name"]: tool["parameters"] for tool in tools}
            right = [
                {call["function"]["name"]: _answer(call["function"]["arguments"], parameters[call["function"]["name"]])}
                for call in calls
            ]
            answer = {"id": question["id"], "ground_truth": right}
            lines.setdefault(f"possible_answer/BFCL_v0_{category}.json", []).append(json.dumps(answer))
    return {name: "\n".join(some) + "\n" for name, some in lines.items()}


def _described(schema: Any) -> Any:
    """A JSON schema with the leaderboard's names of types."""
    if isinstance(schema, list):
        return [_described(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _described(value) for key, value in schema.items()}
    return told | ({"type": _TYPES.get(told["type"], told["type"])} if isinstance(told.get("type"), str) else {})


def _answer(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, list[Any]]:
    """For each parameter the values that are right; "" where it may be left out."""
    required = schema["required"]
    return {
        name: [_values(arguments[name])] if name in arguments else ["", *([one["default"]] if "default" in one else [])]
        for name, one in schema["properties"].items()
        if name in arguments or name not in required
    }


def _values(value: Any) -> Any:
    """A value as it writes right ones: those of objects are lists."""
    if isinstance(value, dict):
        return {name: [_values(one)] for name, one in value.items()}
    return [_values(one) for one in value] if isinstance(value, list) else value
