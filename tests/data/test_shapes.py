"""Rows as people have them: every spelling is read as OpenAI's, or refused with the reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from minifc.data import Conversation, draft, read_conversation, read_conversations, with_canonical_calls
from minifc.data.conversations import what_was_left
from minifc.data.nulls import without_nulls
from minifc.data.tools import read_tool
from minifc.errors import DataError
from minifc.evaluation.asking import prompt
from minifc.evaluation.held_out import read_held_out, write_conversations
from minifc.evaluation.questions import data_questions
from minifc.text.tokenizer import Tokenizer, load_tokenizer

USER, MODEL = {"role": "user", "content": "Is it late?"}, {"role": "assistant", "content": "Yes."}
SCHEMA = {"type": "object", "properties": {"zone": {"type": "string"}, "day": {"type": ["string", "null"]}}}
CLOCK = {"name": "clock", "description": "The time", "parameters": SCHEMA}
ARGUMENTS = {"zone": "UTC"}
CALLED = {
    "role": "assistant",
    "tool_calls": [{"type": "function", "function": {"name": "clock", "arguments": ARGUMENTS}}],
}
RESULT = {"role": "tool", "content": "23:10"}
PLAIN = [USER, CALLED, RESULT, MODEL]
CALL = json.dumps({"name": "clock", "arguments": ARGUMENTS})
TAGGED = f"<tool_call>\n{CALL}\n</tool_call>"


@pytest.fixture
def tiny_tokenizer(tiny: Path) -> Tokenizer:
    return load_tokenizer(tiny)


def read(**row: Any) -> Conversation:
    return read_conversation(row, "row 1")


def texts(conversation: Conversation, tokenizer: Tokenizer) -> tuple[str, str]:
    """The whole conversation as it is written, and what of it is learned from."""
    pieces = draft(with_canonical_calls(conversation), tokenizer, "gemma").pieces
    return "".join(piece.text for piece in pieces), "".join(piece.text for piece in pieces if piece.learned)


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


SAME: dict[str, dict[str, Any]] = {
    "OpenAI's": {"messages": PLAIN, "tools": [CLOCK]},
    "a log's nulls and empty fields": {
        "messages": [USER, {**CALLED, "refusal": None, "annotations": [], "audio": None}, RESULT, MODEL],
        "tools": [CLOCK],
    },
    "messages as a string": {"messages": json.dumps(PLAIN), "tools": json.dumps([CLOCK])},
    "each message a string": {"messages": [json.dumps(message) for message in PLAIN], "tools": [CLOCK]},
    "each tool a string": {"messages": PLAIN, "tools": [json.dumps(CLOCK)]},
    "parameters as a string": {"messages": PLAIN, "tools": [{**CLOCK, "parameters": json.dumps(SCHEMA)}]},
    "Anthropic's tools": {
        "messages": PLAIN,
        "tools": [{"name": "clock", "description": "The time", "input_schema": SCHEMA}],
    },
    "tool_defs": {"messages": PLAIN, "tools": None, "tool_defs": json.dumps([CLOCK])},
    "OpenAI's older form": {
        "messages": [
            USER,
            said("assistant", None, function_call={"name": "clock", "arguments": json.dumps(ARGUMENTS)}),
            said("function", "23:10"),
            MODEL,
        ],
        "functions": [CLOCK],
    },
    "Swift's roles": {
        "messages": [USER, said("tool_call", CALL), said("tool_response", "23:10"), MODEL],
        "tools": [CLOCK],
    },
    "Llama's roles": {
        "messages": [said("Human", "Is it late?"), CALLED, said("ipython", "23:10"), said("bot", "Yes.")],
        "tools": [CLOCK],
    },
    "Llama's calls": {
        "messages": [USER, said("tool_call", {"name": "clock", "parameters": ARGUMENTS}), RESULT, MODEL],
        "tools": [CLOCK],
    },
    "ShareGPT's": {
        "conversations": [
            {"from": "human", "value": "Is it late?"},
            {"from": "function_call", "value": CALL},
            {"from": "observation", "value": "23:10"},
            {"from": "gpt", "value": "Yes.", "weight": None},
        ],
        "tools": [CLOCK],
    },
    "text parts": {
        "messages": [said("user", [{"type": "text", "text": "Is it late?", "image_url": None}]), CALLED, RESULT, MODEL],
        "tools": [CLOCK],
    },
    "a result in tags": {
        "messages": [USER, CALLED, said("tool", "<tool_response>\n23:10\n</tool_response>"), MODEL],
        "tools": [CLOCK],
    },
    "prompt and completion": {"prompt": [USER], "completion": [CALLED, RESULT, MODEL], "tools": [CLOCK]},
    "nulls of a table": {
        "messages": [
            USER,
            {**CALLED, "tool_calls": [{"function": {"name": "clock", "arguments": {"zone": "UTC", "song": None}}}]},
            RESULT,
            MODEL,
        ],
        "tools": [
            {"name": "clock", "description": "The time", "parameters": {
                "type": "object",
                "properties": {
                    "zone": {"type": "string", "enum": None},
                    "day": {"type": ["string", "null"], "enum": None},
                    "song": None,
                },
            }}
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_every_spelling_is_the_same_conversation(name: str, tiny_tokenizer: Tokenizer) -> None:
    right = texts(Conversation(PLAIN, [CLOCK]), tiny_tokenizer)
    assert texts(read(**SAME[name]), tiny_tokenizer) == right


def test_requests_and_answers_of_xlam(tiny_tokenizer: Tokenizer) -> None:
    parameters = {
        "zone": {"description": "Zone", "type": "str"},
        "days": {"description": "Days", "type": "List[int], optional"},
        "wide": {"description": "Wide", "type": "bool", "default": False},
    }
    row = read(
        query="Late?", answers=f"[{CALL}, {CALL}]", tools=json.dumps([{"name": "clock", "parameters": parameters}])
    )
    assert [message["role"] for message in row.messages] == ["user", "assistant"]
    assert len(row.messages[1]["tool_calls"]) == 2
    assert row.tools[0]["parameters"] == {
        "type": "object",
        "properties": {
            "zone": {"type": "string", "description": "Zone"},
            "days": {"type": "array", "items": {"type": "integer"}, "description": "Days"},
            "wide": {"type": "boolean", "description": "Wide", "default": False},
        },
        "required": ["zone"],
    }
    with pytest.raises(DataError, match="row 1: answers are empty"):
        read(query="Late?", answers="[]", tools="[]")


@pytest.mark.parametrize("parameters", [SCHEMA, {"properties": {"type": {"type": "string"}}}, {}, {"type": "object"}])
def test_a_schema_is_left_as_it_is(parameters: Any) -> None:
    assert read_tool({"name": "f", "parameters": parameters})["parameters"] == parameters


def test_texts_of_prompt_and_completion() -> None:
    assert read(prompt="Is it late?", completion="Yes.").messages == [USER, MODEL]
    assert read(prompt="Is it late?", response="Yes.").messages == [USER, MODEL]


def test_calls_that_follow_each_other_are_one_turn() -> None:
    turns = [
        USER,
        said("assistant", "I look."),
        said("tool_call", CALL),
        said("tool_call", CALL),
        RESULT,
        RESULT,
        MODEL,
    ]
    messages = read(messages=turns, tools=[CLOCK]).messages
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert (messages[1]["content"], len(messages[1]["tool_calls"])) == ("I look.", 2)


def test_several_system_messages_are_one() -> None:
    system = [said("system", "One."), said("developer", "Two.")]
    assert read(messages=[*system, USER, MODEL]).messages[0] == said("system", "One.\n\nTwo.")
    assert len(read(messages=[system[0], USER, MODEL], system="One.").messages) == 3
    assert read(messages=[said("system", None), USER, MODEL]).messages == [USER, MODEL]


# --- text that holds the tags ------------------------------------------------------------------------------------

LISTED = f"Tools: <tools>{json.dumps(CLOCK)}</tools>"
ANSWERED = "<tool_response>\n23:10\n</tool_response>"


@pytest.mark.parametrize("shape", ["conversations", "messages"])
@pytest.mark.parametrize("tools", [None, [CLOCK]])
@pytest.mark.parametrize("reply", [TAGGED, "I cannot."])
def test_nothing_is_written_twice(shape: str, tools: Any, reply: str, tiny_tokenizer: Tokenizer) -> None:
    turns = [said("system", LISTED), USER, said("assistant", reply), said("tool", ANSWERED), MODEL]
    row = read(**{shape: turns, "tools": tools})
    assert row.verbatim
    text, learned = texts(row, tiny_tokenizer)
    for tag in ("<tools>", "<tool_response>"):
        assert text.count(tag) == 1
    assert learned.count("<tool_call>") == (reply == TAGGED)
    found = draft(row, tiny_tokenizer, "gemma").pieces
    assert [piece.control for piece in found if piece.text == "<tool_call>"] == [True] * (reply == TAGGED)


def test_what_a_user_says_in_structured_messages_is_data(tiny_tokenizer: Tokenizer) -> None:
    row = read(messages=[{**USER, "content": f"{LISTED} {TAGGED}"}, MODEL])
    assert not row.verbatim
    assert not any(piece.text == "<tools>" and piece.control for piece in draft(row, tiny_tokenizer, "gemma").pieces)


def test_tools_that_the_text_does_not_list_are_written(tiny_tokenizer: Tokenizer) -> None:
    row = read(conversations=[USER, said("assistant", TAGGED)], tools=[CLOCK])
    assert row.verbatim
    assert texts(row, tiny_tokenizer)[0].count("<tools>") == 1
    listing = read(conversations=[said("system", LISTED), USER, said("assistant", TAGGED)], tools=[CLOCK])
    for question in data_questions([row, listing]):
        asked = tiny_tokenizer.decode(prompt(question, tiny_tokenizer, "gemma", []))
        assert (asked.count("<tools>"), len(question.tools)) == (1, 1)


def test_held_out_text_keeps_its_tags(tmp_path: Path) -> None:
    rows = [
        read(conversations=[USER, said("gpt", TAGGED), said("tool", ANSWERED), MODEL], tools=tools)
        for tools in (None, [CLOCK])
    ]
    rows.append(read(conversations=[said("system", LISTED), USER, said("gpt", TAGGED), MODEL], tools=[CLOCK]))
    write_conversations(rows, tmp_path / "held_out.jsonl")
    for before, after in zip(rows, read_held_out(tmp_path / "held_out.jsonl"), strict=True):
        assert (after.messages, after.verbatim) == (before.messages, before.verbatim)
        assert (list(after.tools), list(after.listed)) == (list(before.tools), list(before.listed))


@pytest.mark.parametrize("tools", [None, "", "null", [], [CLOCK]])
@pytest.mark.parametrize("reply", [TAGGED, "<think>Hm.</think>I cannot."])
def test_tags_in_a_reply_count_whatever_the_field_of_tools_says(
    tools: Any, reply: str, tiny_tokenizer: Tokenizer
) -> None:
    row = read(conversations=[{"from": "human", "value": "Late?"}, {"from": "gpt", "value": reply}], tools=tools)
    found = draft(row, tiny_tokenizer, "gemma").pieces
    tag = reply[: reply.index(">") + 1]
    assert [piece.control for piece in found if piece.text == tag and piece.learned] == [True]


def test_the_rows_own_tools_order_the_arguments(tiny_tokenizer: Tokenizer) -> None:
    call = '<tool_call>\n{"arguments": {"day": "x", "zone": "y"}, "name": "clock"}\n</tool_call>'
    row = read(
        conversations=[said("system", "<tools>{'name': 'clock'}</tools>"), USER, said("gpt", call)], tools=[CLOCK]
    )
    assert '{"name": "clock", "arguments": {"zone": "y", "day": "x"}}' in texts(row, tiny_tokenizer)[1]


def test_thoughts_in_tags_beside_structured_calls(tiny_tokenizer: Tokenizer) -> None:
    turns = [("human", "Late?"), ("gpt", "<think>Hm.</think>\nI look."), ("function_call", CALL), ("observation", "1")]
    row = read(conversations=[{"from": who, "value": text} for who, text in turns], tools=[CLOCK])
    assert not row.verbatim
    assert texts(row, tiny_tokenizer)[1] == f"<think>Hm.</think>I look.\n{TAGGED}<end_of_turn>"
    turns[2] = ("function_call", f"<think>So.</think>{TAGGED}")
    row = read(conversations=[{"from": who, "value": text} for who, text in turns], tools=[CLOCK])
    assert row.verbatim
    assert "<think>So.</think>" in texts(row, tiny_tokenizer)[1]


def test_tags_beside_structured_calls_are_refused() -> None:
    with pytest.raises(DataError, match="row 1: calls in the tags of the text, and others as fields"):
        read(conversations=[USER, CALLED, said("gpt", TAGGED)])
    with pytest.raises(DataError, match="lists the tools in its text"):
        read(messages=[said("system", LISTED), *PLAIN], tools=[CLOCK])


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}])
@pytest.mark.parametrize("format", ["gemma", "course", "functiongemma"])
def test_turns_of_weight_0_are_not_learned_from(
    weight: Any, format: str, tiny_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    turns = [USER, {**MODEL, "content": "Bad.", **weight}, {**USER, "weight": 0}, {**MODEL, "weight": 1}]
    row = read(messages=turns, system="Be brief.")
    learned = "".join(piece.text for piece in draft(row, tiny_tokenizer, format).pieces if piece.learned)
    assert "Bad." not in learned
    assert "Yes." in learned
    assert "Bad." in "".join(piece.text for piece in draft(row, tiny_tokenizer, format).pieces)
    write_conversations([row], tmp_path / "held_out.jsonl")
    (again,) = read_held_out(tmp_path / "held_out.jsonl")
    assert again.unlearned == row.unlearned == {2}
    assert what_was_left([row]) == ["the model's turns of weight 0, which are not learned from: 1"]


def test_a_bad_turn_is_not_asked_about() -> None:
    assert len(data_questions([read(messages=[*PLAIN, USER, {**CALLED, "weight": 0}], tools=[CLOCK])])) == 2


def test_a_weight_between_is_refused() -> None:
    with pytest.raises(DataError, match=r"row 1: a message has weight 0\.5"):
        read(messages=[USER, {**MODEL, "weight": 0.5}])


# --- what is refused, and what is not read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"label": False}, "its label is False: a bad reply would be learned"),
        ({"chosen": [MODEL]}, "'chosen': pairs of a better and a worse reply"),
        ({"rejected": "No."}, "'rejected': pairs"),
        ({"images": ["a.png"]}, "'images': only text is read"),
        ({"tool_defs": [CLOCK], "tools": [{"name": "other"}]}, "tools in tools and in tool_defs"),
        ({"messages": [said("user", [{"type": "image_url", "image_url": {}}]), MODEL]}, "a part of type 'image_url'"),
        ({"messages": [{**USER, "images": ["a.png"]}, MODEL]}, "unknown field 'images'"),
    ],
)
def test_what_makes_a_row_mean_something_else_is_refused(more: Any, why: str, tiny_tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"^row 1: ") as caught:
        texts(read(**{"messages": [USER, MODEL], **more}), tiny_tokenizer)
    assert why in str(caught.value)


def test_fields_that_are_not_read_are_counted_once() -> None:
    messages = [{**USER, "timestamp": 5}, {**MODEL, "timestamp": 6}]
    rows = [read(messages=messages, id=1, label=True, split="", images=[], note=None)] * 3
    assert what_was_left(rows) == ["fields that are not read: id 3, label 3, messages.timestamp 3"]


# --- nulls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "kept"),
    [
        ({"type": "string"}, False),
        ({"type": ["string", "null"]}, True),
        ({"type": "string", "nullable": True}, True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, True),
        ({"enum": ["a", None]}, True),
        ({"enum": ["a"]}, False),
        ({"$ref": "#/$defs/maybe"}, True),
        ({"$ref": "#/$defs/sure"}, False),
        ({}, True),
        (None, False),
    ],
)
def test_a_null_is_an_argument_only_where_the_schema_allows_it(schema: Any, kept: bool) -> None:
    defs = {"maybe": {"type": ["integer", "null"]}, "sure": {"type": "integer"}}
    root = {"properties": {"a": schema, "b": {"type": "array", "items": {"properties": {"c": schema}}}}, "$defs": defs}
    if schema is None:
        root = {"properties": {"other": {}}}
    found, count = without_nulls({"a": None, "b": [{"c": None}]} if schema is not None else {"a": None}, root)
    assert ("a" in found, count) == (kept, 0 if kept else 1 + (schema is not None))
    if schema is not None:
        assert found["b"] == ([{"c": None}] if kept else [{}])


def test_nulls_are_counted() -> None:
    assert what_was_left([read(**SAME["nulls of a table"])]) == [
        "nulls that their schema does not allow, and so are no arguments: 1"
    ]


# --- the cases from the field --------------------------------------------------------------------------------------


def test_the_cases_from_the_field_are_read_or_refused(shared: Path, tiny_tokenizer: Tokenizer) -> None:
    folder = shared / "cases"
    if not folder.is_dir():
        pytest.skip("no cases here")
    refused = {}
    for path in sorted(folder.glob("d*.jsonl")):
        try:
            for row in read_conversations(path):
                text, learned = texts(row, tiny_tokenizer)
                assert max(text.count("<tools>\n"), text.count("<tool_response>\n<tool_response>") + 1) == 1
                assert "null" not in learned
        except DataError as error:
            refused[path.stem[:3]] = str(error)
    assert list(refused) == ["d29", "d47"]
    assert "row 6" in refused["d29"]
    assert "label" in refused["d47"]
