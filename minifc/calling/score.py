"""Is this call right?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from minifc.errors import CallError
from minifc.text.calls import Call, parse_calls
from minifc.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Verdict:
    """What one answer is, beside the call it should have held (None where no tool fits)."""

    expected: Call | None
    calls: tuple[Call, ...]
    malformed: bool  # it began a call that cannot be read

    @property
    def right(self) -> bool:
        """Exactly the expected call, name and arguments, or no call where none fits."""
        return not self.malformed and self.calls == (() if self.expected is None else (self.expected,))

    @property
    def called(self) -> bool:
        return self.malformed or bool(self.calls)


def judge(ids: Sequence[int], expected: Call | None, tokenizer: Tokenizer) -> Verdict:
    """Read one model turn and hold it against the call it should have made."""
    try:
        return Verdict(expected, tuple(parse_calls(ids, tokenizer)), malformed=False)
    except CallError:
        return Verdict(expected, (), malformed=True)


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

    exact: Share  # of requests that have their tool: exactly the right call
    false_refusals: Share  # of the same: no call at all
    false_calls: Share  # of requests that no tool fits: a call, readable or not
    readable: Share  # of all begun calls

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> "Score":
        fits = [verdict for verdict in verdicts if verdict.expected is not None]
        unfit = [verdict for verdict in verdicts if verdict.expected is None]
        called = [verdict for verdict in verdicts if verdict.called]
        return cls(
            exact=Share(sum(v.right for v in fits), len(fits)),
            false_refusals=Share(sum(not v.called for v in fits), len(fits)),
            false_calls=Share(sum(v.called for v in unfit), len(unfit)),
            readable=Share(sum(not v.malformed for v in called), len(called)),
        )
