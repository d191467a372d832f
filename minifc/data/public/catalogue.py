"""A catalogue of functions with the ways in which people ask for them: text files, one per domain.

    @ I'm laying out a garden.                       a sentence that may stand before any request of the domain
    == frustum_volume, volume_of_frustum             a function, by names of which one is shown
    Compute the volume of a cone without its tip.    what it does; other wordings of it after |
    * radius integer: Radius of the base. <int 2 40>            a required parameter, its type, its kind of value
    ? decimals integer = 2: Digits kept. <int 1 5> | , with {} decimals     one that can be left out, its default, and
                                                                what is added to the request where it is not
    c the volume of a frustum with [[a radius of {radius}]]     something to be calculated; [[ ]] can be repeated
    f the opening hours of {museum}                             something to be found
    i book a table at {restaurant}                              something to be done
    q How much fits into a frustum of radius {radius}?          a whole sentence
    m What is the volume of a frustum? => radius                a sentence that lacks what is required

Types are those of JSON schemas; `array:string` is an array of strings. Parts of an object follow it as `budget.min`.
Kinds of values are those of values.py. `up` before a kind: all such values of a request are in increasing order.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

from minifc.data.public.functions import NO_DEFAULT, Ask, Function, Parameter
from minifc.data.public.values import Value, draw, join, later, options
from minifc.errors import DataError

_PARAMETER = re.compile(r"([*?]) ([\w.]+) ([a-z]+)(?::([a-z]+))?(?: = (.*?))?: (.*?)(?: <(.*?)>)?((?: \|.*)?)")
_SLOT = re.compile(r"{([\w.]+)}")


@dataclass(frozen=True)
class Entry:
    """A function, the kinds of its values, and the ways to ask for it."""

    function: Function
    kinds: Mapping[str, str]  # of each parameter, and of each part of an object by its dotted name
    phrases: Mapping[str, Sequence[str]]  # what is added for one that can be left out
    wordings: Sequence[tuple[str, str]]  # (c, f, i or q; text)
    lacking: Sequence[tuple[str, str]]  # (sentence, what it lacks)
    contexts: Sequence[str]


@lru_cache
def entries() -> tuple[Entry, ...]:
    """All functions of the catalogue. Raises DataError naming file and line for one that cannot be read."""
    found: list[Entry] = []
    for file in sorted(files("minifc.data.public").joinpath("catalogue").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".txt") and file.name != "pools.txt":
            found += read_catalogue(file.read_text(encoding="utf-8"), file.name.removesuffix(".txt"))
    return tuple(found)


def read_catalogue(text: str, domain: str) -> Iterator[Entry]:
    """The entries of one file. Raises DataError naming the line."""
    contexts = [line[2:].strip() for line in text.splitlines() if line.startswith("@ ")]
    for block in re.split(r"^== ", text, flags=re.M)[1:]:
        yield _read_entry(block.strip().splitlines(), domain, contexts)


def _read_entry(lines: Sequence[str], domain: str, contexts: Sequence[str]) -> Entry:
    names = [name.strip() for name in lines[0].split(",")]
    texts = [text.strip() for text in lines[1].split(" | ")]
    parameters: dict[str, Parameter] = {}
    kinds: dict[str, str] = {}
    phrases: dict[str, list[str]] = {}
    wordings: list[tuple[str, str]] = []
    lacking: list[tuple[str, str]] = []
    for line in lines[2:]:
        mark, _, rest = line.partition(" ")
        if mark in "cfiq" and mark:
            wordings.append((mark, rest.strip()))
        elif mark == "m":
            sentence, _, what = rest.partition(" => ")
            lacking.append((sentence.strip(), what.strip()))
        elif match := _PARAMETER.fullmatch(line.strip()):
            required, name, kind, inner, default, description, of, added = match.groups()
            schema: dict[str, Any] = {"type": kind}
            if inner:
                schema["items"] = {"type": inner}
            if of and of.startswith("of ") and kind == "string":
                schema["enum"] = [str(option) for option in options(of)]
            if of:
                kinds[name] = of
            phrases[name] = [phrase.strip() for phrase in added.split("|") if phrase.strip()]
            known = NO_DEFAULT if default is None else _json(default)
            parameter = Parameter(name, schema, (description, with_article(description)), required == "*", known)
            if "." in name:
                _nest(parameters[name.partition(".")[0]], parameter)
            else:
                parameters[name] = parameter
        elif line.strip() and not line.startswith(("@", "#")):
            raise DataError(f"catalogue {domain}, {names[0]}: {line!r} is neither a parameter nor a wording")
    purpose = texts[0][0].lower() + texts[0][1:].split(". ")[0].rstrip(".")
    texts += as_commands(texts[0], wordings[0][0] if wordings else "")
    function = Function(names, texts, list(parameters.values()), domain, purpose, f"catalogue/{domain}/{names[0]}")
    entry = Entry(function, kinds, phrases, wordings, lacking, contexts)
    _check(entry)
    return entry


_NO_ARTICLE = re.compile(r"(the|their|per|new|whether|which|how|if|where|when|why|what|who|whose|until|only|all|in|on|as|from|without|not|a|of|\w+ing|"
                         r"among|among|over|out|for|about|between|within|at|with|before|after|value added|kind of|facts)\b", re.I)  # fmt: skip
_ACTIONS = set(
    "compute find tell list split solve differentiate convert write round fit test count sort make divide send bring "
    "draw plan book reserve rent play start set turn lock control log record save add put remove delete remind move "
    "schedule call search share open buy order pay get give show rate report cite explain mark note apply ask arrange "
    "take correct shorten check translate correct summarize rename resize scale search run reverse generate hash commit install pack fill "
    "join merge export load read train evaluate measure predict group cluster track use return watch compare follow "
    "block upload publish invite donate pronounce conjugate suggest print assign post submit file draft transpose tune "
    "shuffle deal roll throw transfer rotate multiply balance cross analyze simulate dilute look change cast arm hire "
    "switch identify treat borrow review continue build pick mix organize execute gives computes looks starts puts "
    "retrieve finds bill restock text email dial move shift mute subscribe quiz create estimate".split()
)


def with_article(text: str) -> str:
    """Another wording of a description: Radius in cm, The radius in cm."""
    if _NO_ARTICLE.match(text) or not text[0].isupper() or text[1:2].isupper():
        return text
    return f"The {text[0].lower()}{text[1:]}"


def as_commands(text: str, kind: str) -> list[str]:
    """Further wordings of what a function does: Area of a circle, Calculate the area of a circle."""
    first = text.split()[0].lower()
    if first in _ACTIONS or kind not in ("c", "f", "q"):
        return []
    if re.match(r"(whether|how|which|where|when|what|who|until|on)\b", first):
        return [f"{verb} {text[0].lower()}{text[1:]}" for verb in ("Determine", "Find out")]
    verbs = ("Calculate", "Compute", "Determine") if kind == "c" else ("Get", "Retrieve", "Look up")
    article = "" if first.endswith("s") and not first.endswith("ss") or first in ("a", "the", "an") else "the "
    return [f"{verb} {article}{text[0].lower()}{text[1:]}" for verb in verbs]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _nest(outer: Parameter, part: Parameter) -> None:
    """Make a parameter part of an object, or of the objects of an array."""
    schema: Any = outer.schema if outer.schema["type"] == "object" else outer.schema["items"]
    schema.setdefault("properties", {})[part.name.partition(".")[2]] = {
        **part.schema,
        "description": part.texts[0],
    }
    if part.required:
        schema.setdefault("required", []).append(part.name.partition(".")[2])


def _check(entry: Entry) -> None:
    """Every slot of a wording is a parameter, and every wording says all that is required."""
    where = f"catalogue {entry.function.domain}, {entry.function.names[0]}"
    needed = {name for name in entry.kinds if _required(entry, name)}
    for _, text in entry.wordings:
        slots = set(_SLOT.findall(text))
        if unknown := slots - entry.kinds.keys():
            raise DataError(f"{where}: {text!r} has {sorted(unknown)[0]!r}, which is no parameter")
        if left := needed - slots:
            raise DataError(f"{where}: {text!r} does not say {sorted(left)[0]!r}")
    if not entry.wordings:
        raise DataError(f"{where}: no wording")


def _required(entry: Entry, name: str) -> bool:
    outer = name.partition(".")[0]
    parameter = next(p for p in entry.function.parameters if p.name == outer)
    if "." not in name:
        return parameter.required
    if parameter.schema["type"] == "array":
        return False  # said by the array's own kind
    return parameter.required and name.partition(".")[2] in parameter.schema.get("required", [])


# --- asking ------------------------------------------------------------------------------------------------------

_FRAMES = {
    "c": [
        "What is {}?", "What's {}?", "Calculate {}.", "Compute {}.", "Find {}.", "Work out {}.", "Determine {}.",
        "Can you calculate {}?", "Could you compute {} for me?", "I need to know {}.", "Please calculate {}.",
        "Can you tell me {}?", "Help me find {}.", "I'd like to know {}.", "Please work out {}.", "What would be {}?",
        "I want to calculate {}.", "Could you help me determine {}?", "Give me {}.",
    ],
    "f": [
        "Find {}.", "Show me {}.", "Get {}.", "Get me {}.", "I'm looking for {}.", "Look up {}.", "Can you find {}?",
        "Could you look up {}?", "Please find {}.", "I'd like to see {}.", "Give me {}.", "Retrieve {}.", "Fetch {}.",
        "Search for {}.", "I want to find {}.", "Can you get me {}?", "I need {}.", "Could you find {} for me?",
        "Can you show me {}?", "Help me find {}.", "Tell me {}.", "Pull up {}.",
    ],
    "i": [
        "{}.", "{}.", "{}.", "Please {}.", "Can you {}?", "Could you {}?", "I need you to {}.", "I want to {}.",
        "I'd like to {}.", "Help me {}.", "Could you please {}?", "Hi, can you {}?", "I need to {}.", "Would you {}?",
        "{}, please.", "Hey, {}.",
    ],
}  # fmt: skip
_COMMANDS = {
    "c": ["calculate {}", "compute {}", "find {}", "work out {}", "determine {}", "tell me {}"],
    "f": ["find {}", "get {}", "show me {}", "look up {}", "get me {}", "find me {}"],
    "i": ["{}"],
}
_CONTEXTS = 0.15  # share of requests that begin with a sentence that asks for nothing
_ANYWHERE = (
    "Quick question.", "I need your help.", "Hi there!", "Hello.", "My boss asked me for this.", "I'm in a hurry.",
    "It's for a friend.", "Good morning!", "I'm new to this.", "My daughter wants to know this.", "Sorry to bother you.",
    "I was wondering about something.", "This is for a school project.", "Let's get started.",
)  # fmt: skip
_SAYS_OPTIONAL = (0, 0, 0, 1, 1, 2)  # how many arguments that could be left out are said
_NUMERIC = ("int", "exact", "num", "money", "percent", "percent100", "unit", "span", "year", "time", "numbers", "vector")


def ask(entry: Entry, rng: random.Random) -> Ask:
    """One call."""
    kind, text = rng.choice(entry.wordings)
    values = _values(entry, text, rng)
    said = _fill(entry, text, values)
    added, more = _optional(entry, set(values), rng)
    return _ask(entry, kind, said + added, [_arguments(entry, values | more)], rng)


def ask_many(entry: Entry, count: int, rng: random.Random) -> Ask | None:
    """Several calls in one request; None where the drawn wording cannot say that."""
    kind, text = rng.choice(entry.wordings)
    many = rng.choice((_list_one, _list_one, _repeat_part, _repeat_part, _respectively))(entry, text, count, rng)
    if many is None:
        return None
    said, after, sets = many
    added, more = _optional(entry, set(sets[0]), rng) if rng.random() < 0.6 and not after else ("", {})
    calls = [_arguments(entry, values | more) for values in sets]
    if any(calls.count(call) > 1 for call in calls):
        return None
    found = _ask(entry, kind, said + added, calls, rng)
    if not after:
        return found
    text = found.text if found.text[-1] in ".?" else f"{found.text}."
    return replace(found, text=f"{text} {after}", clauses=())


def ask_lacking(entry: Entry, rng: random.Random) -> Ask | None:
    """A request without something that is required."""
    if not entry.lacking:
        return None
    text, what = rng.choice(entry.lacking)
    said = _fill(entry, text, _values(entry, text, rng, only=True))
    return Ask(said, entry.function, (), f"catalogue/{entry.function.domain}", missing=what)


def _ask(entry: Entry, kind: str, said: str, calls: list[dict[str, Any]], rng: random.Random) -> Ask:
    said = re.sub(r"\[\[|\]\]", "", said)
    clauses = [_article(command.format(said)) for command in _COMMANDS.get(kind, [])]
    if kind == "q":
        sentence = said
    else:
        sentence = rng.choice(_FRAMES[kind]).format(said)
        if kind == "i" and rng.random() < 0.05:
            sentence = said
    sentence = _tidy(sentence)
    context = rng.choice((*entry.contexts, rng.choice(_ANYWHERE))) if rng.random() < _CONTEXTS else ""
    if rng.random() < 0.04:
        sentence = sentence.rstrip(".")
    return Ask(sentence, entry.function, calls, f"catalogue/{entry.function.domain}", clauses, context)


def _tidy(sentence: str) -> str:
    """A capital at the beginning; no full stop after an abbreviation's, and a question's mark at its very end."""
    sentence = re.sub(r"([.?!])\1+$", r"\1", sentence)
    sentence = re.sub(r"\?(, [^?]+|\s[^?]+)\.?$", r"\1?", sentence)
    sentence = _article(re.sub(r"\b(last|past|next) (an?|one) ", r"\1 ", sentence))
    return sentence[0].upper() + sentence[1:]


def _article(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeio](?!ne\b|nce\b|uro)|8\d*\b|11\b|18\b)", r"\1n ", text)


def _values(entry: Entry, text: str, rng: random.Random, only: bool = False) -> dict[str, Value]:
    """A value for each slot of a text, and for those that an object's other parts need."""
    names = [name for name in entry.kinds if name in _SLOT.findall(text)]
    for _ in range(30):
        values = {name: _draw(entry, name, rng) for name in names}
        told = [
            (entry.kinds[name], str(value.meant))
            for name, value in values.items()
            if entry.kinds[name].split()[0] not in _NUMERIC
        ]
        if len(set(told)) == len(told):
            break
    rising = [name for name in names if entry.kinds[name].startswith("up ")]
    if len(rising) == 2 and entry.kinds[rising[0]].startswith("up date"):
        first, second = rising
        return values | {second: later(values[first], entry.kinds[second].removeprefix("up date").strip(), rng)}
    order = sorted((values[name] for name in rising), key=lambda value: value.meant)
    return values | dict(zip(rising, order, strict=True))


def _draw(entry: Entry, name: str, rng: random.Random) -> Value:
    kind = entry.kinds[name].removeprefix("up ")
    if not kind.startswith("each "):
        value = draw(kind, rng)
        text = isinstance(value.meant, int | float) and _type(entry, name) == "string"
        return Value(value.said, str(value.meant)) if text else value
    _, fewest, most, pattern = kind.split(" ", 3)  # objects: `each 1 3 {order.count} {order.dish}`
    said, meant = [], []
    for _ in range(rng.randint(int(fewest), int(most))):
        parts = {slot: draw(entry.kinds[slot], rng) for slot in _SLOT.findall(pattern)}
        thing = {slot.partition(".")[2]: value.meant for slot, value in parts.items()}
        if thing not in meant:
            said.append(_SLOT.sub(lambda match: parts[match[1]].said, pattern))
            meant.append(thing)
    return Value(join(said, rng), meant)


def _type(entry: Entry, name: str) -> str:
    outer, _, part = name.partition(".")
    schema = next(parameter.schema for parameter in entry.function.parameters if parameter.name == outer)
    if part:
        inner = schema if schema["type"] == "object" else schema["items"]
        schema = inner["properties"][part]
    return str(schema["type"])


def _fill(entry: Entry, text: str, values: Mapping[str, Value]) -> str:
    return _SLOT.sub(lambda match: values[match[1]].said, text)


def _optional(entry: Entry, said: set[str], rng: random.Random) -> tuple[str, dict[str, Value]]:
    """What is added to a request for arguments that could be left out, and their values."""
    free = [
        parameter
        for parameter in entry.function.parameters
        if not parameter.required and parameter.name not in said and entry.phrases[parameter.name]
    ]
    text, values = "", {}
    for parameter in rng.sample(free, min(len(free), rng.choice(_SAYS_OPTIONAL))):
        value = _draw(entry, parameter.name, rng)
        phrase = rng.choice(entry.phrases[parameter.name]).replace("{}", value.said)
        text += phrase if phrase.startswith(",") else f" {phrase}"
        values[parameter.name] = value
    return text, values


def _arguments(entry: Entry, values: Mapping[str, Value]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        outer, _, part = name.partition(".")
        if part:
            arguments.setdefault(outer, {})[part] = value.meant
        else:
            arguments[name] = value.meant
    return arguments


# --- several calls in one request --------------------------------------------------------------------------------

_Many = tuple[str, str, list[dict[str, Value]]]  # the request, what follows after its end, and the values of each call


def _list_one(entry: Entry, text: str, count: int, rng: random.Random) -> _Many | None:
    """One slot has several values: the weather in Rome, Paris and Oslo."""
    slots = [name for name in _SLOT.findall(text) if _is_plain(entry, name)]
    if not slots:
        return None
    slot = rng.choice(slots)
    sets = _different(entry, text, count, rng, vary=[slot])
    if sets is None:
        return None
    said = [values[slot].said for values in sets]
    both = "both " if count == 2 and rng.random() < 0.15 else ""
    whole = text.replace(f"{{{slot}}}", both + join(said, rng))
    return _fill(entry, whole, sets[0]), "", sets


def _respectively(entry: Entry, text: str, count: int, rng: random.Random) -> _Many | None:
    """Two slots have several values each: sides of 3 and 4 and heights of 5 and 7, respectively."""
    slots = [name for name in _SLOT.findall(text) if _is_plain(entry, name)]
    if len(slots) < 2 or count > 3 or text.endswith("?"):
        return None
    pair = rng.sample(slots, 2)
    sets = _different(entry, text, count, rng, vary=pair)
    if sets is None:
        return None
    for slot in pair:
        text = text.replace(f"{{{slot}}}", join([values[slot].said for values in sets], rng))
    return _fill(entry, text, sets[0]) + rng.choice((", respectively", " respectively")), "", sets


def _repeat_part(entry: Entry, text: str, count: int, rng: random.Random) -> _Many | None:
    """A part of the wording comes several times: a table for two at Gino's and a table for four at Oslo."""
    match = re.search(r"\[\[(.*?)\]\]", text)
    if not match:
        return None
    part = match[1]
    slots = [name for name in _SLOT.findall(part) if name in entry.kinds]
    fixed = [slot for slot in slots if len(slots) > 1 and rng.random() < 0.1]
    sets = _different(entry, text, count, rng, vary=[slot for slot in slots if slot not in fixed] or slots)
    if sets is None:
        return None
    parts = [_fill(entry, part, values) for values in sets]
    before, behind = text[: match.start()], text[match.end() :]
    if rng.random() < 0.15:
        again = rng.choice(("Do the same for {}.", "Also for {}.", "And then for {}.", "Then the same for {}.", "And what about {}?"))
        return _fill(entry, before + parts[0] + behind, sets[0]), again.format(join(parts[1:], rng)), sets
    joined = rng.choice(
        (
            join(parts, rng),
            " and ".join(parts),
            ", and ".join(parts),
            "; ".join(parts[:-1]) + "; and " + parts[-1],
            ", and also ".join(parts),
            ", then ".join(parts),
            join([f"({number}) {part}" for number, part in enumerate(parts, 1)], rng),
        )
    )
    return _fill(entry, before + joined + behind, sets[0]), "", sets


def _is_plain(entry: Entry, name: str) -> bool:
    """Whether a slot's values can be listed: not lists themselves, and more than two."""
    kind = entry.kinds[name].removeprefix("up ").removeprefix("quoted ")
    many = not kind.startswith("of ") or len(options(kind)) > 2
    return many and kind.split()[0] not in ("list", "numbers", "vector", "each", "point", "expr") and entry.kinds[name][:3] != "up "


def _different(
    entry: Entry, text: str, count: int, rng: random.Random, vary: Sequence[str]
) -> list[dict[str, Value]] | None:
    """Values that are the same in all sets but for these slots, which differ in each."""
    sets = [_values(entry, text, rng)]
    for _ in range(40):
        drawn = _values(entry, text, rng)
        values = sets[0] | {name: drawn[name] for name in vary}
        rising = [name for name in values if entry.kinds[name].startswith("up ")]
        mixed = 0 < sum(name in vary for name in rising) < len(rising)
        used = [[other[name].meant for other in sets] for name in vary]
        new = all(values[name].meant not in seen for name, seen in zip(vary, used, strict=True))
        if len(vary) > 1 and not new:  # of several that vary, one may come again
            new = [values[n].meant for n in vary] not in [[o[n].meant for n in vary] for o in sets] and rng.random() < 0.3
        clash = len({str(values[n].meant) for n in values if entry.kinds[n].split()[0] not in _NUMERIC}) < len(
            [n for n in values if entry.kinds[n].split()[0] not in _NUMERIC]
        )
        if new and not mixed and not clash:
            sets.append(values)
        if len(sets) == count:
            return sets
    return None
