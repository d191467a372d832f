"""When an answer is right, and how sure a share is."""

import math
from statistics import NormalDist

import pytest

from minifc.evaluation.judging import Score, Share, exactly, judge
from minifc.text.calls import TAGS, Call
from minifc.text.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny) -> Tokenizer:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens(list(TAGS))
    return tokenizer


def test_true_is_not_one() -> None:
    rule = exactly([Call("f", {"n": 1})])
    assert rule([Call("f", {"n": True})]) is not None
    assert rule([Call("f", {"n": 1})]) is None


def test_each_expected_call_is_made_once() -> None:
    one, two = Call("f", {"n": 1}), Call("f", {"n": 2})
    assert exactly([one, two])([two, one]) is None
    assert exactly([one, two])([one, one]) is not None
    assert exactly([one, one])([one, two]) is not None
    assert exactly([one, one])([two, one]) is not None
    assert exactly([one, one])([one, one]) is None
    assert exactly([one, one])([one]) == "1 calls instead of 2"


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(10, 100, 0.0552291, 0.1743657), (0, 20, 0.0, 0.1611252), (24, 24, 0.8620238, 1.0), (5, 10, 0.2365931, 0.7634069)],
)
def test_wilsons_interval(count: int, total: int, low: float, high: float) -> None:
    assert Share(count, total).interval == pytest.approx((low, high), abs=1e-6)


def test_the_interval_ends_where_the_count_is_just_possible() -> None:
    """Its ends p solve (s - p)^2 = z^2 p (1 - p) / n, where 95% of a normal distribution lie within z."""
    z = NormalDist().inv_cdf(0.975)
    for count, total in ((3, 7), (390, 400), (1, 2)):
        for p in Share(count, total).interval:
            assert abs(count / total - p) / math.sqrt(p * (1 - p) / total) == pytest.approx(z, abs=1e-5)


def test_what_ran_on_is_no_refusal(tokenizer: Tokenizer) -> None:
    rule = exactly([Call("f", {})])
    refused = judge(tokenizer.encode("No."), ("f",), rule, tokenizer)
    ran_on = judge(tokenizer.encode("No. No. No."), ("f",), rule, tokenizer, ran_on=True)
    right = judge(
        tokenizer.encode('<tool_call>{"name": "f"}</tool_call>', control_tokens=True), ("f",), rule, tokenizer
    )
    open_call = judge([tokenizer.control["<tool_call>"]], ("f",), rule, tokenizer, ran_on=True)
    score = Score.of([refused, ran_on, right, open_call])
    assert score.false_refusals == Share(1, 4)
    assert score.ran_on == Share(2, 4)
    assert score.exact == score.right_tools == Share(1, 4)
    assert score.unreadable == Share(1, 2)
    assert ran_on.error == "ran to the limit; 0 calls instead of 1"
    assert (refused.error or "").startswith("0 calls")
