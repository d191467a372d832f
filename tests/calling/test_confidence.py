"""How sure a model is: sums of what it chose, told apart by what it chose about."""

import math
from typing import Any

import pytest

from minifc.calling.confidence import Confidence, confidence
from minifc.gemma.generate import Choice
from minifc.text.dialects import dialect_of
from minifc.text.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(params=["gemma", "functiongemma"])
def known(request: Any, tiny: Any) -> tuple[Tokenizer, str]:
    tokenizer, format = load_tokenizer(tiny), request.param
    tokens = (*dialect_of(format, tokenizer).tokens, "<think>", "</think>")
    tokenizer.add_tokens([token for token in dict.fromkeys(tokens) if token not in tokenizer.control])
    return tokenizer, format


def choices(tokenizer: Tokenizer, *pieces: tuple[Any, float]) -> list[Choice]:
    """pieces: a text or the name of a token, and the logprob of its first token; further ones are certain."""
    found = []
    for text, logprob in pieces:
        ids = [tokenizer.control[text]] if text in tokenizer.control else tokenizer.encode(text)
        found += [Choice(id_, logprob if number == 0 else 0.0) for number, id_ in enumerate(ids)]
    return found


def call_of(tokenizer: Tokenizer, format: str, name: float, value: float) -> list[tuple[Any, float]]:
    dialect = dialect_of(format, tokenizer)
    opening = dialect.syntax.opening("x").partition("x")[0]
    if format == "gemma":
        return [(opening, 0.0), ("find_it", name), ('", "arguments": {"a": ', 0.0), ("12", value), ("}}\n", 0.0)]
    return [(opening, 0.0), ("find_it", name), ("{a:", 0.0), ("12", value), ("}", 0.0)]


def test_a_call(known: tuple[Tokenizer, str]) -> None:
    tokenizer, format = known
    dialect = dialect_of(format, tokenizer)
    call = call_of(tokenizer, format, -0.5, -0.25)
    turn = [("<think>", -1.0), ("hm", -1.0), ("</think>", -1.0), (dialect.begin, -0.125), *call, (dialect.end, 0.0)]
    sure = confidence(choices(tokenizer, *turn), tokenizer, format)
    assert sure == Confidence(math.exp(-0.125), math.exp(-0.625), math.exp(-0.875))
    twice = [*turn[3:], *turn[3:]]
    both = confidence(choices(tokenizer, *twice), tokenizer, format)
    assert both == Confidence(math.exp(-0.25), math.exp(-1.25), math.exp(-1.75))


def test_no_call(known: tuple[Tokenizer, str]) -> None:
    """Its probability is that of not calling, where the text begins."""
    tokenizer, format = known
    begin = tokenizer.control[dialect_of(format, tokenizer).begin]
    no, none = tokenizer.encode("No")[0], tokenizer.encode(" none")[0]
    turn = [Choice(no, -0.1, ((no, -0.1), (begin, math.log(0.25)))), Choice(none, -3.0, ((begin, -0.01),))]
    assert confidence(turn, tokenizer, format).whole == pytest.approx(0.75)
    assert confidence([Choice(no, 0.0, ((no, 0.0),))], tokenizer, format) == Confidence(1.0, 1.0, 1.0)
    assert confidence([], tokenizer, format) == Confidence(1.0, 1.0, 1.0)
