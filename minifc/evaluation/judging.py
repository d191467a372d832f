"""Is this answer right? And how often: shares with their intervals."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minifc.calling.schema import same
from minifc.errors import CallError
from minifc.text.calls import Call, parse_calls, write_json
from minifc.text.tokenizer import Tokenizer

# What is wrong with these calls, or with one that cannot be read (None); None if nothing is.
Rule = Callable[[Sequence[Call] | None], str | None]


def exactly(expected: Sequence[Call]) -> Rule:
    """The rule that an answer makes these calls, in any order, and no others."""

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
    error: str | None  # what is wrong with it

    malformed: bool = False  # it began a call that cannot be read

    @property
    def fits(self) -> bool:
        """Whether there is a tool for the request."""
        return self.expected != ()

    @property
    def called(self) -> bool:
        return self.malformed or bool(self.calls)

    @property
    def named(self) -> bool:
        """It calls the right tools, with whatever arguments."""
        if self.expected is None:
            return bool(self.calls)
        return Counter(call.name for call in self.calls) == Counter(self.expected)


def judge(ids: Sequence[int], expected: tuple[str, ...] | None, rule: Rule, tokenizer: Tokenizer) -> Verdict:
    """Read one model turn and hold it against the rule for it."""
    try:
        calls = tuple(parse_calls(ids, tokenizer))
    except CallError as error:
        wrong = f"the call cannot be read: {error}" if rule(None) else None
        return Verdict(expected, (), wrong, malformed=True)
    return Verdict(expected, calls, rule(calls))


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
    names: Share  # of the same: the right tools, whatever the arguments
    arguments: Share  # of those with the right tools: the right arguments
    false_refusals: Share  # of requests that have their tool: no call at all
    false_calls: Share  # of requests that no tool fits: a call, readable or not
    readable: Share  # of all answers that call: every call can be read

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "Score":
        fits = [verdict for verdict in verdicts if verdict.fits]
        unfit = [verdict for verdict in verdicts if not verdict.fits]
        called = [verdict for verdict in verdicts if verdict.called]
        named = [verdict for verdict in fits if verdict.named]
        return cls(
            right=Share(sum(v.error is None for v in verdicts), len(verdicts)),
            exact=Share(sum(v.error is None for v in fits), len(fits)),
            names=Share(len(named), len(fits)),
            arguments=Share(sum(v.error is None for v in named), len(named)),
            false_refusals=Share(sum(not v.called for v in fits), len(fits)),
            false_calls=Share(sum(v.called for v in unfit), len(unfit)),
            readable=Share(sum(not v.malformed for v in called), len(called)),
        )
