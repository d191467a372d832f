"""What may come next, beside llguidance: on the same random schemas, at every token of a right call.

The two do not allow the same, and need not: minifc has one spelling for each call. So where one allows an id that the
other does not, it completes the call by itself, and the judge of random_schemas, which knows neither, says
whether that was right to allow. What is left over is a difference without a reason.
"""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import llguidance
import pytest
import torch
from llguidance import LLMatcher
from random_schemas import Judge, random_tool, write

from minifc.bench.grammar import ONE_FORM, Wrapped, calls_schema
from minifc.calling.grammar import Grammar
from minifc.text.calls import END_TOOL_CALL, TAGS, TOOL_CALL
from minifc.text.tokenizer import Tokenizer, load_tokenizer

SCHEMAS = 500
PER_STATE = 3  # differing ids that are looked into, on each side
CLOSING = [b'"', b"}", b"]", b",", b"0", b"1", b"a"]  # tried in this order to bring a call to its end
LONGEST = 300


class Both:
    """A tokenizer, minifc's and llguidance's."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.written = tokenizer, tokenizer.written()
        self.special = [id_ for id_ in range(tokenizer.size) if id_ not in self.written]
        self.single = {text: id_ for id_, text in sorted(self.written.items(), reverse=True) if len(text) == 1}
        wrapped = llguidance.TokenizerWrapper(Wrapped(tokenizer))
        self.theirs = llguidance.LLTokenizer(wrapped, n_vocab=tokenizer.size)

    def matcher(self, tool: dict[str, Any]) -> LLMatcher:
        """Theirs, for a call of this tool."""
        grammar = LLMatcher.grammar_from_json_schema(calls_schema([tool]), overrides=ONE_FORM)
        return LLMatcher(self.theirs, grammar, log_level=0)

    def mask(self, matcher: LLMatcher) -> torch.Tensor:
        """bool [V], control tokens left out."""
        bits = torch.frombuffer(bytearray(matcher.compute_bitmask()), dtype=torch.uint8)
        mask = ((bits[:, None] >> torch.arange(8)) & 1).flatten()[: self.tokenizer.size].bool()
        mask[self.special] = False
        return mask

    def text(self, ids: list[int]) -> bytes:
        return b"".join(self.written[id_] for id_ in ids)

    def finished_by_them(self, matcher: LLMatcher, id_: int) -> bytes | None:
        """What they write from here, with this id first, until the call is whole; None if it gets too long."""
        matcher = matcher.deep_copy()
        ids, new = [], [id_]
        while len(ids) < LONGEST:
            assert matcher.consume_tokens(new)
            ids += new
            if matcher.is_accepting():
                return self.text(ids)
            if not (new := matcher.compute_ff_tokens()):
                mask = self.mask(matcher)
                usual = [self.single[text] for text in CLOSING if mask[self.single[text]]]
                new = usual[:1] or [min(mask.nonzero()[:, 0].tolist(), key=lambda i: (len(self.written[i]), i))]
        return None

    def finished_by_us(self, grammar: Grammar, id_: int) -> bytes:
        grammar = _copy(grammar)
        grammar.advance(id_)
        state = grammar._state
        assert state is not None
        return self.written[id_] + state.ending

    def refused(self, matcher: LLMatcher, text: bytes) -> bytes:
        """What is left of a text, cut in single bytes, where they refuse to go on; b"" if they take it all."""
        matcher = matcher.deep_copy()
        for number, byte in enumerate(text):
            if not matcher.consume_token(self.single[bytes([byte])]):
                return text[number:]
        return b""


def _copy(grammar: Grammar) -> Grammar:
    other = grammar.fresh()
    other._state = grammar._state
    return other


def why_not_ours(before: bytes, id_text: bytes, rest: bytes | None, judge: Judge) -> str:
    """Why we do not allow an id that they allow, from the call as they completed it."""
    if rest is None:
        return "unexplained: they do not come to an end"
    try:
        text = (before + rest).decode()
        value = json.loads(text)
    except (UnicodeDecodeError, ValueError):
        return "what they write is no JSON"
    canonical = json.dumps(value, ensure_ascii=False)
    if text != canonical:
        here = len((before + id_text).decode(errors="ignore"))
        same = next((i for i, (a, b) in enumerate(zip(text, canonical, strict=False)) if a != b), len(canonical))
        if same > here:
            return "unexplained: spelled differently, but later"
        return "another spelling of a string" if _in_string(before, id_text) else "another spelling of a number"
    if judge("\n" + text + "\n"):
        return "unexplained: ours to allow"
    return "a value that the schema does not allow"


def _in_string(before: bytes, id_text: bytes) -> bool:
    text = (before + id_text).decode(errors="ignore")
    return text.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 1 or b"\\" in before[-8:] + id_text


def why_not_theirs(before: bytes, rest: bytes, both: Both, begun: LLMatcher, judge: Judge) -> str:
    """Why they do not allow an id that we allow, from the call as we completed it."""
    text = before + rest
    if not judge("\n" + text.strip().decode() + "\n"):
        return "unexplained: not ours to allow"
    return why_refused(both, begun, text.strip()) or "what must come, cut into tokens in another way"


def why_refused(both: Both, begun: LLMatcher, text: bytes) -> str:
    """Why they do not take a right call; "" if they do."""
    left = both.refused(begun, text)
    if not left:
        return ""
    if left.startswith(b"\x7f"):
        return "the character U+007F"
    number = re.search(rb"-?[0-9.]+(e[+-]?[0-9]*)?$", text[: len(text) - len(left) + 1])
    within = number or re.search(rb"[-0-9.e+][]}, ]?$", text[: len(text) - len(left) + 1])
    return "a number between bounds" if within else "unexplained: they refuse it"


def compare(seed: int, both: Both, classes: Counter[str], examples: dict[str, Any]) -> tuple[int, int]:
    rng = random.Random(seed)
    tool, sample = random_tool(rng)
    begun = both.matcher(tool)
    if begun.is_error():
        classes["a schema that they refuse"] += 1
        examples.setdefault("a schema that they refuse", (tool, begun.get_error()))
        return 0, 0
    judge, states, pairs = Judge(tool), 0, 0
    grammar = Grammar([tool], both.tokenizer)
    for _ in range(2):
        ours, theirs = grammar.fresh(), begun.deep_copy()
        newline, *ids = both.tokenizer.encode(write("f", sample()).removesuffix("\n"))
        ours.advance(both.tokenizer.control[TOOL_CALL])
        ours.advance(newline)
        for number, id_ in enumerate(ids):
            allowed, by_them = ours.allowed().clone(), both.mask(theirs)
            allowed[both.special] = False
            states, pairs = states + 1, pairs + len(allowed)
            before = both.text(ids[:number])
            for other in _some(allowed & ~by_them, rng):
                rest = both.finished_by_us(ours, other)
                _count(classes, examples, why_not_theirs(before, rest, both, begun, judge), tool, before, other, both)
            for other in _some(by_them & ~allowed, rng):
                rest_of_theirs = both.finished_by_them(theirs, other)
                why = why_not_ours(before, both.written[other], rest_of_theirs, judge)
                _count(classes, examples, why, tool, before, other, both)
            ours.advance(id_)
            if not theirs.consume_token(id_):
                why = why_refused(both, begun, both.text(ids))
                assert why, "in single bytes they take it"
                _count(classes, examples, why, tool, before, id_, both)
                break
    return states, pairs


def _some(mask: torch.Tensor, rng: random.Random) -> list[int]:
    ids = mask.nonzero()[:, 0].tolist()
    return rng.sample(ids, min(PER_STATE, len(ids)))


def _count(
    classes: Counter[str], examples: dict[str, Any], why: str, tool: Any, before: bytes, id_: int, both: Both
) -> None:
    classes[why] += 1
    examples.setdefault(why, (tool["parameters"], before, both.written[id_]))


@pytest.fixture(scope="module")
def both(tiny: Path) -> Both:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens(list(TAGS))
    return Both(tokenizer)


def tool_of(schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "f",
        "parameters": {
            "type": "object", "properties": {"v": schema}, "required": ["v"], "additionalProperties": False,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "written", "we", "they"),
    [
        ({"type": "number"}, "1E5", False, True),  # another spelling of a number
        ({"type": "number"}, "1.50", False, True),
        ({"type": "integer"}, "1", True, True),
        ({"type": "string"}, '"\\u000a"', False, True),  # another spelling of a string
        ({"type": "string"}, '"\\n"', True, True),
        ({"type": "string"}, '"\x7f"', True, False),  # the character U+007F, which JSON need not escape
        ({"type": "number", "minimum": -1.5, "maximum": -1e-07}, "-1e-06", True, False),  # a number between bounds
        ({"type": "number", "minimum": -1.5, "maximum": -1e-07}, "-1.25", True, True),
    ],
)
def test_each_kind_of_difference(both: Both, schema: dict[str, Any], written: str, we: bool, they: bool) -> None:
    tool = tool_of(schema)
    text = f'{{"name": "f", "arguments": {{"v": {written}}}}}'
    grammar = Grammar([tool], both.tokenizer)
    grammar.advance(both.tokenizer.control[TOOL_CALL])
    for byte in ("\n" + text + "\n").encode():
        id_ = both.single[bytes([byte])]
        if not grammar.allowed()[id_]:
            break
        grammar.advance(id_)
    assert bool(grammar.allowed()[both.tokenizer.control[END_TOOL_CALL]]) == we
    assert (both.refused(both.matcher(tool), text.encode()) == b"") == they


def test_of_what_must_come_they_allow_one_cut_into_tokens(both: Both) -> None:
    tool = tool_of({"type": "null"})
    by_them = both.mask(both.matcher(tool)).nonzero()[:, 0].tolist()
    grammar = Grammar([tool], both.tokenizer)
    grammar.advance(both.tokenizer.control[TOOL_CALL])
    grammar.advance(both.tokenizer.encode("\n")[0])
    by_us = grammar.allowed().nonzero()[:, 0].tolist()
    assert len(by_them) == 1 < len(by_us)
    assert set(by_them) < set(by_us)
    assert all(b'{"name": "f"'.startswith(both.written[id_]) for id_ in by_us)


@pytest.mark.slow
def test_every_difference_has_a_reason(both: Both) -> None:
    classes: Counter[str] = Counter()
    examples: dict[str, Any] = {}
    states = pairs = 0
    for seed in range(SCHEMAS):
        more = compare(seed, both, classes, examples)
        states, pairs = states + more[0], pairs + more[1]
    print(f"{SCHEMAS} schemas, {states:,} states, {pairs:,} decisions")
    for why, count in classes.most_common():
        print(f"{count:7}  {why}; such as {examples[why]}")
    unexplained = sum(count for why, count in classes.items() if why.startswith("unexplained"))
    assert states > 10_000
    assert unexplained <= 0.01 * sum(classes.values())
