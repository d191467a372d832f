"""How a tool call is written and read, and what is refused."""

import json
import random
import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minifc.errors import CallError
from minifc.text.calls import (
    MAX_DEPTH,
    MAX_LENGTH,
    TAGS,
    Call,
    read_call,
    read_tools,
    read_value,
    rewrite_calls,
    write_call,
    write_json,
)
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import call_texts, parse_calls

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
STRINGS = st.text(max_size=12) | st.sampled_from(["", "it's", '"', "\\", "\\'", "</tool_call>", "é🤗", "\n\t\0", "{]"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=12,
)
CALLS = st.builds(Call, STRINGS.filter(bool), st.dictionaries(STRINGS, VALUES, max_size=4))


def same(one: Any, other: Any) -> bool:
    """Equal, types included: to Python `1 == True == 1.0`."""
    return repr(one) == repr(other)


# Writing


def test_the_canonical_form() -> None:
    call = Call("send", {"to": "Zoë", "urgent": True, "cc": None, "parts": [1, 2.5, {"a": "b"}], "empty": {}})
    assert write_call(call) == (
        '{"name": "send", "arguments": '
        '{"to": "Zoë", "urgent": true, "cc": null, "parts": [1, 2.5, {"a": "b"}], "empty": {}}}'
    )


def test_name_comes_first_and_arguments_are_always_there() -> None:
    assert write_call(Call("now", {})) == '{"name": "now", "arguments": {}}'


TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"b": {}, "a": {}, "c": {}}}}


def test_arguments_come_in_the_schemas_order() -> None:
    assert (
        write_call(Call("f", {"a": 1, "c": 2, "b": 3}), TOOL) == '{"name": "f", "arguments": {"b": 3, "a": 1, "c": 2}}'
    )


def test_an_argument_the_schema_does_not_know_comes_last_and_is_not_dropped() -> None:
    assert (
        write_call(Call("f", {"x": 0, "a": 1, "b": 2}), TOOL) == '{"name": "f", "arguments": {"b": 2, "a": 1, "x": 0}}'
    )


def test_objects_inside_arguments_follow_the_schema_too() -> None:
    """As the grammar, which knows one order only."""
    place = {"type": "object", "properties": {"name": {"type": "string"}, "height": {"type": "integer"}}}
    listed = {
        "one": place,
        "many": {"type": "array", "items": place},
        "named": {"type": "object", "additionalProperties": place},
        "perhaps": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {}}}, place]},
    }
    tool = {"name": "f", "parameters": {"type": "object", "properties": listed}}
    wrong, right = {"height": 1, "name": "a"}, '{"name": "a", "height": 1}'
    call = Call("f", {"one": wrong, "many": [wrong, wrong], "named": {"z": wrong}, "perhaps": wrong})
    written = write_call(call, tool)
    assert written == (
        f'{{"name": "f", "arguments": {{"one": {right}, "many": [{right}, {right}], '
        f'"named": {{"z": {right}}}, "perhaps": {right}}}}}'
    )


@pytest.mark.parametrize("tool", [{"name": "f"}, {"name": "f", "parameters": {}}, {"name": "f", "parameters": None}])
def test_a_schema_without_parameters_orders_nothing(tool: dict[str, Any]) -> None:
    assert write_call(Call("f", {"b": 1, "a": 2}), tool) == '{"name": "f", "arguments": {"b": 1, "a": 2}}'


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ({"type": "integer"}, "3"),
        ({"type": ["null", "integer"]}, "3"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, "3"),
        ({"type": "number"}, "3.0"),
        ({"type": ["integer", "number"]}, "3.0"),
        ({}, "3.0"),
    ],
    ids=str,
)
def test_where_an_integer_is_wanted_one_is_written(kind: dict[str, Any], written: str) -> None:
    """A table of floats has 3.0 for 3, and a grammar of integers lets no fraction through."""
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"n": kind}}}
    assert write_call(Call("f", {"n": 3.0}), tool) == f'{{"name": "f", "arguments": {{"n": {written}}}}}'
    assert write_call(Call("f", {"n": 3.5}), tool) == '{"name": "f", "arguments": {"n": 3.5}}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {1, 2}, b"bytes", object(), {(1, 2): 3}])
def test_what_is_no_json_is_not_written(value: Any) -> None:
    with pytest.raises(CallError, match="not a JSON value"):
        write_json({"value": value})


def test_a_value_that_holds_itself_is_not_written() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(CallError, match="not a JSON value"):
        write_json(value)


# Written, then read


@PROPERTY
@given(call=CALLS)
def test_a_written_call_is_read_back(call: Call) -> None:
    assert same(read_call(write_call(call)), call)


@PROPERTY
@given(call=CALLS)
def test_a_call_in_pythons_repr_is_read_back(call: Call) -> None:
    """The course's data writes calls so."""
    assert same(read_call(repr({"name": call.name, "arguments": call.arguments})), call)


@PROPERTY
@given(call=CALLS)
def test_any_json_spelling_is_read(call: Call) -> None:
    spelled = json.dumps({"arguments": call.arguments, "name": call.name}, indent=2, ensure_ascii=True)
    assert same(read_call(f"\n {spelled} \n"), call)


# Reading


def test_pythons_repr_with_nested_quotes_and_constants() -> None:
    text = (
        """{'name': 'say', 'arguments': {'text': "it's \\"so\\"", 'loud': True, 'to': None, 'n': [-1, 2.5e3, False]}}"""
    )
    assert read_call(text) == Call("say", {"text": 'it\'s "so"', "loud": True, "to": None, "n": [-1, 2500.0, False]})


def test_braces_inside_strings_are_text() -> None:
    """A regular expression would end the call at the first `}` (FAILURES.md, 21)."""
    arguments = {"code": "f({[<tool_call>", "close": "}}]", "deep": {"a": {"b": {}}}}
    for text in (json.dumps, repr):
        assert read_call(text({"name": "run", "arguments": arguments})) == Call("run", arguments)


def test_tuples_become_lists() -> None:
    assert same(read_value("{'a': (1, (2, 3)), 'b': ((),)}"), {"a": [1, [2, 3]], "b": [[]]})


def test_arguments_in_a_string_are_read() -> None:
    """OpenAI's API writes them so."""
    assert read_call('{"name": "f", "arguments": "{\\"a\\": [1]}"}') == Call("f", {"a": [1]})
    assert read_call('{"name": "f", "arguments": ""}') == Call("f", {})


def test_arguments_may_be_left_out() -> None:
    assert read_call('{"name": "now"}') == Call("now", {})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "neither JSON nor"),
        ("get_weather('Paris')", "neither JSON nor"),
        ('{"name": "f"', "neither JSON nor"),
        ('{"name": "f"} and more', "neither JSON nor"),
        ("[1, 2]", "an object, not a list"),
        ('"f"', "an object, not a str"),
        ("null", "an object, not a NoneType"),
        ("{}", "needs a name"),
        ('{"arguments": {}}', "needs a name"),
        ('{"name": ""}', "needs a name"),
        ('{"name": 5, "arguments": {}}', "needs a name"),
        ('{"name": "f", "arguments": [1]}', "arguments of f are not an object"),
        ('{"name": "f", "arguments": null}', "arguments of f are not an object"),
        ('{"name": "f", "arguments": "[1]"}', "arguments of f are not an object"),
        ("{'name': 'f', 'arguments': {1: 2}}", "neither JSON nor a Python literal"),
        ('{"name": "f", "arguments": "Paris"}', "neither JSON nor"),
        ("{'name': 'f', 'arguments': {'a': b'x'}}", "neither JSON nor"),
        ("{'name': 'f', 'arguments': {'a': {1, 2}}}", "neither JSON nor"),
        ("{'name': 'f', 'arguments': {'a': 1j}}", "neither JSON nor"),
        ("{'name': 'f', 'arguments': {'a': ...}}", "neither JSON nor"),
        ("{'name': 'f', 'arguments': {[1]: 2}}", "neither JSON nor"),
        ("{'name': 'f', **{'arguments': {}}}", "neither JSON nor"),
        ("{'name': f'{1}', 'arguments': {}}", "neither JSON nor"),
        ("{'name': 'f\0', 'arguments': {}}", "neither JSON nor"),
    ],
)
def test_what_is_no_call(text: str, complaint: str) -> None:
    with pytest.raises(CallError, match=complaint):
        read_call(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan", "1e400 - 1e400"])
@pytest.mark.parametrize("form", ['{"name": "f", "arguments": {"x": %s}}', "{'name': 'f', 'arguments': {'x': %s}}"])
def test_numbers_that_json_does_not_have(form: str, number: str) -> None:
    with pytest.raises(CallError):
        read_call(form % number)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "name": "g", "arguments": {}}',
        '{"name": "f", "arguments": {"a": 1, "a": 1}}',
        '{"name": "f", "arguments": {"a": [{"b": 1, "b": 2}]}}',
        "{'name': 'f', 'name': 'g', 'arguments': {}}",
        "{'name': 'f', 'arguments': {'a': [{'b': 1, 'b': 2}]}}",
    ],
)
def test_a_key_that_stands_twice(text: str) -> None:
    with pytest.raises(CallError):
        read_call(text)


def test_what_is_read_can_be_written() -> None:
    """An inner key that is no string: JSON has none, so such a call would change when it is written again."""
    try:
        call = read_call("{'name': 'f', 'arguments': {'a': {1: 2}}}")
    except CallError:
        return
    assert read_call(write_call(call)) == call


def test_a_backslash_that_escapes_nothing() -> None:
    """Read the same whatever Python's warning filter says, and without a word on the user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_call(r"{'name': 'find', 'arguments': {'pattern': '\d+'}}") == Call("find", {"pattern": "\\d+"})


# Hostile text


def test_nothing_is_executed(tmp_path: Path) -> None:
    written = tmp_path / "written"
    touch = f"__import__('pathlib').Path('{written}').touch()"
    attacks = [
        f"__import__('os').system('touch {written}')",
        f"{{'name': 'f', 'arguments': {{'a': {touch}}}}}",
        f"[{touch} for _ in (1,)]",
        f"(lambda: {touch})()",
        f"{{'name': f\"{{{touch}}}\"}}",
    ]
    for attack in attacks:
        eval(attack)  # the attack is real ...
        assert written.exists()
        written.unlink()
        with pytest.raises(CallError):
            read_call(attack)
        assert not written.exists()  # ... and comes to nothing


def nested(depth: int, brackets: str = "[]") -> str:
    return brackets[0] * depth + brackets[1] * depth


def test_depth_is_bounded() -> None:
    assert len(write_json(read_value(nested(MAX_DEPTH)))) == 2 * MAX_DEPTH
    assert read_value(nested(MAX_DEPTH, "()") + ",") is not None
    for text in (nested(MAX_DEPTH + 1), nested(MAX_DEPTH + 1, "()"), '{"a":' * 65 + "1" + "}" * 65):
        with pytest.raises(CallError, match="deep"):
            read_value(text)


def test_brackets_in_strings_are_not_depth() -> None:
    assert read_value(json.dumps(["[" * 1000, '"' + "{" * 1000])) == ["[" * 1000, '"' + "{" * 1000]


def test_a_comment_hides_no_depth() -> None:
    """Python's parser skips `#...`; whoever counts brackets must not count those."""
    with pytest.raises(CallError):
        read_value("#" + "]" * 1000 + "\n" + nested(MAX_DEPTH + 1))


def test_length_is_bounded() -> None:
    fits = json.dumps("x" * (MAX_LENGTH - 2))
    assert len(read_value(fits)) == MAX_LENGTH - 2
    with pytest.raises(CallError, match=f"{MAX_LENGTH + 1} characters"):
        read_value(fits[:-1] + 'x"')


HOSTILE = {
    "100k brackets": "[" * 100_000,
    "100k objects": '{"a":' * 20_000,
    "1 MB of brackets": "[" * 1_000_000,
    "1 MB of text": "x" * 1_000_000,
    "many minuses": "-" * 99_000 + "1",
    "many nots": "not " * 24_000 + "1",
    "a long sum": "+".join("1" * 49_000),
    "a long chain of attributes": "a" + ".a" * 49_000,
    "a long comparison": "<".join("1" * 49_000),
    "many lambdas": "lambda:" * 14_000 + "1",
    "a number of 5000 digits": "1" * 5000,
    "a hexadecimal number of 99k digits": "0x" + "f" * 99_000,
    "a string times a number": "{'a': 'x' * 10000000000}",
    "many quotes": "'\"" * 50_000,
    # Shorter: a scanner that starts over at each quote takes seconds for these already, and a minute at full length.
    "an open string of escapes": '"' + '\\"' * 15_000,
    "an open string of escapes, Python's": "{'a': '" + "\\'" * 15_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_fails_fast(name: str) -> None:
    """CallError, never RecursionError or MemoryError, in about the time that an honest text of that size takes."""
    started = time.process_time()
    with pytest.raises(CallError):
        read_value(HOSTILE[name])
    assert time.process_time() - started < 1


@PROPERTY
@given(text=st.text(st.sampled_from("{}[]()'\"\\:,#ab1 \nNaN-"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's about its own syntax: tested above
        try:
            value = read_value(text)
        except CallError:
            return
    assert same(read_value(write_json(value)), value)


def test_broken_calls_are_read_or_refused() -> None:
    """A real call with a few characters changed, as a weak model writes it."""
    rng = random.Random(0)
    calls = ["{'name': 'f', 'arguments': {'a': \"it's\", 'b': [True, None, 1.5]}}"]
    calls.append('{"name": "f", "arguments": {"a": "it\'s", "b": [true, null, 1.5]}}')
    for _ in range(2000):
        text = list(rng.choice(calls))
        for _ in range(rng.randrange(1, 4)):
            text[rng.randrange(len(text))] = rng.choice(["", "'", '"', "{", "}", "\\\\", ",", "1", " "])
        try:
            call = read_call("".join(text))
        except CallError:
            continue
        assert isinstance(call, Call)


# Calls in a model's turn


A, B = Call("a", {"x": 1}), Call("b", {})
A_TEXT, B_TEXT = '{"name": "a", "arguments": {"x": 1}}', "{'name': 'b', 'arguments': {}}"


@pytest.mark.parametrize(
    ("turn", "calls"),
    [
        ("Just an answer.", []),
        ("", []),
        (f"<tool_call>\n{A_TEXT}\n</tool_call>", [A]),
        (f"<tool_call>{A_TEXT}</tool_call><end_of_turn><eos>", [A]),
        (f"<think>Hm.\n</think><tool_call>\n{A_TEXT}\n</tool_call>", [A]),
        (f"Two: <tool_call>{A_TEXT}</tool_call>\n<tool_call>\n{B_TEXT}</tool_call> done", [A, B]),
        (f"<think>I could write <tool_call>{A_TEXT}</tool_call>.</think>No.", []),
        (f"<think>An open <tool_call> is a thought.</think><tool_call>{B_TEXT}</tool_call>", [B]),
        (f"thoughts after a prefilled tag</think><tool_call>{B_TEXT}</tool_call>", [B]),
        ("a stray </tool_call> is no call", []),
    ],
)
def test_calls_in_a_turn(tagged: Tokenizer, turn: str, calls: list[Call]) -> None:
    assert parse_calls(tagged.encode(turn, control_tokens=True), tagged) == calls


@pytest.mark.parametrize(
    ("turn", "complaint"),
    [
        (f"<tool_call>{A_TEXT}", "not closed"),
        (f"<tool_call>{A_TEXT}<tool_call>{B_TEXT}</tool_call>", "inside a call"),
        ("<tool_call></tool_call>", "neither JSON nor"),
        ("<tool_call>a()</tool_call>", "neither JSON nor"),
        (f"<tool_call>{A_TEXT}</tool_call><tool_call>[]</tool_call>", "not a list"),
    ],
)
def test_calls_that_cannot_be_read(tagged: Tokenizer, turn: str, complaint: str) -> None:
    with pytest.raises(CallError, match=complaint):
        parse_calls(tagged.encode(turn, control_tokens=True), tagged)


@pytest.mark.parametrize(
    "turn",
    [
        f"The tool said <tool_call>{A_TEXT}</tool_call>.",
        f"<tool_call>{A_TEXT}</tool_call>",
        "<tool_call>",
        "an open <tool_call> in a quotation",
    ],
)
def test_a_tag_that_is_only_spelled_is_no_call(tagged: Tokenizer, turn: str) -> None:
    assert parse_calls(tagged.encode(turn), tagged) == []


def test_a_spelled_tag_alone_between_tokens_opens_no_call(tagged: Tokenizer) -> None:
    """The tag's spelling is a run of its own here, next to true tags on either side."""
    control = tagged.control
    ids = [
        *(control["<think>"], *tagged.encode("Hm."), control["</think>"]),
        *tagged.encode("<tool_call>"),
        *(control["<think>"], *tagged.encode("Hm."), control["</think>"]),
        *tagged.encode(A_TEXT),
        control["</tool_call>"],
    ]
    assert parse_calls(ids, tagged) == []


def test_a_spelled_end_of_thinking_ends_no_thought(tagged: Tokenizer) -> None:
    control = tagged.control
    thought = [*tagged.encode("</think>"), *tagged.encode(f"<tool_call>{A_TEXT}</tool_call>", control_tokens=True)]
    assert parse_calls([control["<think>"], *thought, control["</think>"]], tagged) == []
    alone = [control["<think>"], *tagged.encode("</think>"), *thought[-3:], control["</think>"]]
    assert parse_calls(alone, tagged) == []


def test_tags_spelled_inside_a_call_are_its_text(tagged: Tokenizer) -> None:
    arguments = {"html": "</tool_call><tool_call>", "think": "<think>a</think>", "turn": "<end_of_turn>"}
    written = write_call(Call("f", arguments))
    ids = [tagged.control["<tool_call>"], *tagged.encode(written), tagged.control["</tool_call>"]]
    assert parse_calls(ids, tagged) == [Call("f", arguments)]


def test_without_tag_tokens_the_spelling_counts(tiny_tokenizer: Tokenizer) -> None:
    assert not set(TAGS) & set(tiny_tokenizer.control)
    turn = f"<think>not <tool_call>{B_TEXT}</tool_call></think><tool_call>\n{A_TEXT}\n</tool_call><tool_call>{B_TEXT}"
    ids = tiny_tokenizer.encode(turn + "</tool_call>")
    assert parse_calls(ids, tiny_tokenizer) == [A, B]
    with pytest.raises(CallError, match="not closed"):
        parse_calls(tiny_tokenizer.encode(turn), tiny_tokenizer)


def test_without_tag_tokens_an_argument_keeps_its_text(tiny_tokenizer: Tokenizer) -> None:
    """`</think>` ends a thought; inside a call there is none to end, and nothing of an argument may vanish."""
    call = Call("note", {"text": "a <think>b</think> c"})
    assert parse_calls(tiny_tokenizer.encode(f"<tool_call>{write_call(call)}</tool_call>"), tiny_tokenizer) == [call]


def test_call_texts_are_unread(tagged: Tokenizer) -> None:
    ids = tagged.encode("<tool_call>\n{not a call\n</tool_call> and <tool_call>x</tool_call>", control_tokens=True)
    assert call_texts(ids, tagged) == ["\n{not a call\n", "x"]


def test_the_courses_turns(course_rows: list[tuple[list[dict[str, Any]], str]], tagged: Tokenizer) -> None:
    """Every model turn of the two real rows; their system text holds an example call that is none."""
    parsed = [
        [
            parse_calls(tagged.encode(message["content"], control_tokens=True), tagged)
            for message in messages
            if message["role"] == "model"
        ]
        for messages, _ in course_rows
    ]
    news = [[Call("get_news_headlines", {"country": country})] for country in ("United States", "France")]
    euros = [
        [Call("convert_currency", {"amount": amount, "from_currency": source, "to_currency": target})]
        for amount, source, target in ((500, "USD", "EUR"), (1000, "EUR", "USD"))
    ]
    assert parsed == [[news[0], [], news[1], []], [euros[0], [], euros[1], [], []]]
    assert all(re.search("<tool_call>", messages[0]["content"]) for messages, _ in course_rows)


# --- calls in text that holds its tags ---------------------------------------------------------------------------

ADD = {"name": "add", "parameters": {"type": "object", "properties": {"a": {}, "b": {}}}}


def test_calls_are_rewritten_where_they_stand() -> None:
    thought, call = (
        "<think>I write <tool_call>{'name': 'x'}.</think>",
        "{'arguments': {'b': None, 'a': 'é'}, 'name': 'add'}",
    )
    assert rewrite_calls(f"{thought}Now:<tool_call>\n{call}</tool_call> done", {"add": ADD}) == (
        f'{thought}Now:<tool_call>\n{{"name": "add", "arguments": {{"a": "é", "b": null}}}}\n</tool_call> done'
    )


@pytest.mark.parametrize("turn", ["Noon.", "", "<think>only", "</tool_call> alone", "<tools></tools>"])
def test_a_turn_without_calls_stays(turn: str) -> None:
    assert rewrite_calls(turn, {}) == turn


@pytest.mark.parametrize(
    "turn",
    [
        "<tool_call>{'name': 'add'}",
        "<tool_call>\n{'name': \n</tool_call>",
        "<think>Add.</thnik><tool_call>{'name': 'add'}</tool_call>",  # all of it would be a thought
    ],
)
def test_a_call_that_cannot_be_read_is_not_rewritten(turn: str) -> None:
    with pytest.raises(CallError):
        rewrite_calls(turn, {})


@PROPERTY
@given(calls=st.lists(CALLS, max_size=3), between=st.sampled_from(["", "\n", " and ", "<think>so</think>"]))
def test_rewriting_keeps_what_is_called_and_is_done_once(calls: list[Call], between: str) -> None:
    written = [str({"name": call.name, "arguments": call.arguments}) for call in calls]
    if any("tool_call>" in text or "think>" in text for text in written):
        return
    once = rewrite_calls(between.join(f"<tool_call>{text}</tool_call>" for text in written), {})
    again = [read_call(text) for text in re.findall("<tool_call>\n(.*?)\n</tool_call>", once)]
    assert len(again) == len(calls)
    assert all(map(same, again, calls))
    assert rewrite_calls(once, {}) == once


def test_tools_in_a_text() -> None:
    wrapped = {"type": "function", "function": ADD}
    listed, lines = f"<tools> {[wrapped]} </tools>", f"<tools>\n{json.dumps(ADD)}\n{json.dumps(wrapped)}\n</tools>"
    assert read_tools(f"Within <tools></tools> tags: {listed}") == [ADD]
    assert read_tools(lines) == [ADD, ADD]
    assert read_tools("none") == []
    described = write_json(ADD | {"description": "two\u2028lines"})
    assert len(read_tools(f"<tools>\n{described}\n{json.dumps(ADD)}\n</tools>")) == 2  # only a line break ends a line
    unlike_a_schema = "<tools>{'name': 'f', 'parameters': 'x'}</tools>"
    for bad in ("<tools>[1]</tools>", "<tools>{'name': }</tools>", "<tools>{}</tools>", unlike_a_schema):
        with pytest.raises(CallError):
            read_tools(bad)


def test_the_courses_rows_are_rewritten_without_loss(course_rows: list[tuple[list[dict[str, Any]], str]]) -> None:
    """Each call of the two real rows, before and after, is the same call; only calls have changed."""
    count = 0
    for messages, _ in course_rows:
        tools = {tool["name"]: tool for tool in read_tools(messages[0]["content"])}
        assert tools
        for message in messages:
            if message["role"] != "model":
                continue
            before, after = message["content"], rewrite_calls(message["content"], tools)
            pattern = "<tool_call>(.*?)</tool_call>"
            calls = [[read_call(text) for text in re.findall(pattern, turn, re.DOTALL)] for turn in (before, after)]
            assert calls[0] == calls[1]
            assert re.sub(pattern, "", before, flags=re.DOTALL) == re.sub(pattern, "", after, flags=re.DOTALL)
            count += len(calls[0])
    assert count >= 2
