"""Requests of data sets that label spans of what people said: Snips and NLU Evaluation, and CLINC150's without spans.

Each intent is given a function by intents.txt; a labelled span becomes an argument, word for word, or as a number.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from minifc.data.public.functions import Ask, Function, Parameter, Request
from minifc.data.public.values import WORDS, in_words
from minifc.errors import DataError

_NUMBERS = {word: number for number, word in enumerate(WORDS)} | {in_words(number): number for number in range(100)}
_PARAMETER = re.compile(r"([*?]) ([\w:]+)=(\w+) (\w+): (.*)")


@lru_cache
def intents() -> dict[str, tuple[Function, dict[str, str]]]:
    """For each `data set intent` its function, and its parameters by slots."""
    text = files("minifc.data.public").joinpath("intents.txt").read_text(encoding="utf-8")
    found = {}
    for block in re.split(r"^== ", text, flags=re.M)[1:]:
        head, described, *lines = block.strip().splitlines()
        key, _, rest = head.partition(": ")
        domain, _, names = rest.partition("; ")
        slots, parameters = {}, []
        for line in lines:
            match = _PARAMETER.fullmatch(line)
            if match is None:
                raise DataError(f"intents.txt, {key}: {line!r} is no parameter")
            required, slot, name, kind, texts = match.groups()
            slots[slot] = name
            parameters.append(Parameter(name, {"type": kind}, texts.split(" | "), required == "*"))
        texts = described.split(" | ")
        purpose = texts[0][0].lower() + texts[0][1:].rstrip(".")
        found[key] = (Function(names.split(", "), texts, parameters, domain, purpose, f"intents/{key}"), slots)
    return found


def spans_to_ask(key: str, text: str, spans: Sequence[tuple[str, str]], source: str) -> Ask | None:
    """The request as an Ask; None where a slot is not the function's, comes too often, or is missing or no number."""
    function, slots = intents()[key]
    kinds = {parameter.name: parameter.schema["type"] for parameter in function.parameters}
    arguments: dict[str, Any] = {}
    seen: Counter[str] = Counter()
    for slot, said in spans:
        seen[slot] += 1
        place = slot if seen[slot] == 1 else f"{slot}:{seen[slot]}"
        if place not in slots:
            return None
        value: Any = said.strip()
        if kinds[slots[place]] == "integer":
            value = _NUMBERS.get(value.lower(), int(value) if value.isdecimal() else None)
            if value is None:
                return None
        arguments[slots[place]] = value
    if not arguments or any(p.required and p.name not in arguments for p in function.parameters):
        return None
    return Ask(text, function, [arguments], source)


# --- Snips -------------------------------------------------------------------------------------------------------


def read_snips(folder: Path, names: Iterable[str]) -> Iterator[Ask]:
    """The requests of these files, one for each intent. `playlist_owner` is no argument of ours: it says "my"."""
    for name in names:
        ((intent, rows),) = json.loads(_decode((folder / name).read_bytes())).items()
        for row in rows:
            text = re.sub(r"\s+", " ", "".join(part["text"] for part in row["data"])).strip()
            spans = [
                (part["entity"], re.sub(r"\s+", " ", part["text"]))
                for part in row["data"]
                if "entity" in part and part["entity"] != "playlist_owner"
            ]
            if ask := spans_to_ask(f"snips {intent}", text, spans, f"snips/{intent}"):
                yield ask


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


# --- NLU Evaluation ----------------------------------------------------------------------------------------------

# Small talk and questions about the world: no function is meant to fit.
NLU_OPEN = ("general_quirky", "general_explain", "general_joke", "qa_factoid", "qa_maths", "general_praise",
            "music_query", "recommendation_movies", "social_post", "transport_ticket", "takeaway_query",
            "datetime_convert", "music_likeness", "general_commandstop", "general_repeat")  # fmt: skip


def read_nlu(folder: Path, names: Iterable[str]) -> Iterator[Ask | Request]:
    """The requests of these files, the test folds that together are the data set; open ones as Request."""
    for name in names:
        for row in json.loads((folder / name).read_text(encoding="utf-8"))["test_data_annotation"]:
            text, intent = row["text"].strip(), row["intent"]
            spans = [(entity["entity"], entity["value"]) for entity in row["entities"]]
            if intent in NLU_OPEN and len(text.split()) >= 4:
                yield Request(text, (), f"nlu/{intent}")
            elif f"nlu {intent}" in intents() and (ask := spans_to_ask(f"nlu {intent}", text, spans, f"nlu/{intent}")):
                yield ask


# --- CLINC150 ----------------------------------------------------------------------------------------------------


def read_clinc(folder: Path, names: Iterable[str]) -> Iterator[Request]:
    """Requests of 150 intents and of none, without arguments: there is never a function for them."""
    (name,) = names
    data = json.loads((folder / name).read_text(encoding="utf-8"))
    for part in ("train", "oos_train", "oos_val", "oos_test"):
        for text, intent in data[part]:
            if len(text.split()) >= 4 and intent not in ("yes", "no", "maybe", "repeat", "cancel"):
                yield Request(text.strip(), (), f"clinc/{intent}")


def as_typed(text: str, rng: random.Random) -> str:
    """A transcript as a person might type it: with a capital, and a mark at its end, more often than not."""
    text = re.sub(r"\bi\b", "I", text)
    if rng.random() < 0.7:
        text = text[0].upper() + text[1:]
    if text[-1].isalnum() and rng.random() < 0.7:
        asking = re.match(r"(what|who|where|when|why|how|is|are|do|does|did|can|could|will|would|which)\b", text, re.I)
        text += "?" if asking else "."
    return text
