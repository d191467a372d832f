"""What each keyword means: for the grammar, for the check of a complete value, and for the library jsonschema."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from random_walks import takes, walk

from minifc.calling.automaton import Automaton, Value
from minifc.calling.grammar import Grammar
from minifc.calling.kinds import ANYTHING, AnyOf, Array, Checked, Object, Reference, Schema, nesting
from minifc.calling.patterns import language_of
from minifc.calling.regular import automaton_of
from minifc.calling.schema import read_schema
from minifc.calling.validation import find_error
from minifc.errors import SchemaError
from minifc.text.calls import TAGS, write_json
from minifc.text.dialects.json_calls import JSON_CALLS
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.text.turns import parse_calls

A, B = {"type": "object", "properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "string"}}}
TREE = {"type": "object", "properties": {"left": {"$ref": "#"}, "size": {"type": "integer"}}}


def in_order(value: Any, schema: Schema) -> Any:
    """With properties in the order in which the grammar writes them."""
    match schema:
        case Reference():
            return in_order(value, schema.target)
        case Checked():
            return in_order(value, schema.schema)
        case AnyOf():
            fitting = (option for option in schema.options if find_error(value, option) is None)
            return in_order(value, next(fitting, ANYTHING)) if schema is not ANYTHING else value
        case Array() if isinstance(value, list):
            return [in_order(item, schema.kind_at(place) or ANYTHING) for place, item in enumerate(value)]
        case Object() if isinstance(value, dict):
            others = {
                name: kind for name in value for names, kind in schema.others if automaton_of(names).matches(name)
            }
            kinds = others | dict(schema.properties)
            ordered = [*(name for name in schema.properties if name in value), *value]
            return {name: in_order(value[name], kinds.get(name, ANYTHING)) for name in ordered}
    return value


def written(value: Any, schema: Schema) -> bool:
    """Whether the automaton takes the value, byte by byte."""
    state = Automaton(nesting(schema), JSON_CALLS.syntax).state([(Value(schema, 0), None)])
    for byte in write_json(in_order(value, schema)).encode():
        following = state.step(byte)
        if following is None:
            return False
        state = following
    return state.complete


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "STRING", "example": "x", "x-order": 1}, ["a"], [1, None]),
        ({"type": "string", "nullable": True}, ["a", None], [1]),
        ({"enum": ["a", "b"], "nullable": True}, ["a", None], ["c"]),
        ({"type": ["string", "null"], "minLength": 2}, ["ab", None], ["a"]),
        ({"minLength": 2}, ["ab", 7, None], ["a"]),
        ({"properties": {"a": {"type": "integer"}}}, [{"a": 1}, {}], [{"a": "x"}, 3]),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [None]),
        ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]}, [1, 5.5], [6, 1.5]),
        ({"allOf": [{"type": "integer", "minimum": 2}, {"maximum": 4}]}, [2, 4], [1, 5]),
        ({"allOf": [A, B], "required": ["b"]}, [{"a": 1, "b": "x"}, {"b": "x"}], [{"a": 1}, {"a": "x", "b": "x"}]),
        ({"anyOf": [A, B], "required": ["a"]}, [{"a": 1}], [{"b": "x"}]),
        ({"type": "string", "not": {"enum": ["a", "b"]}}, ["c", ""], ["a", "b"]),
        ({"not": {"type": "string"}}, [1, None, []], ["a"]),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "not": {"required": ["a"]}}, [{"b": 1}], [{"a": 1}]),
        ({"type": "integer", "not": {"const": 3}}, [2], [3]),
        ({"type": "object", "not": {"minProperties": 2}}, [{}, {"a": 1}], [{"a": 1, "b": 2}]),
        ({"type": "object", "not": {"required": ["a"], "minProperties": 2}}, [{"a": 1}, {"b": 1}], [{"a": 1, "b": 2}]),
        ({"type": "object", "not": {"properties": {"a": {}}, "required": ["a"], "additionalProperties": False}},
         [{"a": 1, "b": 2}, {}], [{"a": 1}]),
        ({"type": "string", "not": {"pattern": "^a", "maxLength": 2}}, ["abc", "b"], ["a", "ab"]),
        ({"type": "integer", "multipleOf": 7, "minimum": 10}, [14, 70], [7, 15]),
        ({"type": "number", "multipleOf": 0.25}, [0.5, 1], [0.3]),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, [4], [3]),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
         [[1, "a"], [1]], [["a"], [1, "a", 2]]),
        ({"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "string"}},
         [[1, "a", "b"]], [[1, 2]]),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, [[1, 2]], [[1, 1]]),
        ({"type": "array", "contains": {"type": "integer"}, "maxContains": 1}, [[1, "a"]], [["a"], [1, 2]]),
        ({"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
         [{"x1": 1}, {}], [{"x1": "a"}, {"y": 1}]),
        ({"type": "object", "patternProperties": {"a": {"minimum": 2}, "b": {"maximum": 4}}},
         [{"ab": 3, "a": 9}], [{"ab": 5}, {"ab": 1}]),
        ({"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}}, [{"a": 1}], [{"A": 1}]),
        ({"type": "object", "propertyNames": {"enum": ["a", "b"]}, "minProperties": 2},
         [{"a": 1, "b": 2}], [{"a": 1}, {"a": 1, "c": 2}]),
        ({"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2, "maxProperties": 2},
         [{"a": 1, "c": 2}], [{"a": 1}, {"a": 1, "b": 1, "c": 1}]),
        ({"type": "object", "required": ["a"]}, [{"a": 1}], [{}, {"b": 1}]),
        ({"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
         [{"b": 1}, {"a": 1, "b": 1}], [{"a": 1}]),
        ({"type": "object", "properties": {"k": {"enum": [1, 2]}, "x": {}},
         "if": {"properties": {"k": {"const": 1}}}, "then": {"required": ["x"]}},
         [{"k": 1, "x": 0}, {"k": 2}], [{"k": 1}]),
        ({"$ref": "#/$defs/a%20b/anyOf/1", "$defs": {"a b": {"anyOf": [{}, {"type": "integer"}]}}}, [3], ["a"]),
        ({"$ref": "#/$defs/n", "minimum": 3, "$defs": {"n": {"type": "integer"}}}, [3], [2, "a"]),
        ({"$ref": "#here", "$defs": {"x": {"$anchor": "here", "type": "null"}}}, [None], [0]),
        (TREE, [{"left": {"left": {"size": 1}}}], [{"left": {"left": {"size": "a"}}}, {"right": {}}]),
        ({"allOf": [TREE, {"properties": {"left": {"required": ["size"]}}}]},
         [{"left": {"size": 1}}, {}], [{"left": {}}, {"left": {"size": 1, "left": {}}}]),
        ({"type": "object", "properties": {"a": False, "b": {}}}, [{"b": 1}, {}], [{"a": 1}]),
        ({"type": "array", "items": {"allOf": [{"type": "string"}, {"type": "null"}]}}, [[]], [["a"], [None]]),
        ({"type": "object", "properties": {"a": {"type": "integer", "required": True}}}, [{"a": 1}, {}], [{"a": "x"}]),
        ({"type": "string", "format": "int32"}, ["x"], [1]),
    ],
    ids=lambda value: json.dumps(value)[:60],
)  # fmt: skip
def test_keywords(schema: Any, right: list[Any], wrong: list[Any]) -> None:
    """Right values are written and pass. Wrong ones fail the check, and the automaton too where there is none."""
    found = read_schema(schema, "v")
    for value in right:
        assert find_error(value, found) is None, value
        assert written(value, found), value
    for value in wrong:
        assert find_error(value, found, "v") is not None, value
    checked = any(isinstance(part, Checked) for part in nesting(found))
    assert checked or not any(written(value, found) for value in wrong)


@pytest.mark.parametrize(
    ("keywords", "noted"),
    [
        ({"unevaluatedProperties": False}, "tool f.v: unevaluatedProperties is not followed"),
        ({"$ref": "https://example.org/a.json"}, "tool f.v: $ref 'https://example.org/a.json' is not followed; it can"),
        ({"$ref": "#/$defs/nothing"}, "tool f.v: $ref '#/$defs/nothing' names nothing in this schema"),
        (
            {"type": "string", "pattern": r"(a)\1"},
            "tool f.v: pattern '(a)\\\\1': a reference to a group is not regular",
        ),
        (
            {"type": "string", "pattern": "a.{12}$"},
            "tool f.v: pattern a.{12}$: its automaton has more than 2,000 states",
        ),
        ({"type": "string", "pattern": "x", "format": "(?<=a)"}, "tool f.v: format (?<=a) is not known"),
        ({"patternProperties": {r"(a)\1": {}}, "additionalProperties": False}, "tool f.v: patternProperties: pattern"),
        ({"not": {"$ref": "#/x"}}, "tool f.v.not: $ref '#/x' names"),
        ({"contains": {"$ref": "#/x"}, "maxContains": 1}, "tool f.v.contains: $ref '#/x' names"),
        ({"if": {"$ref": "#/x"}, "then": {"type": "string"}}, "tool f.v.if: $ref '#/x' names"),
        ({"oneOf": [{"$ref": "#/x"}, {"type": "object"}]}, "tool f.v.oneOf[0]: $ref '#/x' names"),
    ],
)
def test_what_cannot_be_followed_is_left_out_and_noted(keywords: dict[str, Any], noted: str) -> None:
    parameters = {"type": "object", "properties": {"v": keywords}, "required": ["v"]}
    notes: list[str] = []
    found = read_schema(parameters, "tool f", notes=notes)
    assert notes[0].startswith(noted)
    assert len(notes) == len(set(notes))
    value: Any = "x" if keywords.get("type") == "string" else [1, 2] if "contains" in keywords else {"aa": 1}
    assert find_error({"v": value}, found) is None
    assert written({"v": value}, found)
    if "format" not in keywords:  # an unknown one is an annotation
        with pytest.raises(SchemaError) as caught:
            read_schema(parameters, "tool f")
        assert str(caught.value) == notes[0]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {}}, "additionalProperties": False, "minProperties": 2},
        {"type": "object", "propertyNames": {"enum": ["a", "b"]}, "minProperties": 3},
        {"type": "object", "required": ["a", "b"], "maxProperties": 1},
        {"type": "object", "properties": {"a": False, "b": {}}, "additionalProperties": False, "minProperties": 2},
    ],
    ids=str,
)
def test_an_object_that_cannot_have_as_many_properties_as_it_needs_is_refused(schema: Any) -> None:
    with pytest.raises(SchemaError, match="no value has this form"):
        read_schema(schema, "v")
    options = {"anyOf": [schema, {"type": "null"}]}
    assert written(None, read_schema(options, "v"))


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"$ref": "#"}, {"type": "integer"}]},
        {"$ref": "#/$defs/a",
         "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"oneOf": [{"$ref": "#/$defs/a"}, {}]}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_that_is_its_own_option_is_refused(schema: Any) -> None:
    """To follow it would not end."""
    with pytest.raises(SchemaError, match=r"one of its own options|no value has this form"):
        read_schema(schema, "v")


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        ("^(.?a){900}b$", "a" * 900 + "b", "a" * 899 + "b"),
        (r"^https?:\/\/(www\.)?[-a-z0-9@:%._\+~#=]{1,256}\.[a-z0-9()]{1,6}\b([-a-z0-9()@:%_\+.~#?&//=]*)$",
         "http://www.example.org/a?b", f"http://{257 * 'a'}.org/"),
        (r"^(?!.{300})((.{1,63}\.){1,127}[a-z]+)$", "a.example.org", f"a.{'b' * 300}"),
    ],
)  # fmt: skip
def test_what_repeats_too_often_for_an_automaton_is_checked_afterwards(pattern: str, right: str, wrong: str) -> None:
    found = read_schema({"type": "string", "pattern": pattern}, "s")
    with pytest.raises(SchemaError, match="its automaton"):
        automaton_of(language_of(pattern))
    assert written(right, found)
    assert written(wrong, found)
    assert find_error(right, found) is None
    assert "does not have the pattern" in str(find_error(wrong, found))
    others = read_schema({"type": "string", "not": {"type": "string", "pattern": pattern}}, "s")
    assert written(wrong, others)
    assert find_error(wrong, others) is None
    assert find_error(right, others) is not None


def test_texts_are_counted_as_far_as_asked() -> None:
    for pattern, count in (("^(a|b){2}$", 4), ("^$", 1), ("^a*$", 9), ("^[a-z]{3}$", 9), ("^(?!)$", 0)):
        assert automaton_of(language_of(pattern)).count(9) == count


def random_schema(rng: random.Random, depth: int) -> Any:
    """Of typed keywords and combinations. Objects and arrays state their type: else minifc means them all the same."""
    kind = rng.choice(["string", "integer", "number", "object", "array", "null", "boolean", "any"])
    schema: dict[str, Any] = {} if kind == "any" else {"type": kind}

    def part() -> Any:
        return random_schema(rng, depth - 1) if depth else {"type": rng.choice(["string", "integer"])}

    if kind == "string":
        schema |= rng.choice(
            [{}, {"minLength": 2}, {"maxLength": 2}, {"pattern": "^a"}, {"pattern": "b$", "minLength": 2}]
        )
    if kind in ("integer", "number"):
        schema |= rng.choice([{}, {"minimum": 2}, {"maximum": 3}, {"multipleOf": 2}, {"exclusiveMinimum": 1}])
    if kind == "array":
        schema |= rng.choice(
            [{"items": part()}, {"prefixItems": [part()]}, {"uniqueItems": True}, {"contains": part()}]
        )
        schema |= rng.choice([{}, {"minItems": 1}, {"maxItems": 1}])
    if kind == "object":
        schema["properties"] = {name: part() for name in rng.sample("ab", rng.randint(0, 2))}
        schema |= rng.choice(
            [{}, {"required": ["a"]}, {"minProperties": 1}, {"maxProperties": 1}, {"dependentRequired": {"a": ["b"]}}]
        )
        schema |= rng.choice(
            [
                {},
                {"additionalProperties": False},
                {"additionalProperties": part()},
                {"patternProperties": {"a|c": part()}},
                {"propertyNames": {"maxLength": 1}},
            ]
        )
    if depth and rng.random() < 0.5:
        keyword = rng.choice(["anyOf", "oneOf", "allOf", "not", "if", "enum", "const"])
        schema |= {
            "anyOf": {"anyOf": [part(), part()]}, "oneOf": {"oneOf": [part(), part()]},
            "allOf": {"allOf": [part(), part()]}, "not": {"not": part()},
            "if": {"if": part(), "then": part(), "else": part()},
            "enum": {"enum": [random_value(rng, 1) for _ in range(3)]}, "const": {"const": random_value(rng, 1)},
        }[keyword]  # fmt: skip
    return schema


def random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8 if depth else 6)
    if kind == 6:
        return [random_value(rng, depth - 1) for _ in range(rng.randint(0, 2))]
    if kind == 7:
        return {name: random_value(rng, depth - 1) for name in rng.sample(["a", "b", "ca", "d"], rng.randint(0, 3))}
    return rng.choice([None, True, 0, 1, 2, 3, 4, 2.5, "", "a", "ab", "b", "c"])


def test_random_schemas_mean_what_jsonschema_says() -> None:
    rng = random.Random(5)
    seen = {(checks, valid): 0 for checks in (True, False) for valid in (True, False)}
    for _ in range(700):
        schema = random_schema(rng, 2)
        judge = Draft202012Validator(schema)
        values = [random_value(rng, 2) for _ in range(25)]
        try:
            found = read_schema(schema, "v", open_objects=True)
        except SchemaError as error:
            assert "contradicts itself" in str(error), schema  # noqa: PT017
            assert not any(judge.is_valid(value) for value in values), schema
            continue
        checks = any(isinstance(part, Checked) for part in nesting(found))
        for value in values:
            valid = judge.is_valid(value)
            assert (find_error(value, found) is None) == valid, (schema, value)
            if valid or not checks:
                assert written(value, found) == valid, (schema, value)
            seen[checks, valid] += 1
    assert min(seen.values()) > 400


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny: Path) -> Tokenizer:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens(list(TAGS))
    return tokenizer


def test_random_walks_end_in_calls_of_the_schema(tiny_tokenizer: Tokenizer) -> None:
    """Whatever a grammar lets through can be ended, and is right but for what is checked afterwards."""
    rng, walked, right = random.Random(6), 0, 0
    while walked < 60:
        parameters = {"type": "object", "properties": {"v": random_schema(rng, 2)}, "required": ["v"]}
        try:
            found = read_schema(parameters, "f")
        except SchemaError:
            continue
        grammar = Grammar([{"name": "f", "parameters": parameters}], tiny_tokenizer)
        grammar.advance(tiny_tokenizer.control["<tool_call>"])
        ids = walk(grammar, rng, 150)
        (call,) = parse_calls([tiny_tokenizer.control["<tool_call>"], *ids], tiny_tokenizer)
        error = find_error(call.arguments, found)
        assert error is None or any(isinstance(part, Checked) for part in nesting(found)), (parameters, call, error)
        walked += 1
        right += error is None
    assert right > 40


def lines_of(path: Path) -> list[Any]:
    with gzip.open(path) as lines:
        return [json.loads(line) for line in lines]


def check_bench(rows: list[Any]) -> tuple[int, int]:
    """How many schemas are followed with all their tests right, and how many invalid values are accepted."""
    right = accepted = 0
    for row in rows:
        try:
            found = read_schema(row["schema"], "schema", open_objects=True)
        except SchemaError:
            continue
        verdicts = []
        for test in row["tests"]:
            valid = find_error(test["data"], found) is None and written(test["data"], found)
            verdicts.append(valid == test["valid"])
            accepted += valid and not test["valid"]
        right += all(verdicts)
    return right, accepted


def test_public_schemas(shared: Path) -> None:
    """One of 40."""
    path = shared / "schemas" / "maskbench_open.jsonl.gz"
    if not path.is_file():
        pytest.skip("the schemas are not part of the repository")
    rows = lines_of(path)[::40]
    right, accepted = check_bench(rows)
    assert right > 0.97 * len(rows)
    assert accepted <= 0.002 * len(rows)


def test_public_tools(shared: Path) -> None:
    """Every tool that does not contradict itself is taken."""
    path = shared / "tools" / "real_tools.jsonl.gz"
    if not path.is_file():
        pytest.skip("the tools are not part of the repository")
    refused = []
    for tool in lines_of(path):
        tool = tool.get("function", tool)
        try:
            read_schema(tool.get("parameters") or tool.get("inputSchema") or {"type": "object"}, tool["name"])
        except SchemaError as error:
            refused.append(str(error))
    assert refused == []


def test_takes_is_used_with_a_tokenizer(tiny_tokenizer: Tokenizer) -> None:
    """A call whose keys have a form, token by token."""
    parameters = {
        "type": "object",
        "patternProperties": {"^x-[a-z]+$": {"type": "integer"}},
        "additionalProperties": False,
    }
    for arguments, fits in (({"x-a": 1, "x-b": 2}, True), ({"x-1": 1}, False), ({"x-a": "1"}, False)):
        grammar = Grammar([{"name": "f", "parameters": parameters}], tiny_tokenizer)
        grammar.advance(tiny_tokenizer.control["<tool_call>"])
        text = f'\n{{"name": "f", "arguments": {json.dumps(arguments)}}}\n'
        assert takes(grammar, [*tiny_tokenizer.encode(text), tiny_tokenizer.control["</tool_call>"]]) == fits
