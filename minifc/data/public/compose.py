"""Requests to rows: which functions are offered, how several requests become one, and what is answered.

A row is of one of five categories, those of the Berkeley Function Calling Leaderboard:

    simple               one function, one call
    multiple             two to four functions, of which one is called
    parallel             several calls of one function
    parallel_multiple    calls of several functions
    irrelevance          one to four functions of which none fits, or one that lacks an argument: an answer in words
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from minifc.data.public import catalogue
from minifc.data.public.catalogue import Entry
from minifc.data.public.functions import Ask, Function, Request, show
from minifc.data.public.intents import as_typed

CATEGORIES = ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance")
Row = dict[str, Any]


@dataclass
class Pool:
    """What rows are drawn from: a catalogue, requests of people by source, and functions that only stand beside."""

    entries: Sequence[Entry]
    asks: dict[str, list[Ask]]
    open: list[Request]  # there is never a function for them
    whole: list[Request]  # requests of a data set that has functions of its own
    beside: Sequence[Function]
    by_domain: dict[str, list[Function]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        functions = {entry.function.group: entry.function for entry in self.entries}
        for asks in self.asks.values():
            functions |= {f"{ask.function.group} {ask.function.names[0]}": ask.function for ask in asks}
        for function in functions.values():
            self.by_domain.setdefault(function.domain, []).append(function)

    def ask(self, source: str, rng: random.Random) -> Ask:
        """A request of a source for one call."""
        if source == "catalogue":
            return catalogue.ask(rng.choice(self.entries), rng)
        ask = rng.choice(self.asks[source])
        return Ask(_spoken(ask, rng), ask.function, ask.calls, ask.source)

    def others(self, functions: Sequence[Function], count: int, rng: random.Random, near: float) -> list[Function]:
        """Functions that do something else; `near`: the share of them from the same domain."""
        found: list[Function] = []
        for _ in range(200):
            if len(found) == count:
                break
            if rng.random() < near:
                one = rng.choice(self.by_domain[functions[0].domain]) if functions[0].domain in self.by_domain else None
            elif self.beside and rng.random() < 0.3:
                one = rng.choice(self.beside)
            else:
                one = rng.choice(self.by_domain[rng.choice(list(self.by_domain))])
            if one and all(apart(one, other) for other in [*functions, *found]):
                found.append(one)
        return found


def apart(one: Function, other: Function) -> bool:
    """Whether two functions surely do different things."""
    first, second = one.group.split("/")[0], other.group.split("/")[0]
    if one.group == other.group:
        return False
    if "seal" in (first, second):
        return not _content(one) & _content(other)
    return first == second or one.domain != other.domain


_COMMON = set(
    "the a an of for in on to and or with by from its it get find calculate compute retrieve information check set "
    "list show add data about user specific given based on at is are as that whether between one all details".split()
)


def _content(function: Function) -> set[str]:
    words = re.findall("[a-z]{3,}", " ".join([*function.names, *function.texts]).lower().replace("_", " "))
    return {re.sub("(s|ing|ed)$", "", word) for word in words} - _COMMON


def _spoken(ask: Ask, rng: random.Random) -> str:
    return as_typed(ask.text, rng) if ask.source.startswith(("nlu", "snips")) else ask.text


# --- rows --------------------------------------------------------------------------------------------------------


def row(request: Request, functions: Sequence[Function], category: str, answer: str, rng: random.Random) -> Row:
    """The row: functions shown as tools in random order, and calls in the order of the request."""
    order = list({id(function): function for function in functions}.values())
    rng.shuffle(order)
    taken: set[str] = set()
    shown = {id(function): show(function, rng, taken) for function in order}
    calls = [shown[id(function)].call(arguments) for function, arguments in request.calls]
    reply: dict[str, Any] = {"role": "assistant", "content": answer or None}
    if calls:
        reply["tool_calls"] = calls
    return {
        "messages": [{"role": "user", "content": request.text}, reply],
        "tools": [{"type": "function", "function": shown[id(function)].tool} for function in order],
        "source": request.source,
        "category": category,
    }


def simple(pool: Pool, source: str, rng: random.Random) -> Row | None:
    if source == "seal":
        request = rng.choice([request for request in pool.whole if len(request.calls) == 1])
        return row(request, [request.calls[0][0]], "simple", "", rng)
    ask = pool.ask(source, rng)
    return row(_request([ask]), [ask.function], "simple", "", rng)


def multiple(pool: Pool, source: str, rng: random.Random) -> Row | None:
    if source == "seal":
        request = rng.choice([request for request in pool.whole if len(request.calls) == 1])
    else:
        request = _request([pool.ask(source, rng)])
    function = request.calls[0][0]
    others = pool.others([function], rng.choice((1, 1, 2, 2, 3)), rng, near=0.6)
    return row(request, [function, *others], "multiple", "", rng) if others else None


def parallel(pool: Pool, source: str, rng: random.Random) -> Row | None:
    count = rng.choice((2, 2, 2, 3, 3, 4))
    if source == "catalogue":
        entry = rng.choice(pool.entries)
        ask = catalogue.ask_many(entry, count, rng) if rng.random() < 0.75 else None
        if ask is None:
            asks = [catalogue.ask(entry, rng) for _ in range(count)]
            ask = Ask(joined(asks, rng), entry.function, [one.calls[0] for one in asks], asks[0].source)
    else:
        first = pool.ask(source, rng)
        same = [one for one in pool.asks[source] if one.function is first.function or one.function.names == first.function.names]
        asks = [first, *(Ask(_spoken(one, rng), first.function, one.calls, one.source) for one in rng.sample(same, min(len(same), count - 1)))]
        if not all(_fits(one, first.function) for one in asks):
            return None
        ask = Ask(joined(asks[:3], rng), first.function, [one.calls[0] for one in asks[:3]], first.source)
    calls = [repr(call) for call in ask.calls]
    if len(set(calls)) < len(calls) or len(calls) < 2:
        return None
    others = pool.others([ask.function], rng.choice((1, 2)), rng, near=0.6) if rng.random() < 0.15 else []
    return row(_request([ask]), [ask.function, *others], "parallel", "", rng)


def _fits(ask: Ask, function: Function) -> bool:
    required = {parameter.name for parameter in function.parameters if parameter.required}
    return required <= set(ask.calls[0]) <= {parameter.name for parameter in function.parameters}


def parallel_multiple(pool: Pool, source: str, rng: random.Random) -> Row | None:
    if source == "seal":
        request = rng.choice([request for request in pool.whole if 2 <= len(request.calls) <= 4])
        functions = [function for function, _ in request.calls]
        return row(request, functions, "parallel_multiple", "", rng)
    count = rng.choice((2, 2, 2, 3, 3, 4)) if source == "catalogue" else rng.choice((2, 2, 3))
    near = rng.random() < 0.55
    asks: list[Ask] = []
    for _ in range(40):
        if len(asks) == count:
            break
        if source == "catalogue":
            entries = [e for e in pool.entries if not (near and asks) or e.function.domain == asks[0].function.domain]
            entry = rng.choice(entries)
            one = (catalogue.ask_many(entry, 2, rng) if rng.random() < 0.15 else None) or catalogue.ask(entry, rng)
        else:
            one = pool.ask(source if rng.random() < 0.7 else "catalogue", rng)
        if all(apart(one.function, other.function) for other in asks):
            asks.append(one)
    if len(asks) < 2:
        return None
    functions = [ask.function for ask in asks]
    others = pool.others(functions, 1, rng, near=0.5) if len(functions) < 4 and rng.random() < 0.45 else []
    text = joined(asks, rng)
    calls = [(ask.function, call) for ask in asks for call in ask.calls]
    return row(Request(text, calls, asks[0].source), [*functions, *others], "parallel_multiple", "", rng)


def irrelevance(pool: Pool, source: str, rng: random.Random) -> Row | None:
    count = 1 if rng.random() < 0.7 else rng.choice((2, 2, 3, 4))
    if source == "missing":
        ask = catalogue.ask_lacking(rng.choice(pool.entries), rng)
        if ask is None:
            return None
        answer = f"No value is given for the {ask.missing}."
        others = pool.others([ask.function], count - 1, rng, near=0.5)
        return row(Request(ask.text, (), ask.source), [ask.function, *others], "irrelevance", answer, rng)
    if source == "open":
        request = rng.choice(pool.open)
        request = Request(as_typed(request.text, rng), (), request.source)
        functions = _unrelated(request.text, pool, count, rng)
        return row(request, functions, "irrelevance", "No tool fits.", rng)
    ask = pool.ask(source, rng)
    others = pool.others([ask.function], count, rng, near=0.45)
    answer = f"No tool fits. Needed: {ask.function.purpose}."
    return row(Request(ask.text, (), ask.source), others, "irrelevance", answer, rng) if others else None


def _unrelated(text: str, pool: Pool, count: int, rng: random.Random) -> list[Function]:
    """Functions that share no word with a request whose intent is not known."""
    said = {re.sub("(s|ing|ed)$", "", word) for word in re.findall("[a-z]{3,}", text.lower())}
    found: list[Function] = []
    while len(found) < count:
        function = pool.others([pool.entries[0].function], 1, rng, near=0.0)[0]
        words = _content(function) | {function.domain}
        for parameter in function.parameters:
            words |= set(re.findall("[a-z]{3,}", parameter.name))
        if not words & said and all(apart(function, other) for other in found):
            found.append(function)
    return found


MAKERS: dict[str, Callable[[Pool, str, random.Random], Row | None]] = {
    "simple": simple,
    "multiple": multiple,
    "parallel": parallel,
    "parallel_multiple": parallel_multiple,
    "irrelevance": irrelevance,
}


def _request(asks: Sequence[Ask]) -> Request:
    calls = [(ask.function, call) for ask in asks for call in ask.calls]
    return Request(joined(asks, random.Random(0)) if len(asks) > 1 else _with_context(asks[0], asks[0].text), calls, asks[0].source)


# --- several requests as one -------------------------------------------------------------------------------------


def joined(asks: Sequence[Ask], rng: random.Random) -> str:
    """Several requests as a person says them in one go."""
    return _with_context(asks[0], _joined(asks, rng))


def _with_context(ask: Ask, text: str) -> str:
    return f"{ask.context} {text}" if ask.context else text


def _joined(asks: Sequence[Ask], rng: random.Random) -> str:
    if all(ask.clauses for ask in asks) and rng.random() < 0.6:
        return _in_one_sentence([rng.choice(ask.clauses) for ask in asks], rng)
    texts = [ask.text if ask.text[-1] in ".?!" else ask.text + "." for ask in asks]
    style = rng.random()
    if style < 0.3:
        return " ".join(texts)
    if style < 0.4:
        lead = rng.choice(("I have a few questions. ", "I need help with several things. ", "A few things: ", ""))
        return lead + " ".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    said = texts[0]
    for number, text in enumerate(texts[1:], 1):
        last = number == len(texts) - 1
        link = rng.choice(("Also, {}", "And {}", "Then {}", "After that, {}", "Additionally, {}", "Next, {}", "Oh, and {}", "Plus, {}"))
        if last and len(texts) > 2:
            link = rng.choice(("Finally, {}", "Lastly, {}", "And finally, {}", link))
        said += " " + link.format(_lowered(text))
    return said


def _lowered(text: str) -> str:
    """Ready to stand after other words, unless it begins with a name."""
    first = re.split(r"[\s,']", text)[0]
    return text if first in ("I", "I'm") or not first[1:].islower() else text[0].lower() + text[1:]


def _in_one_sentence(clauses: Sequence[str], rng: random.Random) -> str:
    """Commands joined: First, ... Then ..."""
    plain = [re.sub(r"^(find|get|tell|show) me ", "find ", clause) for clause in clauses]
    whole = [_capital(clause) for clause in clauses]
    count = {2: "two", 3: "three", 4: "four"}.get(len(clauses), "several")
    also = "; ".join(clauses[:-1]) + f"; and {clauses[-1]}" if len(clauses) > 2 else ", and ".join(clauses)
    listed = ", ".join(plain[:-1]) + f", and {plain[-1]}" if len(plain) > 2 else " and ".join(plain)
    said = rng.choice(
        (
            f"{also}.",
            f"Please {also}.",
            f"Can you {also}?",
            _steps(clauses, rng),
            _steps(clauses, rng),
            f"I need to {listed}.",
            f"I'd like you to {also}.",
            f"Help me {listed}.",
            ". ".join(whole) + ".",
            f"{'. Also, '.join(clauses)}.",
            f"I have {count} things for you: {listed}. Can you do that?",
            f"Could you do the following for me? {'. '.join(whole)}.{rng.choice(('', ' Thanks!', ' Thank you.'))}",
            f"I want you to {clauses[0]}. I also want you to {'. And '.join(clauses[1:])}.",
            f"{rng.choice(_PEOPLE)} needs help with {count} things. {_steps(clauses, rng)}",
        )
    )
    return _capital(said)


_PEOPLE = ("My friend", "My colleague", "A student of mine", "John", "My daughter", "Our client", "Sara", "My boss")


def _steps(clauses: Sequence[str], rng: random.Random) -> str:
    if len(clauses) > 4 or rng.random() < 0.3:
        words = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")
        return " ".join(f"{word}, {clause}." for word, clause in zip(words, clauses, strict=False))
    last = rng.choice(("Finally,", "After that,", "Then", "Lastly,"))
    return " ".join([f"First, {clauses[0]}.", *(f"Then {clause}." for clause in clauses[1:-1]), f"{last} {clauses[-1]}."])


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
