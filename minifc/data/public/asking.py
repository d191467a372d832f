"""What people ask of the functions of the catalogue: once, several times in one request, or without all that is needed.

Everything is drawn: the wording, its frame ("Calculate ...", "Could you ..."), the values, and which of the arguments
that can be left out are said. What is not said is not in the call.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from minifc.data.public import joining
from minifc.data.public.catalogue import DERIVED, SLOT, Entry
from minifc.data.public.functions import Ask
from minifc.data.public.values import Value, draw, join, later, options, pools

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
    "q": ["{}"],
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
    "It's for a friend.", "Good morning!", "I'm new to this.", "My daughter wants to know this.",
    "Sorry to bother you.", "I was wondering about something.", "This is for a school project.", "Let's get started.",
)  # fmt: skip
_TOLD = 0.45  # share of requests for several calls that describe things first and ask about them afterwards
_AGAIN = ("Do the same for {}.", "Also for {}.", "And then for {}.", "Then the same for {}.", "And what about {}?")
_SAYS_OPTIONAL = (0, 0, 0, 1, 1, 2)  # how many arguments that could be left out are said
# What stands after `an`: not every vowel (a euro, a one), and no word that can follow a name.
_VOWEL = r"u[npl](?!i)|urban|[aeio](?!ne\b|nce\b|uro|s\b|nd\b|r\b|n\b|t\b|f\b|quals)|8\d*\b|11\b|18\b"
_NUMERIC = set(
    "int exact num money percent percent100 unit span year time numbers vector large sci start_speed stature".split()
)


def ask(entry: Entry, rng: random.Random) -> Ask:
    """One call."""
    kind, text = rng.choice(entry.wordings)
    values = _values(entry, text, rng)
    said = _fill(text, values)
    added, more = _optional(entry, set(values), rng)
    return _ask(entry, kind, said, added, [_arguments(entry, values | more)], rng)


def ask_many(entry: Entry, count: int, rng: random.Random) -> Ask | None:
    """Several calls in one request; None where the drawn wording cannot say that."""
    kind, text = rng.choice(entry.wordings)
    if rng.random() < _TOLD and (told := _tell_parts(entry, kind, text, count, rng)):
        return told
    many = rng.choice((_list_one, _list_one, _repeat_part, _repeat_part, _respectively))(entry, text, count, rng)
    if many is None:
        return None
    said, after, sets = many
    added, more = _optional(entry, set(sets[0]), rng) if rng.random() < 0.6 and not after else ("", {})
    calls = [_arguments(entry, values | more) for values in sets]
    if any(calls.count(call) > 1 for call in calls):
        return None
    found = _ask(entry, kind, said, added, calls, rng)
    if not after:
        return found
    text = found.text if found.text[-1] in ".?" else f"{found.text}."
    return replace(found, text=f"{text} {after}", clauses=())


def ask_lacking(entry: Entry, rng: random.Random) -> Ask:
    """A request without something that is required, of an entry that has such."""
    text, what = rng.choice(entry.lacking)
    said = _fill(text, _values(entry, text, rng))
    return Ask(said, entry.function, (), entry.source, missing=what)


def _ask(entry: Entry, kind: str, said: str, added: str, calls: list[dict[str, Any]], rng: random.Random) -> Ask:
    """A request in one of its frames. added: what follows it, before the mark at its end."""
    said = re.sub(r"\[\[|\]\]", "", said)
    mark = said[-1] if kind == "q" else ""
    said = _article(re.sub(r"\b(last|past|next) (an?|one) ", r"\1 ", said.removesuffix(mark) + added + mark))
    frames = _FRAMES[kind]
    if said.startswith(("how ", "what ", "for each ")):
        frames = [frame for frame in frames if not frame.startswith(("What", "Give"))]
    sentence = rng.choice(frames).format(said)
    sentence = _article(sentence[0].upper() + sentence[1:])
    sentence = re.sub(r"([.?!]['\"]?)\.$", r"\1", sentence)  # a value may end with a mark of its own
    if sentence[-1] == "." and rng.random() < 0.04:
        sentence = sentence[:-1]
    context = rng.choice((*entry.contexts, rng.choice(_ANYWHERE))) if rng.random() < _CONTEXTS else ""
    clauses = [_article(command.format(said)) for command in _COMMANDS.get(kind, [])]
    role = rng.choice(entry.roles) if entry.roles else ""
    return Ask(sentence, entry.function, calls, entry.source, clauses, context, role)


def _article(text: str) -> str:
    """`an` where it belongs; a letter named a, or the A of Serie A, stays."""
    return re.sub(rf"(^A|\ba) (?={_VOWEL})", r"\1n ", text)


def _values(entry: Entry, text: str, rng: random.Random) -> dict[str, Value]:
    """A value for each slot of a text, and for what follows from these."""
    names = [name for name in entry.kinds if name in SLOT.findall(text)]
    values = {name: _draw(entry, name, rng) for name in names}
    while _clash(entry, values):
        values = {name: _draw(entry, name, rng) for name in names}
    for name, kind in entry.kinds.items():
        if (match := DERIVED.match(kind)) and match[2] in values:
            values[name] = _derived(kind, values[match[2]])
    rising = [name for name in names if entry.kinds[name].startswith("up ")]
    if len(rising) == 2 and entry.kinds[rising[0]].startswith("up date"):
        first, second = rising
        return values | {second: later(values[first], entry.kinds[second].removeprefix("up date").strip(), rng)}
    order = sorted((values[name] for name in rising), key=lambda value: value.meant)
    return values | dict(zip(rising, order, strict=True))


def _derived(kind: str, city: Value) -> Value:
    """What follows from another value: the state of a city, in full or as two letters."""
    full, code = next(said for meant, said in pools()["home_state"] if meant == city.meant)
    return Value("", code if kind.startswith("state_code") else full)


def _draw(entry: Entry, name: str, rng: random.Random) -> Value:
    kind = entry.kinds[name].removeprefix("up ")
    if not kind.startswith("each "):
        value = draw(kind, rng)
        while entry.type_of(name) == "integer" and isinstance(value.meant, float):
            value = draw(kind, rng)
        text = isinstance(value.meant, int | float) and entry.type_of(name) == "string"
        return Value(value.said, str(value.meant)) if text else value
    _, fewest, most, pattern = kind.split(" ", 3)  # objects: `each 1 3 {order.count} {order.dish}`
    said, meant = [], []
    for _ in range(rng.randint(int(fewest), int(most))):
        parts = {slot: draw(entry.kinds[slot], rng) for slot in SLOT.findall(pattern)}
        thing = {slot.partition(".")[2]: value.meant for slot, value in parts.items()}
        if thing not in meant:
            said.append(_fill(pattern, parts))
            meant.append(thing)
    return Value(join(said, rng), meant)


def _fill(text: str, values: Mapping[str, Value]) -> str:
    return SLOT.sub(lambda match: values[match[1]].said, text)


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
    slots = [name for name in SLOT.findall(text) if _is_plain(entry, name)]
    if not slots:
        return None
    slot = rng.choice(slots)
    sets = _different(entry, text, count, rng, vary=[slot])
    if sets is None:
        return None
    said = [values[slot].said for values in sets]
    both = "both " if count == 2 and rng.random() < 0.15 else ""
    whole = text.replace(f"{{{slot}}}", both + join(said, rng))
    return _fill(whole, sets[0]), "", sets


def _respectively(entry: Entry, text: str, count: int, rng: random.Random) -> _Many | None:
    """Two slots have several values each: sides of 3 and 4 and heights of 5 and 7, respectively."""
    slots = [name for name in SLOT.findall(text) if _is_plain(entry, name)]
    if len(slots) < 2 or count > 3 or text.endswith("?"):
        return None
    pair = rng.sample(slots, 2)
    sets = _different(entry, text, count, rng, vary=pair)
    if sets is None or any(len({repr(values[slot].meant) for values in sets}) < count for slot in pair):
        return None
    for slot in pair:
        text = text.replace(f"{{{slot}}}", join([values[slot].said for values in sets], rng))
    return _fill(text, sets[0]) + rng.choice((", respectively", " respectively")), "", sets


def _repeat_part(entry: Entry, text: str, count: int, rng: random.Random) -> _Many | None:
    """A part of the wording comes several times: a table for two at Gino's and a table for four at Oslo."""
    match = re.search(r"\[\[(.*?)\]\]", text)
    if not match:
        return None
    part = match[1]
    slots = [name for name in SLOT.findall(part) if name in entry.kinds]
    fixed = [slot for slot in slots if len(slots) > 1 and rng.random() < 0.1]
    sets = _different(entry, text, count, rng, vary=[slot for slot in slots if slot not in fixed] or slots)
    if sets is None:
        return None
    parts = [_fill(part, values) for values in sets]
    before, behind = text[: match.start()], text[match.end() :]
    if rng.random() < 0.15:
        again = rng.choice(_AGAIN).format(join(parts[1:], rng))
        return _fill(before + parts[0] + behind, sets[0]), again, sets
    joined = join(parts, rng) if len(part.split()) < 4 else _joined(parts, rng)
    return _fill(before + joined + behind, sets[0]), "", sets


def _tell_parts(entry: Entry, kind: str, text: str, count: int, rng: random.Random) -> Ask | None:
    """There is a triangle with ... There is also one with ... What is the area of each of them?

    None where the repeated part of the wording is no thing, or what is before it does not ask about one.
    """
    match = re.fullmatch(r"(.*\b(?:of|for|by|on|from|to)) \[\[((?:an?|the|some\w+) .*?)\]\](.*)", text)
    if match is None or kind not in _QUESTIONS:
        return None
    head, part, tail = match.groups()
    sets = _different(entry, text, count, rng, vary=SLOT.findall(part))
    if sets is None:
        return None
    parts = [_article(_fill(part, values)) for values in sets]
    added, more = _optional(entry, set(sets[0]), rng) if rng.random() < 0.4 else ("", {})
    asked = _fill(f"{head} {rng.choice(('each of them', 'each', 'each one', 'all of them'))}{tail}", sets[0]) + added
    calls = [_arguments(entry, values | more) for values in sets]
    question = rng.choice(_QUESTIONS[kind]).format(asked)
    told = f"{joining.described(parts, rng)} {question}"
    if entry.roles and rng.random() < 0.4:
        told = f"{joining.introduced(rng.choice(entry.roles), rng)[0]} {told}"
    return Ask(told, entry.function, calls, entry.source)


_QUESTIONS = {
    "c": ["What is {}?", "Can you calculate {}?", "I need to know {}.", "Please compute {}.", "What would be {}?",
          "Could you help me find {}?"],
    "f": ["Can you find {}?", "I need {}.", "Please look up {}.", "Could you get {} for me?"],
}  # fmt: skip


def _joined(parts: Sequence[str], rng: random.Random) -> str:
    """Parts of several words."""
    return rng.choice(
        (
            join(parts, rng),
            " and ".join(parts),
            ", and ".join(parts),
            "; ".join(parts[:-1]) + "; and " + parts[-1],
            ", and also ".join(parts),
            ", then ".join(parts),
            ", followed by ".join(parts),
            join([f"({number}) {part}" for number, part in enumerate(parts, 1)], rng),
        )
    )


def _is_plain(entry: Entry, name: str) -> bool:
    """Whether a slot's values can be listed: not lists themselves, nor two options only, nor the end of a range."""
    first, *_ = kind = entry.kinds[name].removeprefix("quoted ").split()
    few = first == "of" and len(options(" ".join(kind))) < 3
    return not few and first not in ("list", "numbers", "vector", "each", "point", "expr", "up")


def _different(
    entry: Entry, text: str, count: int, rng: random.Random, vary: Sequence[str]
) -> list[dict[str, Value]] | None:
    """Values that are the same in all sets but for these slots; None where there are too few."""
    follows = [name for name, kind in entry.kinds.items() if (match := DERIVED.match(kind)) and match[2] in vary]
    rising = [name for name, kind in entry.kinds.items() if kind.startswith("up ")]
    if 0 < len(set(rising) & set(vary)) < len(rising):
        return None
    sets = [_values(entry, text, rng)]
    for _ in range(40):
        drawn = _values(entry, text, rng)
        values = sets[0] | {name: drawn[name] for name in (*vary, *follows)}
        if not _clash(entry, values) and all(_differ(entry, values, other, vary) for other in sets):
            sets.append(values)
        if len(sets) == count:
            return sets
    return None


def _differ(entry: Entry, one: Mapping[str, Value], other: Mapping[str, Value], names: Sequence[str]) -> bool:
    """In all of these, or at least in one if the others have few options."""
    equal = [name for name in names if one[name].meant == other[name].meant]
    return len(equal) < len(names) and all(entry.kinds[name].startswith("of ") for name in equal)


def _clash(entry: Entry, values: Mapping[str, Value]) -> bool:
    """Whether two parameters of one kind have the same value: a flight from Rome to Rome. Numbers may be equal."""
    told = [
        (entry.kinds[name], str(value.meant))
        for name, value in values.items()
        if entry.kinds[name].removeprefix("up ").split()[0] not in _NUMERIC
    ]
    return len(set(told)) < len(told)
