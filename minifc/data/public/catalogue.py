"""A catalogue of functions with the ways in which people ask for them: text files, one per domain.

    @ I'm laying out a garden.                       a sentence that may stand before any request of the domain
    & an architect checking a plan                   who may ask
    == frustum_volume, volume_of_frustum             a function, by names of which one is shown; after ~ what it has in
                                                     common with others that could stand in for it
    Volume of a cut cone. | Compute the volume of a cut cone.          what it does, in wordings of which one is shown
    * radius integer: Radius of the base. <int 2 40>            a required parameter, its type, its kind of value
    ? decimals integer = 2: Digits kept. <int 1 5> | , with {} decimals     one that can be left out, its default, and
                                                                what is added to the request where it is not
    c the volume of a frustum with [[a radius of {radius}]]     something to be calculated; [[ ]] can be repeated
    f the opening hours of {museum}                             something to be found
    i book a table at {restaurant}                              something to be done
    q How much fits into a frustum of radius {radius}?          a whole sentence
    m What is the volume of a frustum? => radius                a sentence that lacks what is required

Types are those of JSON schemas; `array:string` is an array of strings. Parts of an object follow it as `budget.min`.
Kinds of values are those of values.py, and three that depend on other parameters: `up KIND`, all of which are in
increasing order; `state_of city`, which is not said but follows; `each 1 3 {dish.count} {dish.name}`, objects.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from minifc.data.public.functions import NO_DEFAULT, Function, Parameter
from minifc.data.public.values import options, pools
from minifc.errors import DataError

SLOT = re.compile(r"{([\w.]+)}")
DERIVED = re.compile(r"(state|state_code)_of (\w+)")  # a kind whose value follows from another parameter's
_PARAMETER = re.compile(r"([*?]) ([\w.]+) ([a-z]+)(?::([a-z]+))?(?: = (.*?))?: (.*?)(?: <(.*?)>)?((?: \|.*)?)")
# Descriptions that cannot stand after "The".
_NO_ARTICLE = re.compile(
    r"(the|their|per|new|whether|which|how|if|where|when|why|what|whom?|whose|until|only|all|in|on|as|from|without|not|a|of"
    r"|for|about|at|with|before|after|kind of|\w+ing)\b",
    re.IGNORECASE,
)
# What a description says about fractions.
_FRACTION = re.compile(r",? (as a|from 0|between 0|such as 0|for example 0|0\.\d+ for|to 1)\b.*")


@dataclass(frozen=True)
class Entry:
    """A function, the kinds of its values, and the ways to ask for it."""

    function: Function
    kinds: Mapping[str, str]  # of each parameter, and of each part of an object by its dotted name
    phrases: Mapping[str, Sequence[str]]  # what is added for one that can be left out
    wordings: Sequence[tuple[str, str]]  # (c, f, i or q; text)
    lacking: Sequence[tuple[str, str]]  # (sentence, what it lacks)
    contexts: Sequence[str]
    roles: Sequence[str]
    source: str  # of rows

    def type_of(self, name: str) -> str:
        """The JSON type of a parameter or of a part of one."""
        outer, _, part = name.partition(".")
        schema = next(parameter.schema for parameter in self.function.parameters if parameter.name == outer)
        if part:
            schema = (schema if schema["type"] == "object" else schema["items"])["properties"][part]
        return str(schema["type"])


@lru_cache
def entries() -> tuple[Entry, ...]:
    """All functions of the catalogue. Raises DataError naming file and line for one that cannot be read."""
    found: list[Entry] = []
    for file in sorted(files("minifc.data.public").joinpath("domains").iterdir(), key=lambda file: file.name):
        found += read_catalogue(file.read_text(encoding="utf-8"), file.name.removesuffix(".txt"))
    return tuple(found)


def read_catalogue(text: str, domain: str) -> Iterator[Entry]:
    """The entries of one file. Raises DataError naming the line."""
    head, *blocks = re.split(r"^== ", text, flags=re.MULTILINE)
    contexts = [line[2:].strip() for line in head.splitlines() if line.startswith("@ ")]
    roles = [line[2:].strip() for line in head.splitlines() if line.startswith("& ")]
    for block in blocks:
        yield _read_entry(block.strip().splitlines(), domain, contexts, roles)


def _read_entry(lines: Sequence[str], domain: str, contexts: Sequence[str], roles: Sequence[str]) -> Entry:
    head, _, label = lines[0].partition(" ~ ")
    names, texts = head.split(", "), lines[1].split(" | ")
    parameters: dict[str, Parameter] = {}
    kinds: dict[str, str] = {}
    phrases: dict[str, list[str]] = {}
    wordings: list[tuple[str, str]] = []
    lacking: list[tuple[str, str]] = []
    for line in filter(str.strip, lines[2:]):
        mark, rest = line[0], line[2:].strip()
        if mark in "cfiq":
            wordings.append((mark, rest))
        elif mark == "m":
            sentence, _, what = rest.partition(" => ")
            lacking.append((sentence, what))
        elif match := _PARAMETER.fullmatch(line.strip()):
            name, kind = match[2], match[7]
            if kind:
                kinds[name] = kind
            phrases[name] = [phrase.strip() for phrase in match[8].split("|") if phrase.strip()]
            parameter = _parameter(match)
            if "." in name:
                _nest(parameters[name.partition(".")[0]], parameter)
            else:
                parameters[name] = parameter
        else:
            raise DataError(f"catalogue {domain}, {names[0]}: {line!r} is neither a parameter nor a wording")
    purpose = texts[0][0].lower() + texts[0][1:].rstrip(".")
    group = f"catalogue/{label or names[0]}"
    function = Function(names, texts, list(parameters.values()), domain, purpose, group)
    entry = Entry(function, kinds, phrases, wordings, lacking, contexts, roles, f"catalogue/{domain}")
    _check(entry)
    return entry


def _parameter(match: re.Match[str]) -> Parameter:
    required, name, kind, inner, default, text, of, _ = match.groups()
    schema: dict[str, Any] = {"type": kind}
    if inner:
        schema["items"] = {"type": inner}
    if of and of.startswith("of ") and kind == "string":
        schema["enum"] = [str(option) for option in options(of)]
    texts = [text, with_article(text)]
    if of and of.startswith("percent "):  # a rate is a fraction, whether that is said or not
        texts.append(_FRACTION.sub("", text).rstrip(".") + ".")
    if of and of.startswith("pool ") and kind == "string" and "such as" not in text:
        example, _ = pools()[of.split()[1].partition("|")[0]][0]
        texts.append(f"{with_article(text).rstrip('.')}, e.g. {example}.")
    return Parameter(name, schema, texts, required == "*", NO_DEFAULT if default is None else _json(default))


def with_article(text: str) -> str:
    """Another wording of a description: Radius in cm, The radius in cm."""
    if _NO_ARTICLE.match(text) or text[1:2].isupper():
        return text
    return f"The {text[0].lower()}{text[1:]}"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nest(outer: Parameter, part: Parameter) -> None:
    """Make a parameter part of an object, or of the objects of an array."""
    schema: Any = outer.schema if outer.schema["type"] == "object" else outer.schema["items"]
    name = part.name.partition(".")[2]
    schema.setdefault("properties", {})[name] = {**part.schema, "description": part.texts[0]}
    if part.required:
        schema.setdefault("required", []).append(name)


def _check(entry: Entry) -> None:
    """Every slot of a wording is a parameter, and every wording says all that is required."""
    where = f"catalogue {entry.function.domain}, {entry.function.names[0]}"
    needed = {name for name, kind in entry.kinds.items() if _must_be_said(entry, name) and not DERIVED.match(kind)}
    for _, text in entry.wordings:
        slots = set(SLOT.findall(text))
        if unknown := slots - entry.kinds.keys():
            raise DataError(f"{where}: {text!r} has {sorted(unknown)[0]!r}, which is no parameter")
        if left := needed - slots:
            raise DataError(f"{where}: {text!r} does not say {sorted(left)[0]!r}")
    if not entry.wordings:
        raise DataError(f"{where}: no wording")


def _must_be_said(entry: Entry, name: str) -> bool:
    """Whether a parameter is required, or part of an object that is; objects of an array are said by its own kind."""
    outer, _, part = name.partition(".")
    parameter = next(parameter for parameter in entry.function.parameters if parameter.name == outer)
    inside = not part or part in parameter.schema.get("required", [])
    return parameter.required and inside and not (part and parameter.schema["type"] == "array")
