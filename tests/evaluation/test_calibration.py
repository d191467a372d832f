"""Calibration: by hand, and what it says of answers whose probabilities are right."""

import math
import random

import pytest

from minifc.evaluation.calibration import Calibration
from minifc.evaluation.judging import Share


def test_by_hand() -> None:
    found = Calibration.of([(0.9, True), (0.9, False), (0.1, False), (0.1, False)])
    assert found.error == pytest.approx((0.1 + 0.9 + 0.1 + 0.1) / 4)  # four bins of one answer each
    assert (found.trusted, found.threshold) == (Share(0, 4), math.inf)


def test_answers_with_right_probabilities_have_hardly_an_error() -> None:
    rng = random.Random(0)
    chances = [rng.random() for _ in range(20_000)]
    assert Calibration.of([(chance, rng.random() < chance) for chance in chances]).error < 0.02
    assert Calibration.of([(1 - chance, rng.random() < chance) for chance in chances]).error > 0.4


def test_those_to_trust_are_the_most_probable_of_which_nearly_all_are_right() -> None:
    answers = [(0.99 - i / 1000, i not in (60, 250)) for i in range(300)] + [(0.1, False)] * 100
    found = Calibration.of(answers)
    assert found.trusted == Share(300, 400)  # two in 300 are wrong
    assert found.threshold == pytest.approx(0.99 - 299 / 1000)


def test_equal_probabilities_are_trusted_together() -> None:
    assert Calibration.of([(1.0, True)] * 50 + [(1.0, False)] * 50).trusted == Share(0, 100)
    assert Calibration.of([(1.0, True)] * 50).trusted == Share(50, 50)


def test_nothing() -> None:
    found = Calibration.of([])
    assert math.isnan(found.error)
    assert found.trusted.total == 0
