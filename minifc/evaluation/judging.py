"""Is this answer right? And how often: shares with their intervals."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minifc.calling.validation import same
from minifc.errors import CallError
from minifc.text.calls import Call, write_json
from minifc.text.template import Format
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import parse_calls

# Judges a turn's calls (None if they could not be parsed) and returns why they are wrong, or None.
Rule = Callable[[Sequence[Call] | None], str | None]


def exactly(expected: Sequence[Call]) -> Rule:
    """The rule that a turn makes these calls, in any order, and no others."""

    def rule(calls: Sequence[Call] | None) -> str | None:
        if calls is None:
            return "the call cannot be read"
        if len(calls) != len(expected):
            return f"{len(calls)} calls instead of {len(expected)}"
        left = list(expected)
        for call in calls:
            found = next(
                (i for i, e in enumerate(left) if e.name == call.name and same(e.arguments, call.arguments)), None
            )
            if found is None:
                return f"{write_json({'name': call.name, 'arguments': call.arguments})} is not asked for"
            del left[found]
        return None

    return rule


@dataclass(frozen=True)
class Verdict:
    """What one answer is."""

    expected: tuple[str, ...] | None  # the names of the tools that it should call; None: any of them
    calls: tuple[Call, ...]
    error: str | None  # why it is wrong, or None
    unreadable: bool = False  # it began a call that cannot be read
    ran_on: bool = False  # it reached the limit of tokens before its end

    @property
    def has_tool(self) -> bool:
        """Whether there is a tool for the request."""
        return self.expected != ()

    @property
    def called(self) -> bool:
        return self.unreadable or bool(self.calls)

    @property
    def right_tools(self) -> bool:
        """It calls the right tools, with whatever arguments."""
        if self.expected is None:
            return bool(self.calls)
        return Counter(call.name for call in self.calls) == Counter(self.expected)


def judge(
    ids: Sequence[int],
    expected: tuple[str, ...] | None,
    rule: Rule,
    tokenizer: Tokenizer,
    format: Format = "gemma",
    ran_on: bool = False,
) -> Verdict:
    """Read the ids of one model turn and judge its calls. ran_on: the turn was cut at the limit of tokens."""
    calls: tuple[Call, ...] = ()
    unreadable = False
    try:
        calls = tuple(parse_calls(ids, tokenizer, format))
        error = rule(calls)
    except CallError as problem:
        unreadable = True
        error = f"the call cannot be read: {problem}" if rule(None) else None
    if error and ran_on:
        error = f"ran to the limit; {error}"
    return Verdict(expected, calls, error, unreadable, ran_on)


@dataclass(frozen=True)
class Share:
    """A count out of a total, with its 95% Wilson interval (doi.org/10.2307/2276774)."""

    count: int
    total: int

    @property
    def value(self) -> float:
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.total:
            return (math.nan, math.nan)
        n, p, z = self.total, self.value, 1.959964
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (max(0.0, centre - half), min(1.0, centre + half))

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = self.interval
        return f"{self.value:.1%} ({low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class Score:
    """Shares over many verdicts."""

    right: Share  # of all requests: nothing is wrong with the answer
    exact: Share  # of requests that have their tool: exactly the right calls
    right_tools: Share  # of the same: the right tools, whatever the arguments
    right_arguments: Share  # of those with the right tools: the right arguments
    false_refusals: Share  # of requests that have their tool: an answer that ends without a call
    false_calls: Share  # of requests that no tool fits: a call, readable or not
    unreadable: Share  # of all answers that call: a call that cannot be read
    ran_on: Share  # of all answers: the limit of tokens came before the end

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "Score":
        fitting = [verdict for verdict in verdicts if verdict.has_tool]
        unfit = [verdict for verdict in verdicts if not verdict.has_tool]
        called = [verdict for verdict in verdicts if verdict.called]
        right_tools = [verdict for verdict in fitting if verdict.right_tools]
        return cls(
            right=Share(sum(v.error is None for v in verdicts), len(verdicts)),
            exact=Share(sum(v.error is None for v in fitting), len(fitting)),
            right_tools=Share(len(right_tools), len(fitting)),
            right_arguments=Share(sum(v.error is None for v in right_tools), len(right_tools)),
            false_refusals=Share(sum(not (v.called or v.ran_on) for v in fitting), len(fitting)),
            false_calls=Share(sum(v.called for v in unfit), len(unfit)),
            unreadable=Share(sum(v.unreadable for v in called), len(called)),
            ran_on=Share(sum(v.ran_on for v in verdicts), len(verdicts)),
        )
