"""Requests to rows: which functions are offered, and what is answered.

A row is of one of six categories, the first five of which are those of the Berkeley Function Calling Leaderboard:

    simple               one function, one call
    multiple             two to four functions, of which one is called
    parallel             several calls of one function
    parallel_multiple    calls of several functions
    irrelevance          one to four functions of which none fits, or one that lacks an argument: an answer in words
    answered             one call, its result, and an answer about it; questions about the result may follow, or a
                         request for another call

Every answer in words instead of a call begins with the same word, so that calling or not is decided by one token.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from minifc.data.public import asking
from minifc.data.public.catalogue import Entry
from minifc.data.public.functions import Ask, Exchange, Function, Request
from minifc.data.public.intents import as_typed
from minifc.data.public.joining import joined, with_context
from minifc.data.public.tools import show

Row = dict[str, Any]
_NAMED = 0.02  # share of requests that name the function
_GOES_ON = 0.5  # share of conversations with a result that end with a request for another call
_LONG, _QUOTED = 40, 0.2  # words of a long request, and the share of such that stand in quotation marks
# Words that say nothing about what a function is for.
_COMMON = frozenset(
    "the for and with from its get find calculate compute retrieve information check set list show add data about user "
    "specific given based are that whether between one all details determine look".split()
)


@dataclass(frozen=True)
class Pool:
    """What rows are drawn from: catalogues and requests of people, by source, and functions that only stand beside."""

    entries: dict[str, Sequence[Entry]]
    asks: dict[str, list[Ask]]
    open: Sequence[Request]  # there is never a function for them
    whole: Sequence[Request]  # requests of a data set that has functions of its own
    beside: Sequence[Function]
    exchanges: Sequence[Exchange] = ()

    @cached_property
    def by_domain(self) -> dict[str, list[Function]]:
        """The functions that can be asked for."""
        asked = [entry.function for entries in self.entries.values() for entry in entries]
        asked += [ask.function for asks in self.asks.values() for ask in asks]
        functions = {(one.group, one.names[0]): one for one in asked}
        found: dict[str, list[Function]] = {}
        for function in functions.values():
            found.setdefault(function.domain, []).append(function)
        return found

    @cached_property
    def common(self) -> list[str]:
        """The domains of the catalogue and of people's requests."""
        named = {entry.function.domain for entry in self.entries["catalogue"]}
        return sorted(named | {ask.function.domain for asks in self.asks.values() for ask in asks})

    def far(self, rng: random.Random) -> Function:
        """Any function: all domains are equally likely."""
        return rng.choice(self.by_domain[rng.choice(self.common)])

    @cached_property
    def by_group(self) -> dict[tuple[str, str], list[Ask]]:
        """The requests of people, by what their functions do."""
        found: dict[tuple[str, str], list[Ask]] = {}
        for source, asks in self.asks.items():
            for ask in asks:
                found.setdefault((source, ask.function.group), []).append(ask)
        return found

    def ask(self, source: str, rng: random.Random) -> Ask:
        """A request of a source for one call."""
        if source in self.entries:
            return asking.ask(rng.choice(self.entries[source]), rng)
        return _typed(rng.choice(self.asks[source]), rng)

    def others(self, functions: Sequence[Function], count: int, rng: random.Random, near: float) -> list[Function]:
        """Functions that do something else; `near`: the share of them from the same domain. There may be fewer."""
        found: list[Function] = []
        for _ in range(200):
            if len(found) == count:
                break
            same = self.by_domain.get(functions[0].domain, []) if rng.random() < near else []
            if same:
                one = rng.choice(same)
            elif rng.random() < 0.3:
                one = rng.choice(self.beside)
            else:
                one = self.far(rng)
            if all(apart(one, other) for other in [*functions, *found]):
                found.append(one)
        return found


def apart(one: Function, other: Function) -> bool:
    """Whether two functions surely do different things."""
    if one.group == other.group:
        return False
    first, second = one.group.split("/")[0], other.group.split("/")[0]
    if "seal" in (first, second):
        return not _content(one) & _content(other)
    return first == second or one.domain != other.domain


def _content(function: Function) -> set[str]:
    return _stems(" ".join([*function.names, *function.texts]))


def _stems(text: str) -> set[str]:
    return {re.sub("(s|ing|ed)$", "", word) for word in re.findall("[a-z]{3,}", text.lower())} - _COMMON


def _typed(ask: Ask, rng: random.Random) -> Ask:
    spoken = ask.source.startswith(("nlu", "snips"))
    return replace(ask, text=as_typed(ask.text, rng)) if spoken else ask


# --- rows --------------------------------------------------------------------------------------------------------


def row(request: Request, functions: Sequence[Function], category: str, answer: str, rng: random.Random) -> Row:
    """The row: functions shown as tools in random order, and calls in the order of the request."""
    order = list({id(function): function for function in functions}.values())
    rng.shuffle(order)
    taken: set[str] = set()
    shown = {id(function): show(function, rng, taken) for function in order}
    calls = [shown[id(function)].call(arguments) for function, arguments in request.calls]
    text = request.text
    if len(order) == 1 and calls and rng.random() < _NAMED:
        text = text if text[-1] in ".?!" else f"{text}."
        text += rng.choice((" Use {} for it.", " Please use the function '{}'.")).format(calls[0]["function"]["name"])
    if len(text.split()) > _LONG and '"' not in text and rng.random() < _QUOTED:
        text = f'"{text}"'
    reply: dict[str, Any] = {"role": "assistant", "content": answer or None}
    if calls:
        reply["tool_calls"] = calls
    return {
        "messages": [{"role": "user", "content": text}, reply],
        "tools": [{"type": "function", "function": shown[id(function)].tool} for function in order],
        "source": request.source,
        "category": category,
    }


def simple(pool: Pool, source: str, rng: random.Random) -> Row | None:
    if source == "seal":
        request = rng.choice([request for request in pool.whole if len(request.calls) == 1])
        return row(request, [request.calls[0][0]], "simple", "", rng)
    ask = pool.ask(source, rng)
    return row(_request(ask), [ask.function], "simple", "", rng)


def multiple(pool: Pool, source: str, rng: random.Random) -> Row | None:
    if source == "seal":
        request = rng.choice([request for request in pool.whole if len(request.calls) == 1])
    else:
        request = _request(pool.ask(source, rng))
    function = request.calls[0][0]
    others = pool.others([function], rng.choice((1, 1, 2, 2, 3)), rng, near=0.6)
    return row(request, [function, *others], "multiple", "", rng) if others else None


def parallel(pool: Pool, source: str, rng: random.Random) -> Row | None:
    ask = _many_calls(pool, source, rng)
    if ask is None or any(ask.calls.count(call) > 1 for call in ask.calls):
        return None
    others = pool.others([ask.function], rng.choice((1, 2)), rng, near=0.6) if rng.random() < 0.15 else []
    return row(_request(ask), [ask.function, *others], "parallel", "", rng)


def _many_calls(pool: Pool, source: str, rng: random.Random) -> Ask | None:
    """Several calls of one function: in one sentence of the catalogue's, or in several."""
    count = rng.choice((2, 2, 2, 3, 3, 4))
    if source in pool.entries:
        entry = rng.choice(pool.entries[source])
        if rng.random() < 0.65 and (ask := asking.ask_many(entry, count, rng)):
            return ask
        asks = [asking.ask(entry, rng) for _ in range(count)]
    else:
        first = pool.ask(source, rng)
        same = [one for one in pool.by_group[source, first.function.group] if _fits(one, first.function)]
        asks = [first, *(_typed(one, rng) for one in rng.sample(same, min(len(same), count - 1, 2)))]
    if len(asks) < 2:
        return None
    return Ask(joined(asks, rng), asks[0].function, [one.calls[0] for one in asks], asks[0].source)


def _fits(ask: Ask, function: Function) -> bool:
    """Whether a request can be answered by a function of the same names, which may come from another schema."""
    kinds = {parameter.name: parameter.schema for parameter in function.parameters}
    own = {parameter.name: parameter.schema for parameter in ask.function.parameters}
    required = {parameter.name for parameter in function.parameters if parameter.required}
    given = set(ask.calls[0])
    return ask.function.names == function.names and required <= given and all(kinds.get(n) == own[n] for n in given)


def parallel_multiple(pool: Pool, source: str, rng: random.Random) -> Row | None:
    if source == "seal":
        request = rng.choice([request for request in pool.whole if 2 <= len(request.calls) <= 4])
        functions = [function for function, _ in request.calls]
        return row(request, functions, "parallel_multiple", "", rng)
    count = rng.choice((2, 2, 2, 3, 3, 4)) if source in pool.entries else rng.choice((2, 2, 3))
    asks = _different_asks(pool, source, count, rng)
    if len(asks) < 2:
        return None
    functions = [ask.function for ask in asks]
    others = pool.others(functions, 1, rng, near=0.5) if len(functions) < 4 and rng.random() < 0.45 else []
    text = joined(asks, rng)
    calls = [(ask.function, call) for ask in asks for call in ask.calls]
    return row(Request(text, calls, asks[0].source), [*functions, *others], "parallel_multiple", "", rng)


def _different_asks(pool: Pool, source: str, count: int, rng: random.Random) -> list[Ask]:
    """Requests of functions that are apart: often of one domain, people's now and then beside the catalogue's."""
    entries = pool.entries.get(source, pool.entries["catalogue"])
    near = source == "catalogue" and rng.random() < 0.55
    asks: list[Ask] = []
    for _ in range(40):
        if len(asks) == count:
            break
        if source not in pool.entries and rng.random() < 0.7:
            one = pool.ask(source, rng)
        else:
            entry = rng.choice(entries)
            one = (asking.ask_many(entry, 2, rng) if rng.random() < 0.15 else None) or asking.ask(entry, rng)
        if all(apart(one.function, other.function) for other in asks):
            asks.append(one)
        if near:
            entries = [entry for entry in entries if entry.function.domain == asks[0].function.domain]
    return asks


def irrelevance(pool: Pool, source: str, rng: random.Random) -> Row | None:
    count = 1 if rng.random() < 0.75 else rng.choice((2, 2, 3, 4))
    if source == "missing":
        ask = asking.ask_lacking(rng.choice([entry for entry in pool.entries["catalogue"] if entry.lacking]), rng)
        functions = [ask.function, *pool.others([ask.function], count - 1, rng, near=0.5)]
        answer = f"No value is given for the {ask.missing}."
        return row(Request(ask.text, (), ask.source), functions, "irrelevance", answer, rng)
    if source == "open":
        request = rng.choice(pool.open)
        request = replace(request, text=as_typed(request.text, rng))
        return row(request, _unrelated(request.text, pool, count, rng), "irrelevance", "No tool fits.", rng)
    ask = pool.ask(source, rng)
    others = pool.others([ask.function], count, rng, near=0.45)
    answer = f"No tool fits. Needed: {ask.function.purpose}."
    return row(replace(_request(ask), calls=()), others, "irrelevance", answer, rng) if others else None


def answered(pool: Pool, source: str, rng: random.Random) -> Row | None:
    exchange = rng.choice(pool.exchanges)
    function = exchange.ask.function
    # What is asked for afterwards, so that a result before does not mean an answer in words.
    asks = [pool.ask(rng.choice([*pool.entries, *pool.asks]), rng)] if rng.random() < _GOES_ON else []
    if any(not apart(ask.function, function) for ask in asks):
        return None
    functions = [function, *(ask.function for ask in asks)]
    others = pool.others(functions, rng.choice((0, 0, 1, 2)), rng, near=0.6)
    requests = [_request(exchange.ask), *map(_request, asks)]
    both = replace(requests[0], calls=[call for request in requests for call in request.calls])
    made = row(both, [*functions, *others], "answered", "", rng)
    call, *later = made["messages"][1]["tool_calls"]
    made["messages"][1]["tool_calls"] = [call]
    result = json.dumps(exchange.result, ensure_ascii=False)
    made["messages"] += [
        {"role": "tool", "name": call["function"]["name"], "content": result},
        {"role": "assistant", "content": exchange.answer},
    ]
    for question, answer in exchange.more:
        made["messages"] += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    for request in requests[1:]:
        made["messages"] += [
            {"role": "user", "content": request.text},
            {"role": "assistant", "content": None, "tool_calls": later},
        ]
    return made


def _unrelated(text: str, pool: Pool, count: int, rng: random.Random) -> list[Function]:
    """Functions that share no word with a request whose intent is not known."""
    found: list[Function] = []
    while len(found) < count:
        function = (
            rng.choice(pool.beside)
            if rng.random() < 0.3
            else rng.choice(pool.by_domain[rng.choice(list(pool.by_domain))])
        )
        words = _content(function) | _stems(" ".join([function.domain, *(one.name for one in function.parameters)]))
        if not words & _stems(text) and all(apart(function, other) for other in found):
            found.append(function)
    return found


def _request(ask: Ask) -> Request:
    return Request(with_context(ask, ask.text), [(ask.function, call) for call in ask.calls], ask.source)


MAKERS: dict[str, Callable[[Pool, str, random.Random], Row | None]] = {
    "simple": simple,
    "multiple": multiple,
    "parallel": parallel,
    "parallel_multiple": parallel_multiple,
    "irrelevance": irrelevance,
    "answered": answered,
}
