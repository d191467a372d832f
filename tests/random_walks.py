"""Ways through a grammar: given ids, and ids at random."""

import random
from collections.abc import Sequence

import pytest

from minifc.calling.grammar import Grammar
from minifc.errors import CallError


def takes(grammar: Grammar, ids: Sequence[int]) -> bool:
    """Whether ids can be written one after the other, from where the grammar stands, and the call then is whole."""
    for id_ in ids:
        if not grammar.allowed()[id_]:
            with pytest.raises(CallError, match="not allowed"):
                grammar.advance(id_)
            return False
        grammar.advance(id_)
    return grammar.finished


def walk(grammar: Grammar, rng: random.Random, budget: int) -> list[int]:
    """A random call of at most `budget` tokens, in a grammar that stands at its beginning."""
    ids: list[int] = []
    while not grammar.finished:
        rest = budget - len(ids)
        assert rest > 0
        new = grammar.forced(rest)
        if not new:
            allowed = grammar.allowed(rest)
            assert allowed.any()
            assert not (allowed & ~grammar.allowed()).any()
            new = [rng.choice(allowed.nonzero()[:, 0].tolist())]
        for id_ in new:
            assert grammar.allowed()[id_]
            grammar.advance(id_)
        ids += new
    assert len(ids) <= budget  # also after what was forced, which may be long
    return ids
