"""What a whole turn may be: whatever a model picks of what is allowed, the turn is what was wanted."""

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from minifc.calling import tiny_tools
from minifc.calling.grammar import Grammar
from minifc.calling.reply import Reply, json_guide
from minifc.text.calls import TAGS
from minifc.text.dialects import dialect_of
from minifc.text.template import stop_ids
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.text.turns import parse_calls, read_turn

TOOLS = [tool.schema for tool in tiny_tools.TOOLS]
PARAMETERS = {tool["name"]: tool["parameters"] for tool in TOOLS}
SCHEMA = {
    "type": "object",
    "properties": {
        "year": {"type": "integer"},
        "names": {"type": "array", "items": {"type": "string", "maxLength": 5}},
    },
    "required": ["year"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["gemma", "functiongemma", "functiongemma, without thoughts"])
def known(request: Any, tiny: Path) -> tuple[Tokenizer, str, Grammar]:
    tokenizer, (format, _, rest) = load_tokenizer(tiny), request.param.partition(",")
    tokens = dialect_of(format, tokenizer).tokens if rest else (*TAGS, *dialect_of(format, tokenizer).tokens)
    tokenizer.add_tokens([token for token in dict.fromkeys(tokens) if token not in tokenizer.control])
    return tokenizer, format, Grammar(TOOLS, tokenizer, format)


def walk(reply: Reply, tokenizer: Tokenizer, format: str, rng: random.Random, limit: int) -> list[int]:
    """A turn of random ids of those that are allowed: a tag or a stop in a third of the cases where one is."""
    ids: list[int] = []
    stops = stop_ids(tokenizer, format)
    special = {*stops, *tokenizer.control.values()}
    while len(ids) < limit:
        forced = reply.forced(limit - len(ids))
        allowed = reply.allowed(limit - len(ids)).nonzero().flatten().tolist() if not forced else []
        if not forced:
            liked = [id_ for id_ in allowed if id_ in special]
            forced = [rng.choice(liked if liked and rng.random() < 0.3 else allowed)]
        for id_ in forced[: limit - len(ids)]:
            if id_ in stops:
                return ids
            reply.advance(id_)
            ids.append(id_)
    return ids


@pytest.mark.parametrize("wanted", ["required", "one", "none", "text", "text or calls"])
def test_random_turns(known: tuple[Tokenizer, str, Grammar], wanted: str) -> None:
    tokenizer, format, grammar = known
    rng = random.Random(wanted)
    guide = json_guide(SCHEMA, tokenizer, "form")
    begin = tokenizer.control[dialect_of(format, tokenizer).begin]
    called = said = 0
    for _ in range(60):
        reply = {
            "required": lambda: Reply(tokenizer, format, grammar.fresh(), "required"),
            "one": lambda: Reply(tokenizer, format, grammar.fresh(), "required", parallel=False),
            "none": lambda: Reply(tokenizer, format, grammar.fresh(), "none"),
            "text": lambda: Reply(tokenizer, format, text=guide),
            "text or calls": lambda: Reply(tokenizer, format, grammar.fresh(), text=guide),
        }[wanted]()
        ids = walk(reply, tokenizer, format, rng, rng.randint(90, 160))
        calls = parse_calls(ids, tokenizer, format)
        for call in calls:
            jsonschema.validate(call.arguments, PARAMETERS[call.name])
        text = "".join(text for kind, text in read_turn(ids, tokenizer, format) if kind == "text")
        if wanted in ("required", "one"):
            assert calls
        if wanted == "one":
            assert (len(calls), text) == (1, "")
        if wanted == "none":
            assert begin not in ids
        if wanted == "text" or (wanted == "text or calls" and not calls):
            jsonschema.validate(json.loads(text), SCHEMA)
        called, said = called + bool(calls), said + bool(text)
    if wanted == "text or calls":
        assert called > 5
        assert said > 5
    else:
        assert called == (0 if wanted in ("none", "text") else 60)


def test_a_tag_stands_only_where_it_means_something(known: tuple[Tokenizer, str, Grammar]) -> None:
    tokenizer, format, grammar = known
    control = tokenizer.control
    dialect = dialect_of(format, tokenizer)
    for reply in (Reply(tokenizer, format, grammar.fresh()), Reply(tokenizer, format)):
        allowed = reply.allowed(100)
        assert not allowed[control[dialect.end]]
        assert allowed[control[dialect.begin]] == (reply.grammar is not None)
        if "<think>" in control:
            assert allowed[control["<think>"]]
            assert not allowed[control["</think>"]]
            reply.advance(control["<think>"])
            assert reply.allowed(100)[control["</think>"]]
            assert not reply.allowed(100)[control["<think>"]]
            assert not reply.allowed(100)[control[dialect.begin]]
