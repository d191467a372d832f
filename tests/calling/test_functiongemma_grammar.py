"""The grammar in the format functiongemma: what the schema allows, in its one written form, and nothing else.

A call's text is written here with DELIMITER for the token `<escape>`.
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from random_schemas import NAMES, FunctionGemmaJudge, in_given_order, random_tool
from random_walks import takes, walk

from minifc.calling.grammar import Grammar
from minifc.errors import CallError, SchemaError, TokenizerError
from minifc.text.calls import MAX_DEPTH, Call
from minifc.text.dialects import DELIMITER
from minifc.text.dialects.functiongemma import FUNCTIONGEMMA, TOKENS, read_call, write_call
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.text.turns import parse_calls

FORMAT: Any = "functiongemma"
BEGIN, END, STOP = "<start_function_call>", "<end_function_call>", "<start_function_response>"


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny: Path) -> Tokenizer:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens(TOKENS)
    return tokenizer


@pytest.fixture(scope="module", params=["tokenizer.json", "tokenizer.model"])
def official(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("official")
    (folder / request.param).symlink_to(shared / "gemma-2-2b-it" / request.param)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(TOKENS, ids=FUNCTIONGEMMA.ids)
    return tokenizer


def ids_of(text: str, tokenizer: Tokenizer) -> list[int]:
    """As the template's text is encoded: what stands between two tokens by itself."""
    first, *others = text.split(DELIMITER)
    ids = tokenizer.encode(first)
    for other in others:
        ids += [tokenizer.control["<escape>"], *tokenizer.encode(other)]
    return ids


def begun(grammar: Grammar, tokenizer: Tokenizer) -> Grammar:
    grammar = grammar.fresh()
    grammar.advance(tokenizer.control[BEGIN])
    return grammar


def accepts(grammar: Grammar, tokenizer: Tokenizer, text: str) -> bool:
    return takes(begun(grammar, tokenizer), [*ids_of(text, tokenizer), tokenizer.control[END]])


def grammar_of(parameters: Any, tokenizer: Tokenizer) -> Grammar:
    return Grammar([{"name": "f", "parameters": parameters}], tokenizer, FORMAT)


def one(schema: Any) -> Any:
    return {"type": "object", "properties": {"v": schema}, "required": ["v"]}


# --- random schemas ------------------------------------------------------------------------------------------------


def mutations(rng: random.Random, text: str, arguments: Any) -> Iterator[str]:
    """Texts that are nearly the call: a character, a type, a key, an order away."""
    for _ in range(6):
        at = rng.randrange(1, len(text))
        other = rng.choice('0159 "\\{}[],:.-eaNü\n' + DELIMITER)
        yield rng.choice(
            (text[:at] + text[at + 1 :], text[:at] + other + text[at:], text[:at] + other + text[at + 1 :])
        )
    if isinstance(arguments, dict) and arguments:
        key = rng.choice(list(arguments))
        yield f"call:f{in_given_order({k: v for k, v in arguments.items() if k != key})}"
        yield f"call:f{in_given_order(arguments | {key: rng.choice([None, 'x', 0, 0.5, [], {}, True])})}"
        yield f"call:f{in_given_order(dict(reversed(arguments.items())))}"
        yield f"call:f{in_given_order(dict(sorted(arguments.items(), reverse=True)))}"
    yield f"call:f{in_given_order(arguments | {rng.choice(NAMES): rng.choice([None, 'x', 1])})}"
    yield text.replace(",", ", ", 1)
    yield text.replace("None", "null", 1)


def check_schema(seed: int, tokenizer: Tokenizer) -> tuple[int, int]:
    """Hold the grammar of one random schema against the judge; how many texts were right and wrong."""
    rng = random.Random(seed)
    tool, sample = random_tool(rng)
    grammar, judge = Grammar([tool], tokenizer, FORMAT), FunctionGemmaJudge(tool)
    right = wrong = 0
    for _ in range(3):
        arguments = sample()
        try:
            text = write_call(Call("f", arguments), tool)
        except CallError:  # a key that it does not have; the judge reads none of these
            continue
        assert judge(text), (tool, text)
        assert accepts(grammar, tokenizer, text), (tool, text)
        for other in mutations(rng, text, read_call(text).arguments):
            if judge(other):
                assert accepts(grammar, tokenizer, other), (tool, other)
                right += 1
            else:
                assert not accepts(grammar, tokenizer, other), (tool, other)
                wrong += 1
    return right, wrong


@pytest.mark.parametrize("block", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 10))])
def test_random_schemas(tiny_tokenizer: Tokenizer, block: int) -> None:
    """500 schemas: every right call is accepted, and of what is nearly one exactly the right ones are."""
    counts = [check_schema(1000 * block + number, tiny_tokenizer) for number in range(50)]
    assert sum(right for right, _ in counts) > 150
    assert sum(wrong for _, wrong in counts) > 750


def test_random_schemas_with_the_official_vocabulary(official: Tokenizer) -> None:
    for seed in range(10):
        check_schema(seed, official)


def check_walks(tokenizer: Tokenizer, seeds: range) -> None:
    """Calls end within their budget, whether it is ample or hardly enough to begin, and are valid."""
    rng, begin = random.Random(0), tokenizer.control[BEGIN]
    for seed in seeds:
        tool, _ = random_tool(random.Random(seed))
        grammar, judge = Grammar([tool], tokenizer, FORMAT), FunctionGemmaJudge(tool)
        enough = next(budget for budget in itertools.count(2) if grammar.allowed(budget)[begin])
        for budget in (enough - 1, enough + 5, enough + 40, 120):
            ids = walk(begun(grammar, tokenizer), rng, budget)
            assert len(ids) <= budget
            (call,) = parse_calls([begin, *ids], tokenizer, FORMAT)
            assert judge(f"call:f{in_given_order(call.arguments)}"), (tool, call)
            assert grammar.fresh().allowed()[begin]


def test_random_walks_end_in_valid_calls(tiny_tokenizer: Tokenizer) -> None:
    check_walks(tiny_tokenizer, range(20))


def test_random_walks_with_the_official_vocabulary(official: Tokenizer) -> None:
    check_walks(official, range(3))


# --- single rules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string"}, ["", "a", 'q"\\', "\n\t\x00\x1f\x7f", "ü日😀", "<escape>", "{a:[1,2]}"], [1, None]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "日日日", '""', "\n\n"], ["", "a", "abcd"]),
        ({"type": "integer"}, [0, -1, 10**30], [1.0, "1", True]),
        ({"type": "number"}, [0, -0.0, 0.1, 1e16, 1e20, 5e-324], ["1", None]),
        ({"type": "boolean"}, [True, False], [None, 0, "true"]),
        ({"type": ["integer", "null"]}, [None, 4], ["None", 4.5]),
        ({"enum": ["a", "ab", 1, None, [1, {"k": 2, "J": "x"}]]}, ["a", "ab", 1, None, [1, {"k": 2, "J": "x"}]], ["b"]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, [1, "1"], [None, 1.5]),
        ({}, [None, 1.5, "x", [[], {}], {"a": {"b": [1]}}], []),
        ({"type": "object", "additionalProperties": True}, [{}, {"a": 1, "B": {"x y": []}}], [[], 1]),
        ({"type": "object", "properties": {"b": {}}, "additionalProperties": {"type": "null"}}, [
            {"b": 1, "a": None, "c": None}, {"a": None}], [{"a": 1}]),
        ({"type": "object", "properties": {"Name": {}, "age": {}, "name": {}}}, [
            {"name": 1, "age": 2, "Name": 3}], [{"x": 1}]),
    ],
    ids=str,
)  # fmt: skip
def test_a_keyword_allows_what_it_should(tiny_tokenizer: Tokenizer, schema: Any, right: Any, wrong: Any) -> None:
    parameters = one(schema)
    grammar = grammar_of(parameters, tiny_tokenizer)
    for value in right:
        text = write_call(Call("f", {"v": value}), {"parameters": parameters})
        assert accepts(grammar, tiny_tokenizer, text), value
    for value in wrong:
        assert not accepts(grammar, tiny_tokenizer, write_call(Call("f", {"v": value}))), value


@pytest.mark.parametrize(
    ("inner", "right"),
    [
        ("a:1", True),
        ("b:1,c:2", True),
        ("c:2,b:1", True),
        ("b:1,a:2", True),
        ("b:1,b:2", False),
        ("a:1,a:2", False),
        (":1", False),
        ("{:1", False),
        ("b:1,", False),
        (",b:1", False),
        (f"{DELIMITER}b{DELIMITER}:1", False),
        ("b: 1", False),
        ("bb:1,b:2", True),
    ],
)
def test_keys_that_are_not_listed(tiny_tokenizer: Tokenizer, inner: str, right: bool) -> None:
    parameters = {"type": "object", "properties": {"a": {}}, "additionalProperties": True}
    assert accepts(grammar_of(parameters, tiny_tokenizer), tiny_tokenizer, f"call:f{{{inner}}}") is right


def test_required_properties_come_with_others_before_them(tiny_tokenizer: Tokenizer) -> None:
    parameters = {"type": "object", "properties": {"m": {}}, "required": ["m"], "additionalProperties": True}
    grammar = grammar_of(parameters, tiny_tokenizer)
    for text, right in (("a:1,m:2", True), ("m:2,z:1", True), ("a:1", False), ("", False), ("a:1,m:2,b:1", True)):
        assert accepts(grammar, tiny_tokenizer, f"call:f{{{text}}}") is right, text


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        ({"name": "f{", "parameters": one({})}, "the name 'f{' cannot be written"),
        ({"name": "f", "parameters": {"type": "object", "properties": {"a:b": {}}}}, "tool f: the key 'a:b' cannot be"),
        ({"name": "f", "parameters": one({"type": "array", "items": one({"enum": [{"x,y": 1}]})})}, "the key 'x,y'"),
        ({"name": "f", "parameters": one({"properties": {"": {}}, "type": "object"})}, "the key ''"),
    ],
)
def test_what_could_not_be_read_back_is_refused_by_name(tiny_tokenizer: Tokenizer, tool: Any, why: str) -> None:
    with pytest.raises(SchemaError, match=why):
        Grammar([tool], tiny_tokenizer, FORMAT)


def test_the_tokens_are_needed(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens([BEGIN, END])
    with pytest.raises(TokenizerError, match="has no <escape>"):
        grammar_of(one({}), tokenizer)


def test_what_must_come_is_forced_up_to_the_choice(tiny_tokenizer: Tokenizer) -> None:
    grammar = begun(grammar_of(one({"type": "string"}), tiny_tokenizer), tiny_tokenizer)
    forced = grammar.forced()
    assert forced == ids_of(f"call:f{{v:{DELIMITER}", tiny_tokenizer)  # the token ends what can be cut otherwise
    for id_ in [*forced, *tiny_tokenizer.encode("x"), tiny_tokenizer.control["<escape>"]]:
        grammar.advance(id_)
    assert grammar.forced() == [*tiny_tokenizer.encode("}"), tiny_tokenizer.control[END]]


def test_no_other_byte_ends_a_string(official: Tokenizer) -> None:
    """The vocabulary has a piece for the byte 0xFF, which is the token's in the automaton."""
    byte = next(id_ for id_, text in official.written().items() if text == b"\xff")
    grammar = begun(grammar_of(one({"type": "string"}), official), official)
    for id_ in grammar.forced():
        grammar.advance(id_)
    assert grammar.allowed()[official.control["<escape>"]]
    assert not grammar.allowed()[byte]


def test_after_a_call_comes_another_or_the_end_of_the_turn(tiny_tokenizer: Tokenizer) -> None:
    control = tiny_tokenizer.control
    grammar = grammar_of({"type": "object", "additionalProperties": False}, tiny_tokenizer)
    assert grammar.allowed().sum() == tiny_tokenizer.size - 1
    ends = {control[name] for name in (STOP, "<end_of_turn>", "<eos>")}
    for _ in range(2):
        grammar.advance(control[BEGIN])
        for id_ in grammar.forced():
            grammar.advance(id_)
        assert grammar.finished
        assert set(grammar.allowed().nonzero()[:, 0].tolist()) == {control[BEGIN], *ends}
        assert set(grammar.allowed(3).nonzero()[:, 0].tolist()) == ends
    with pytest.raises(CallError, match="not allowed"):
        grammar.advance(tiny_tokenizer.encode("x")[0])
    grammar.advance(control[STOP])
    assert grammar.fresh().allowed().sum() == tiny_tokenizer.size - 1


def test_a_call_is_as_deep_as_it_can_be_read(tiny_tokenizer: Tokenizer) -> None:
    grammar = grammar_of({"type": "object", "additionalProperties": True}, tiny_tokenizer)
    for depth, right in ((MAX_DEPTH - 1, True), (MAX_DEPTH, False)):
        text = "call:f{a:" + "[" * depth + "]" * depth + "}"
        assert accepts(grammar, tiny_tokenizer, text) is right
        if right:
            read_call(text)
