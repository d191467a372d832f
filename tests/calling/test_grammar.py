"""The grammar writes what the schema allows, in the canonical form, and nothing else."""

import itertools
import json
import random
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pytest
from random_schemas import NAMES, Judge, random_tool, write
from random_walks import takes, walk

from minifc.calling import guide as guide_module
from minifc.calling.grammar import Grammar
from minifc.calling.schema import read_schema
from minifc.calling.validation import find_error
from minifc.errors import CallError, MinifcError, SchemaError, TokenizerError
from minifc.text.calls import MAX_DEPTH, TAGS, Call, write_call
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.text.turns import parse_calls

ADD = {
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        "required": ["x"],
    },
}


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny: Path) -> Tokenizer:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens(list(TAGS))
    return tokenizer


@pytest.fixture(scope="module", params=["tokenizer.json", "tokenizer.model"])
def official(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("official")
    (folder / request.param).symlink_to(shared / "gemma-2-2b-it" / request.param)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(list(TAGS))
    return tokenizer


def begun(grammar: Grammar, tokenizer: Tokenizer) -> Grammar:
    """In a call, from the beginning."""
    grammar = grammar.fresh()
    grammar.advance(tokenizer.control["<tool_call>"])
    return grammar


def accepts(grammar: Grammar, tokenizer: Tokenizer, text: str) -> bool:
    """Whether the call can be written, token by token, as the tokenizer cuts it."""
    return takes(begun(grammar, tokenizer), [*tokenizer.encode(text), tokenizer.control["</tool_call>"]])


def arguments_of(parameters: Any, value: Any, tokenizer: Tokenizer) -> bool:
    """Whether a tool with these parameters can be called with these arguments."""
    return accepts(Grammar([{"name": "f", "parameters": parameters}], tokenizer), tokenizer, write("f", value))


def one(schema: Any) -> Any:
    """Parameters with one property."""
    return {"type": "object", "properties": {"v": schema}, "required": ["v"]}


# --- random schemas ----------------------------------------------------------------------------------------------


def mutations(rng: random.Random, text: str, arguments: Any) -> Iterator[str]:
    """Texts that are nearly the call: a character, a type, a key, an order away."""
    for _ in range(4):
        at = rng.randrange(1, len(text) - 1)
        other = rng.choice('0159 "\\{}[],:.-eax\u00fc\n')
        yield rng.choice(
            (text[:at] + text[at + 1 :], text[:at] + other + text[at:], text[:at] + other + text[at + 1 :])
        )
    if isinstance(arguments, dict) and arguments:
        key = rng.choice(list(arguments))
        yield write("f", {k: v for k, v in arguments.items() if k != key})
        yield write("f", arguments | {key: rng.choice([None, "x", 0, 0.5, [], {}, True])})
        yield write("f", dict(reversed(arguments.items())))
    yield write("f", arguments | {rng.choice(NAMES): rng.choice([None, "x", 1])})
    yield text.replace(", ", ",", 1)
    yield text.replace("\u00fc", "\\u00fc", 1)


def check_schema(seed: int, tokenizer: Tokenizer) -> tuple[int, int]:
    """Hold the grammar of one random schema against the judge; how many texts were right and wrong."""
    rng = random.Random(seed)
    tool, sample = random_tool(rng)
    grammar, judge = Grammar([tool], tokenizer), Judge(tool)
    right = wrong = 0
    for _ in range(3):
        arguments = sample()
        text = write("f", arguments)
        assert judge(text), (tool, text)
        assert accepts(grammar, tokenizer, text), (tool, text)
        for other in mutations(rng, text, arguments):
            if judge(other):
                assert accepts(grammar, tokenizer, other), (tool, other)
                right += 1
            else:
                assert not accepts(grammar, tokenizer, other), (tool, other)
                wrong += 1
    return right, wrong


@pytest.mark.parametrize("block", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 5))])
def test_random_schemas(tiny_tokenizer: Tokenizer, block: int) -> None:
    """500 schemas: every right call is accepted, and of what is nearly one exactly the right ones are."""
    counts = [check_schema(1000 * block + number, tiny_tokenizer) for number in range(100)]
    assert sum(wrong for _, wrong in counts) > 1500


def test_random_schemas_with_the_official_vocabulary(official: Tokenizer) -> None:
    for seed in range(20):
        check_schema(seed, official)


def check_walks(tokenizer: Tokenizer, seeds: range) -> None:
    """Calls end within their budget, whether it is ample or hardly enough to begin, and are valid."""
    rng, begin = random.Random(0), tokenizer.control["<tool_call>"]
    for seed in seeds:
        tool, _ = random_tool(random.Random(seed))
        grammar = Grammar([tool], tokenizer)
        enough = next(budget for budget in itertools.count(2) if grammar.allowed(budget)[begin])
        for budget in (enough - 1, enough + 5, enough + 40, 120):
            ids = walk(begun(grammar, tokenizer), rng, budget)
            (call,) = parse_calls([begin, *ids], tokenizer)
            text = tokenizer.decode(ids[:-1])
            assert Judge(tool)(text), (tool, text)
            assert json.loads(text) == {"name": "f", "arguments": call.arguments}


def test_random_walks_end_in_valid_calls(tiny_tokenizer: Tokenizer) -> None:
    check_walks(tiny_tokenizer, range(20))


def test_random_walks_with_the_official_vocabulary(official: Tokenizer) -> None:
    check_walks(official, range(3))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("note", {"enum": ["a value that takes more ids than there may be left"]}),
        ("rows", {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "minItems": 9}}),
    ],
)
def test_a_part_begins_only_if_the_budget_lets_it_end(tiny_tokenizer: Tokenizer, name: str, part: Any) -> None:
    """Random walks with an optional part that takes more ids than the rest of the call, where it may begin late."""
    rng = random.Random(0)
    properties = {"x": {"type": "boolean"}, name: part}
    parameters = {"type": "object", "properties": properties, "required": ["x"]}
    grammar = Grammar([{"name": "f", "parameters": parameters}], tiny_tokenizer)
    begin = tiny_tokenizer.control["<tool_call>"]
    enough = next(budget for budget in itertools.count(2) if grammar.allowed(budget)[begin])
    begun_parts = 0
    for budget in range(enough - 1, enough + 40):
        for _ in range(5):
            text = tiny_tokenizer.decode(walk(begun(grammar, tiny_tokenizer), rng, budget))
            begun_parts += name in text
    assert begun_parts > 0


@pytest.mark.parametrize("key", ["", "k", "key"])
def test_a_key_that_is_there_must_go_on_within_the_budget(tiny_tokenizer: Tokenizer, key: str) -> None:
    """The object has the key, so an id that writes it again, as `, "` does the empty one, must be followed by more."""
    parameters = {"type": "object", "additionalProperties": True}
    grammar = Grammar([{"name": "f", "parameters": parameters}], tiny_tokenizer)
    start = begun(grammar, tiny_tokenizer)
    for id_ in tiny_tokenizer.encode(f'\n{{"name": "f", "arguments": {{"{key}": 1'):
        start.advance(id_)
    checked = 0
    for prefix in (", ", ', "', f', "{key}'):
        ids = tiny_tokenizer.encode(prefix)
        for budget in range(1, 24):
            state = copy(start)
            for id_ in ids:
                state.advance(id_)
            for id_ in state.allowed(budget).nonzero()[:, 0].tolist():
                after = copy(state)
                after.advance(id_)
                needed = 0 if after.finished else grammar._calls.guide.needed(after._state)
                assert needed < budget, (prefix, budget, tiny_tokenizer.decode([id_]))
                checked += 1
    assert checked > 500


def test_no_call_begins_without_room_for_it(tiny_tokenizer: Tokenizer) -> None:
    """Nor is one begun where only another tool's would fit."""
    long = {"name": "a_tool_with_a_long_name", "parameters": one({"enum": ["some long value"]})}
    begin = tiny_tokenizer.control["<tool_call>"]
    whole = [*tiny_tokenizer.encode(write("a_tool_with_a_long_name", {"v": "some long value"})), begin]
    grammar = Grammar([ADD, long], tiny_tokenizer)
    assert not grammar.allowed(len(whole))[begin]
    assert grammar.allowed(len(whole) + 4)[begin]
    assert grammar.allowed()[begin]


def test_what_is_known_of_a_vocabulary_is_kept(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all of it takes a second for each new set of tools; and masks are bounded over all sets."""
    Grammar([ADD], tiny_tokenizer)
    monkeypatch.setattr(tiny_tokenizer, "written", lambda: pytest.fail("worked out again"))
    monkeypatch.setattr(guide_module, "MOST_MASKS", 3)
    kept = guide_module._vocabularies[tiny_tokenizer][None].masks
    kept.clear()
    for name in "abcdef":
        grammar = begun(Grammar([ADD | {"name": name}], tiny_tokenizer), tiny_tokenizer)
        grammar.allowed()
    assert 0 < len(kept) <= 3


# --- single rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string"}, ["", "a", 'q"\\', "\n\t\x00\x1f\x7f", "\u00fc\u65e5\U0001f600"], [1, None]),
        (
            {"type": "string", "minLength": 2, "maxLength": 3},
            ["ab", "\u65e5\u65e5\u65e5", '""'],
            ["", "a", "abcd", '""""'],
        ),
        ({"type": "integer"}, [0, -1, 10**30], [1.0, "1", True]),
        ({"type": "integer", "minimum": -3, "maximum": 120}, [-3, 0, 12, 120], [-4, 121, 1000, -10]),
        ({"type": "integer", "exclusiveMinimum": 9.5, "maximum": 10}, [10], [9, 11, 1, 100]),
        ({"type": "number"}, [0, -0.0, 0.1, 1e16, 1e-05, 5e-324, 1.7976931348623157e308, 0.30000000000000004], ["1"]),
        ({"type": "number", "minimum": 0.3, "maximum": 0.3}, [0.3], [0, 0.2, 0.30000000000000004, 3]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, [1, 1.0, 0.5, 1e-300], [0, 0.0, -1, 1.5, 2, 1e16]),
        ({"type": "boolean"}, [True, False], [None, 0, "true"]),
        ({"type": "null"}, [None], [False, 0]),
        ({"type": ["integer", "null"]}, [None, 4], ["4", 4.5]),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 1, "maxItems": 2},
            [[None], [None] * 2],
            [[], [None] * 3],
        ),
        ({"enum": ["a", "ab", 1, None, [1, {"k": 2}]]}, ["a", "ab", 1, None, [1, {"k": 2}]], ["b", 2, [1], "abc"]),
        ({"const": "x"}, ["x"], ["y", ""]),
        ({"type": "string", "enum": ["a", 1]}, ["a"], [1]),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, [1, "1"], [None, 1.5]),
        ({}, [None, 1.5, "x", [[], {}], {"a": {"b": [1]}}], []),
        ({"type": "object"}, [{}, {"a": 1, "b": {"": []}}], [[], 1]),
        ({"type": "object", "additionalProperties": False}, [{}], [{"a": 1}]),
        (
            {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "null"}},
            [{"a": 1, "b": None}],
            [{"b": 1}],
        ),
        ({"type": "object", "properties": {"a": {}}}, [{}, {"a": 1}], [{"b": 1}, {"a": 1, "b": 2}]),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_keyword_allows_what_it_should(tiny_tokenizer: Tokenizer, schema: Any, right: Any, wrong: Any) -> None:
    for value in right:
        assert arguments_of(one(schema), {"v": value}, tiny_tokenizer), value
    for value in wrong:
        assert not arguments_of(one(schema), {"v": value}, tiny_tokenizer), value


def test_properties_come_in_the_schemas_order(tiny_tokenizer: Tokenizer) -> None:
    assert arguments_of(ADD["parameters"], {"x": 1, "y": 2}, tiny_tokenizer)
    assert not arguments_of(ADD["parameters"], {"y": 2, "x": 1}, tiny_tokenizer)
    assert not arguments_of(ADD["parameters"], {"y": 2}, tiny_tokenizer)


def test_what_is_written_for_training_is_what_the_grammar_writes(tiny_tokenizer: Tokenizer) -> None:
    """Whatever the order in which a data set has the arguments, inside objects too."""
    for seed in range(60):
        tool, sample = random_tool(random.Random(seed))
        if "$ref" in json.dumps(tool) or "anyOf" in json.dumps(tool):
            continue  # there the order may hang on which option is meant
        arguments = sample()
        text = f"\n{write_call(Call('f', turned_round(arguments)), tool)}\n"
        assert accepts(Grammar([tool], tiny_tokenizer), tiny_tokenizer, text), (tool, text)


def turned_round(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: turned_round(item) for key, item in reversed(value.items())}
    return [turned_round(item) for item in value] if isinstance(value, list) else value


def test_no_key_comes_twice(tiny_tokenizer: Tokenizer) -> None:
    grammar = Grammar(
        [{"name": "f", "parameters": one({"type": "object", "properties": {"a": {}}, "additionalProperties": True})}],
        tiny_tokenizer,
    )
    for inner, right in (
        ('"a": 1', True),
        ('"b": 1, "c": 2', True),
        ('"b": 1, "b": 2', False),
        ('"a": 1, "a": 2', False),
        ('"b": 1, "bb": 2', True),
        ('"bb": 1, "b": 2', True),
        ('"b": 1, "a": 2', False),
    ):
        text = f'\n{{"name": "f", "arguments": {{"v": {{{inner}}}}}}}\n'
        assert accepts(grammar, tiny_tokenizer, text) is right, inner


@pytest.mark.parametrize("spelled", ["\\u0041", "\\/", "\\u000a", "\\u001F", "\ud800"[:0] + "\\ud800", "\x01"])
def test_a_string_has_one_spelling(tiny_tokenizer: Tokenizer, spelled: str) -> None:
    grammar = Grammar([{"name": "f", "parameters": one({"type": "string"})}], tiny_tokenizer)
    assert not accepts(grammar, tiny_tokenizer, f'\n{{"name": "f", "arguments": {{"v": "{spelled}"}}}}\n')


def test_nesting_is_bounded_as_reading_is(tiny_tokenizer: Tokenizer) -> None:
    """What the grammar lets through, the reader reads."""
    for depth, right in ((MAX_DEPTH - 2, True), (MAX_DEPTH - 1, False)):
        value: Any = []
        for _ in range(depth - 1):
            value = [value]
        assert arguments_of(one({}), {"v": value}, tiny_tokenizer) is right


def test_characters_in_single_bytes(tiny_tokenizer: Tokenizer) -> None:
    """Only whole characters: a byte that cannot follow is not allowed, nor a quote inside one."""
    grammar = begun(Grammar([{"name": "f", "parameters": one({"type": "string"})}], tiny_tokenizer), tiny_tokenizer)
    for id_ in tiny_tokenizer.encode('\n{"name": "f", "arguments": {"v": "'):
        grammar.advance(id_)
    byte = {text[0]: id_ for id_, text in tiny_tokenizer.written().items() if len(text) == 1 and text[0] >= 0x80}
    assert {b for b, id_ in byte.items() if grammar.allowed()[id_]} == {*range(0xC2, 0xF5)}
    grammar.advance(byte[0xED])
    allowed = grammar.allowed().nonzero()[:, 0].tolist()
    assert sorted(allowed) == sorted(byte[b] for b in range(0x80, 0xA0))


def test_what_must_come_is_not_asked_for(tiny_tokenizer: Tokenizer) -> None:
    grammar = begun(Grammar([ADD], tiny_tokenizer), tiny_tokenizer)
    forced = grammar.forced()
    text = tiny_tokenizer.decode(forced)
    assert '\n{"name": "add", "arguments": {"x": '.startswith(text)
    assert len(text) > 30
    whole = tiny_tokenizer.encode('\n{"name": "add", "arguments": {"x": 7}}\n')
    assert forced == whole[: len(forced)]
    for id_ in whole[: whole.index(tiny_tokenizer.encode("7")[0]) + 1]:
        grammar.advance(id_)
    assert grammar.forced() == []  # more digits, another argument, or the end
    for id_ in tiny_tokenizer.encode("}"):
        grammar.advance(id_)
    assert tiny_tokenizer.decode(grammar.forced()) == "}\n</tool_call>"


def test_outside_a_call_anything_goes(tiny_tokenizer: Tokenizer) -> None:
    grammar, control = Grammar([ADD], tiny_tokenizer), tiny_tokenizer.control
    assert grammar.finished
    assert not grammar.allowed()[control["</tool_call>"]]
    assert grammar.allowed().sum() == tiny_tokenizer.size - 1
    for id_ in [control["<think>"], control["<tool_call>"], *tiny_tokenizer.encode("hm"), control["</think>"]]:
        grammar.advance(id_)
        assert grammar.finished  # what is thought is no call
    grammar.advance(control["<tool_call>"])
    assert not grammar.finished
    for id_ in [*tiny_tokenizer.encode('\n{"name": "add", "arguments": {"x": 1}}\n'), control["</tool_call>"]]:
        grammar.advance(id_)
    assert grammar.finished
    grammar.advance(control["<tool_call>"])  # another call in the same turn
    assert not grammar.finished


def test_an_id_that_may_not_come_outside_a_call_is_refused(tiny_tokenizer: Tokenizer) -> None:
    grammar, control = Grammar([ADD], tiny_tokenizer), tiny_tokenizer.control
    for part in ([], ["<think>"], ["</think>"]):
        for tag in part:
            grammar.advance(control[tag])
        assert not grammar.allowed()[control["</tool_call>"]]
        with pytest.raises(CallError, match="'</tool_call>' is not allowed"):
            grammar.advance(control["</tool_call>"])
        assert grammar.finished
    for number in (-1, tiny_tokenizer.size):
        with pytest.raises(CallError, match=f"id {number} of {tiny_tokenizer.size} is not allowed"):
            grammar.advance(number)


def test_what_a_caller_writes_to_a_mask_changes_nothing(tiny_tokenizer: Tokenizer) -> None:
    grammar = Grammar([ADD], tiny_tokenizer)
    for state in (grammar, begun(grammar, tiny_tokenizer)):
        for budget in (None, 1000, 1):
            before = state.allowed(budget)
            kept = before.clone()
            before.logical_not_()
            assert state.allowed(budget).equal(kept)


def test_several_tools(tiny_tokenizer: Tokenizer) -> None:
    other = {"name": "addition", "parameters": one({"type": "null"})}
    grammar = Grammar([ADD, {"type": "function", "function": other}], tiny_tokenizer)
    assert accepts(grammar, tiny_tokenizer, write("add", {"x": 1}))
    assert accepts(grammar, tiny_tokenizer, write("addition", {"v": None}))
    assert not accepts(grammar, tiny_tokenizer, write("addition", {"x": 1}))
    assert not accepts(grammar, tiny_tokenizer, write("sum", {"x": 1}))


# --- registration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "string", "pattern": "(a)\\1"}, "a reference to a group is not regular"),
        ({"type": "string", "pattern": ["a"]}, "pattern is .* not a text"),
        ({"type": "string", "pattern": "^a{3}$", "maxLength": 2}, "no text has its form, pattern"),
        (
            {"type": "string", "pattern": "^[a-c]+$", "format": "date"},
            "no text has its form, pattern .* and format date",
        ),
        ({"type": "string", "pattern": "a.{12}$"}, "its automaton has more than 2,000 states"),
        ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties is not followed"),
        ({"type": "banana"}, 'type "banana" is none of'),
        ({"type": []}, "type is an empty list"),
        ({"type": "integer", "multipleOf": 0}, "multipleOf is 0, and must be above 0"),
        ({"type": "object", "patternProperties": []}, "patternProperties are not an object"),
        ({"type": "object", "patternProperties": {"(": {}}}, "patternProperties: pattern .* is not closed"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "contradicts itself"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "contradicts itself"),
        ({"$ref": "http://x"}, "can name a place in the same schema"),
        ({"$ref": "#/$defs/nothing"}, "names nothing"),
        ({"$ref": "#", "type": "string"}, "contradicts itself"),
        ({"anyOf": []}, "anyOf: needs a list"),
        ({"enum": "ab"}, "enum needs a list"),
        ({"enum": []}, "contradicts itself"),
        ({"type": "integer", "enum": ["a"]}, "contradicts itself"),
        ({"enum": [float("nan")]}, "not a JSON value"),
        (False, "contradicts itself"),
        ("string", "is not a schema"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "minLength 3 is above maxLength 2"),
        ({"type": "string", "minLength": -1}, "minLength is -1"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no integer lies within"),
        ({"type": "number", "minimum": 2, "exclusiveMaximum": 2}, "no number lies within"),
        ({"type": "number", "minimum": "2"}, 'minimum is "2", not a number'),
        (
            {"type": "object", "required": ["z"], "additionalProperties": False},
            "v.z: no value has this form; it contradicts itself",
        ),
        ({"type": "object", "properties": []}, "properties are not an object"),
        ({"type": "object", "properties": {"\ud800": {}}}, "half a surrogate pair"),
        ({"type": "object", "properties": {"a": {}}, "required": [["a"]]}, "required is not a list of names"),
        ({"type": "string", "minLength": 10**9}, "a call has at most"),
        ({"type": "integer", "minimum": 10**400}, "not a number that a double can be"),
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_followed_is_refused(tiny_tokenizer: Tokenizer, schema: Any, why: str) -> None:
    with pytest.raises(SchemaError, match=why) as error:
        Grammar([{"name": "weigh", "parameters": one(schema)}], tiny_tokenizer)
    assert str(error.value).startswith("tool weigh.v")


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ([ADD, ADD], "two tools called add"),
        ([{"name": "f", "parameters": {"type": "string"}}], "not of type object"),
        ([{"parameters": {"type": "object"}}], "an object with a name"),
        ([{"name": "", "parameters": {"type": "object"}}], "an object with a name"),
        ([], "at least one tool"),
    ],
)
def test_a_tool_that_cannot_be_registered_is_refused(tiny_tokenizer: Tokenizer, tools: Any, why: str) -> None:
    with pytest.raises(SchemaError, match=why):
        Grammar(tools, tiny_tokenizer)


def test_a_bad_tool_leaves_the_others_to_be_called(tiny_tokenizer: Tokenizer) -> None:
    bad = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string", "minLength": -1}}}}
    half = {
        "name": "g",
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?<=a)b"}}},
    }
    grammar = Grammar([bad, ADD, ADD, half], tiny_tokenizer, strict=False)
    assert [note.split(":")[0] for note in grammar.notes] == ["tool f.a", "there are two tools called add; the tool is "
        "left out", "tool g.a"]  # fmt: skip
    assert grammar.fresh().notes == grammar.notes
    assert accepts(grammar, tiny_tokenizer, write("add", {"x": 1, "y": 2}))
    assert accepts(grammar, tiny_tokenizer, write("g", {"a": "c"}))
    assert not accepts(grammar, tiny_tokenizer, write("f", {}))
    assert Grammar([ADD], tiny_tokenizer).notes == []
    with pytest.raises(SchemaError, match=r"at least one tool; tool f\.a: minLength is -1, .*; the tool is left out"):
        Grammar([bad], tiny_tokenizer, strict=False)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"properties": {}}, {"type": "OBJECT", "x": 1}])
def test_without_parameters_there_are_no_arguments(tiny_tokenizer: Tokenizer, parameters: Any) -> None:
    grammar = Grammar([{"name": "f"} | ({} if parameters is None else {"parameters": parameters})], tiny_tokenizer)
    assert accepts(grammar, tiny_tokenizer, write("f", {}))
    assert not accepts(grammar, tiny_tokenizer, write("f", {"a": 1}))


@pytest.mark.parametrize(("number", "fits"), [(10**308, True), (-(10**308), True), (10**309 - 1, False)])
def test_an_integer_is_one_that_a_double_can_be(tiny_tokenizer: Tokenizer, number: int, fits: bool) -> None:
    """Or else the tool would refuse what the grammar let through."""
    schema = one({"type": "integer"})
    assert (find_error({"v": number}, read_schema(schema, "t")) is None) == fits
    grammar = Grammar([{"name": "f", "parameters": schema}], tiny_tokenizer)
    ids = [tiny_tokenizer.control["<tool_call>"]]
    ids += tiny_tokenizer.encode(f'\n{{"name": "f", "arguments": {{"v": {number}')
    for id_ in ids[:-1]:  # the last digit, and all before it
        grammar.advance(id_)
    assert bool(grammar.allowed()[ids[-1]]) == fits


@pytest.mark.parametrize(
    "endless",
    [
        {"$ref": "#/$defs/a"},
        {"type": "object", "properties": {"next": {"$ref": "#/$defs/a"}}, "required": ["next"]},
        {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1},
        {"anyOf": [{"$ref": "#/$defs/a"}]},
    ],
    ids=str,
)
def test_a_schema_without_end_is_refused(tiny_tokenizer: Tokenizer, endless: Any) -> None:
    parameters = one({"$ref": "#/$defs/a"}) | {"$defs": {"a": endless}}
    with pytest.raises(SchemaError, match="without end"):
        Grammar([{"name": "f", "parameters": parameters}], tiny_tokenizer)


def test_a_schema_nested_without_measure_is_refused(tiny_tokenizer: Tokenizer) -> None:
    deep: Any = {}
    for _ in range(1000):
        deep = one(deep)
    with pytest.raises(SchemaError, match="nested too deeply"):
        Grammar([{"name": "f", "parameters": deep}], tiny_tokenizer)
    wide: Any = {"type": "null"}
    for _ in range(4):
        wide = {"type": "array", "items": wide, "minItems": 1000}
    with pytest.raises(SchemaError, match="shortest call is longer"):
        Grammar([{"name": "f", "parameters": one(wide)}], tiny_tokenizer)


def test_a_tokenizer_without_the_tags_is_refused(tiny: Path) -> None:
    with pytest.raises(TokenizerError, match="<tool_call>"):
        Grammar([ADD], load_tokenizer(tiny))


def test_errors_are_ours() -> None:
    assert issubclass(SchemaError, MinifcError)
