"""Whether a model's probabilities can be relied upon: how far they are from the truth, and what they are good for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from minifc.evaluation.judging import Share

BINS = 10
PRECISION = 0.99  # of the answers that one trusts


@dataclass(frozen=True)
class Calibration:
    """Over many answers, each with its probability."""

    error: float  # expected calibration error, arXiv:1706.04599; nan without answers
    trusted: Share  # of all answers: the most probable ones, as many as there are with PRECISION of them right
    threshold: float  # the probability of the least probable of those; inf without any

    @classmethod
    def of(cls, answers: Sequence[tuple[float, bool]]) -> "Calibration":
        """answers: the probability of each, and whether it is right."""
        ordered = sorted(answers, key=lambda answer: -answer[0])
        right = 0
        trusted, threshold = 0, math.inf
        for count, (probability, is_right) in enumerate(ordered, 1):
            right += is_right
            last = count == len(ordered) or ordered[count][0] < probability  # equal ones are trusted together
            if last and right >= PRECISION * count:
                trusted, threshold = count, probability
        return cls(_error(ordered), Share(trusted, len(ordered)), threshold)


def _error(ordered: Sequence[tuple[float, bool]]) -> float:
    """In BINS of equally many answers: the mean distance of the mean probability from the share that is right."""
    if not ordered:
        return math.nan
    edges = [round(len(ordered) * i / BINS) for i in range(BINS + 1)]
    bins = [ordered[a:b] for a, b in pairwise(edges) if a < b]
    return sum(abs(sum(p for p, _ in one) - sum(right for _, right in one)) for one in bins) / len(ordered)
