"""Rows of data files to conversations and examples: three shapes, real rows, and errors that name the row."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from minifc.data import (
    Audit,
    Conversation,
    Example,
    audit,
    draft,
    make_examples,
    read_conversations,
    with_canonical_calls,
)
from minifc.errors import DataError
from minifc.text.calls import Call, read_call
from minifc.text.messages import ROLES, message_calls
from minifc.text.template import render
from minifc.text.tokenizer import Tokenizer
from minifc.text.turns import parse_calls

USER, MODEL = {"role": "user", "content": "What time is it?"}, {"role": "assistant", "content": "Noon."}
NOW = {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}


def write(path: Path, *rows: Any) -> Path:
    """JSON Lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def counted(rows: list[Conversation], tokenizer: Tokenizer, format: str, tokens: Sequence[str] = ()) -> Audit:
    return audit([draft(row, tokenizer, format, tokens) for row in rows], tokens)


# Shapes


def test_openais_shape(file: Path, tagged_tiny: Tokenizer) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "12:00"},
        MODEL,
    ]
    [row] = read_conversations(write(file, {"messages": messages, "tools": [{"type": "function", "function": NOW}]}))
    called = {"id": "1", "type": "function", "function": {"name": "now", "arguments": {}}}
    assert row.messages == [USER, {"role": "assistant", "tool_calls": [called]}, messages[2], MODEL]
    assert (row.tools, row.verbatim) == ([NOW], False)
    [example] = make_examples([row], tagged_tiny, "gemma", 1000).fitting
    assert parse_calls(example.ids, tagged_tiny) == [Call("now", {})]


@pytest.mark.parametrize("messages", ["messages", "conversations"])
def test_a_system_field_is_a_system_message(file: Path, messages: str) -> None:
    """LLaMA-Factory's and Anthropic's form; in others' rows it is there and empty."""
    system = {"role": "system", "content": "Be brief."}
    given = [{"from": "human", "value": "Hi"}] if messages == "conversations" else [USER, MODEL]
    rows = [{messages: given, "system": text} for text in ("Be brief.", "", None)]
    first, *others = read_conversations(write(file, *rows))
    assert first.messages[0] == system
    assert [len(other.messages) for other in others] == [len(given)] * 2
    with pytest.raises(DataError, match="row 1: a system message, and another"):
        read_conversations(write(file, {"messages": [system, USER, MODEL], "system": "Be kind."}))


def test_tags_that_structured_text_spells_are_counted(tiny_tokenizer: Tokenizer, file: Path) -> None:
    messages = [USER | {"content": "What is <think>?"}, MODEL | {"content": "<think>Hm</think>Noon."}]
    found = counted(read_conversations(write(file, {"messages": messages})), tiny_tokenizer, "gemma")
    assert found.spelled == {"<think>": 1, "</think>": 1}
    assert not found.tags
    found = counted(read_conversations(write(file, {"conversations": messages})), tiny_tokenizer, "gemma")
    assert not found.spelled


def test_sharegpts_shape(file: Path, tagged_tiny: Tokenizer) -> None:
    conversation = [
        {"from": "human", "value": "What time is it?"},
        {
            "from": "function_call",
            "value": '[{"name": "now", "arguments": {}}, {"name": "now", "arguments": {"tz": 1}}]',
        },
        {"from": "observation", "value": "12:00"},
        {"from": "gpt", "value": "Noon."},
    ]
    [row] = read_conversations(write(file, {"conversations": conversation, "tools": json.dumps([NOW])}))
    assert (row.tools, row.verbatim) == ([NOW], False)
    assert [message["role"] for message in row.messages] == ["user", "assistant", "tool", "assistant"]
    [example] = make_examples([row], tagged_tiny, "gemma", 1000).fitting
    assert parse_calls(example.ids, tagged_tiny) == [Call("now", {}), Call("now", {"tz": 1})]


def test_sharegpts_shape_with_tags_in_the_text(file: Path) -> None:
    """As hermes-function-calling-v1 has it: no field for the tools."""
    turns = [("system", "<tools></tools>"), ("human", "a"), ("gpt", "<tool_call>{}</tool_call>"), ("tool", "b")]
    [row] = read_conversations(write(file, {"conversations": [{"from": who, "value": text} for who, text in turns]}))
    assert row.verbatim
    assert row.messages == [{"role": ROLES[who], "content": text} for who, text in turns]


def test_the_courses_shape(
    tiny_tokenizer: Tokenizer, course_rows: list[tuple[list[dict[str, Any]], str]], file: Path, tagged: Tokenizer
) -> None:
    """The course's rows, read from a file, become its ids."""
    rows = read_conversations(write(file, *({"conversations": messages} for messages, _ in course_rows)))
    examples = make_examples(rows, tagged, "course", 10_000)
    texts = [text for _, text in course_rows]
    assert [example.ids for example in examples.fitting] == [tagged.encode(text, control_tokens=True) for text in texts]
    assert [example.source for example in examples.fitting] == [f"{file}, row 1", f"{file}, row 2"]
    found = counted(rows, tiny_tokenizer, "course")
    assert found.tags == Counter({tag: sum(text.count(tag) for text in texts) for tag in found.tags})
    assert set(found.tags) == {
        f"<{slash}{name}>" for name in ("tools", "think", "tool_call", "tool_response") for slash in ("", "/")
    }
    assert found.unknown == Counter()


@pytest.mark.parametrize("layout", ["lines", "list", "indented list", "blank lines", "one object"])
def test_json_and_json_lines(file: Path, layout: str) -> None:
    row = {"messages": [USER, MODEL]}
    line = json.dumps(row)
    file.write_text(
        {
            "lines": f"{line}\n{line}\n{line}",
            "list": json.dumps([row] * 3),
            "indented list": json.dumps([row] * 3, indent=2),
            "blank lines": f"\n{line}\n\n{line}\n{line}\n\n",
            "one object": json.dumps(row, indent=2),
        }[layout],
        encoding="utf-8",
    )
    rows = read_conversations(file)
    assert [row.messages for row in rows] == [[USER, MODEL]] * (1 if layout == "one object" else 3)
    assert [row.source for row in rows] == [f"{file}, row {number}" for number in range(1, len(rows) + 1)]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085"])
def test_only_a_line_break_ends_a_json_line(file: Path, character: str) -> None:
    """JSON allows these inside a string as they are, and Python's splitlines breaks at them."""
    text = f"one{character}two"
    rows = read_conversations(write(file, *[{"messages": [{"role": "user", "content": text}, MODEL]}] * 2))
    assert [row.messages[0]["content"] for row in rows] == [text, text]


def test_a_row_without_tools_may_say_so(file: Path) -> None:
    for tools in ([], "[]", "", None):
        [row] = read_conversations(write(file, {"messages": [USER, MODEL], "tools": tools}))
        assert list(row.tools) == []


# Real rows: 300 conversations, most with tools


@pytest.fixture(scope="module")
def glaive(shared: Path) -> list[dict[str, Any]]:
    """The file as JSON, for counting without our reader."""
    return json.loads((shared / "data" / "glaive" / "glaive_toolcall_en_demo.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def glaive_rows(shared: Path) -> list[Conversation]:
    return read_conversations(shared / "data" / "glaive" / "glaive_toolcall_en_demo.json")


def count(glaive: list[dict[str, Any]], role: str) -> int:
    return sum(message["from"] == role for row in glaive for message in row["conversations"])


def test_glaive_is_read_whole(glaive: list[dict[str, Any]], glaive_rows: list[Conversation]) -> None:
    assert len(glaive_rows) == len(glaive) == 300
    assert [len(row.messages) for row in glaive_rows] == [len(row["conversations"]) for row in glaive]
    assert [list(row.tools) for row in glaive_rows] == [json.loads(row["tools"] or "[]") for row in glaive]
    assert not any(row.verbatim for row in glaive_rows)


def test_glaives_audit(
    tiny_tokenizer: Tokenizer, glaive: list[dict[str, Any]], glaive_rows: list[Conversation]
) -> None:
    """One pair of tags for each call, result and list of tools; nobody thinks aloud in these rows."""
    number = {
        "tools": sum(bool(json.loads(row["tools"] or "[]")) for row in glaive),
        "tool_call": count(glaive, "function_call"),
        "tool_response": count(glaive, "observation"),
    }
    expected = {f"<{slash}{name}>": times for name, times in number.items() for slash in ("", "/")}
    found = counted(glaive_rows, tiny_tokenizer, "gemma")
    assert found.tags == expected
    assert found.unknown == Counter()
    # The course's format puts its sentence about <think> beneath every list of tools.
    thoughts = dict.fromkeys(("<think>", "</think>"), number["tools"])
    assert counted(glaive_rows, tiny_tokenizer, "course").tags == expected | thoughts


@pytest.mark.parametrize("format", ["course", "gemma"])
def test_glaives_calls(
    glaive: list[dict[str, Any]], glaive_rows: list[Conversation], tagged: Tokenizer, format: Any
) -> None:
    """Every function_call, and nothing else, is a call in the rendered ids."""
    examples = make_examples(glaive_rows, tagged, format, 10**6)
    assert (len(examples.fitting), examples.too_long) == (300, [])
    got = [parse_calls([id_ for id_, on in zip(e.ids, e.mask, strict=True) if on], tagged) for e in examples.fitting]
    expected = [
        [read_call(message["value"]) for message in row["conversations"] if message["from"] == "function_call"]
        for row in glaive
    ]
    assert got == expected
    assert sum(map(len, got)) == count(glaive, "function_call") == 211


def test_glaives_model_turns_all_end_supervised(
    glaive: list[dict[str, Any]], glaive_rows: list[Conversation], tagged_tiny: Tokenizer
) -> None:
    end = tagged_tiny.end_of_turn_id
    for row, example in zip(glaive, make_examples(glaive_rows, tagged_tiny, "gemma", 10**6).fitting, strict=True):
        learned = sum(on and id_ == end for id_, on in zip(example.ids, example.mask, strict=True))
        assert learned == sum(message["from"] in ("gpt", "function_call") for message in row["conversations"])
        assert example.ids.count(tagged_tiny.bos_id) == 1


# Examples


def test_a_long_conversation_is_reported_and_never_cut(tagged_tiny: Tokenizer) -> None:
    rows = [Conversation([USER, {**MODEL, "content": "Noon. " * times}], source=f"row {times}") for times in (1, 50, 2)]
    lengths = [len(render(row.messages, tagged_tiny, format="gemma").ids) for row in rows]
    examples = make_examples(rows, tagged_tiny, "gemma", lengths[2])
    assert [(example.source, len(example.ids)) for example in examples.fitting] == [
        ("row 1", lengths[0]),
        ("row 2", lengths[2]),
    ]
    assert [(example.source, len(example.ids)) for example in examples.too_long] == [("row 50", lengths[1])]


def test_a_long_conversation_is_cut_where_asked(tagged_tiny: Tokenizer) -> None:
    """Every token comes up once, in order; a piece without anything to learn from does not."""
    row = Conversation([USER, {**MODEL, "content": "Noon. " * 20}], source="here")
    rendered = render(row.messages, tagged_tiny, format="gemma")
    # The end of the turn and the newline after it do not fill a piece of their own, where nothing would be learned.
    length = next(length for length in range(8, 16) if len(rendered.ids) % length > 2)
    examples = make_examples([row], tagged_tiny, "gemma", length, cut=True)
    first = rendered.mask.index(True)
    assert len(examples.too_long) == 1
    pieces = examples.fitting
    assert all(len(piece.ids) <= length for piece in pieces)
    assert [id_ for piece in pieces for id_ in piece.ids] == rendered.ids[first // length * length :]
    assert sum(sum(piece.mask) for piece in pieces) == sum(rendered.mask)


def test_every_token_is_learned_from_where_asked(tagged_tiny: Tokenizer) -> None:
    row = Conversation([USER, MODEL])
    [example] = make_examples([row], tagged_tiny, "course", 1000, every_token=True).fitting
    assert all(example.mask)
    assert example.ids == render(row.messages, tagged_tiny, format="course").ids


def test_calls_in_text_become_canonical(file: Path) -> None:
    """As the lean recipe does: with the schema's order, in model turns only."""
    properties = {"type": "object", "properties": {"a": {}, "b": {}}}
    system = f"Tools: <tools>[{{'name': 'add', 'parameters': {properties}}}]</tools> like <tool_call>{{x}}</tool_call>"
    call = "<tool_call>\n{'name': 'add', 'arguments': {'b': 2, 'a': 1}}\n</tool_call>"
    messages = [{"role": "human", "content": system}, {"role": "model", "content": call}]
    [row] = read_conversations(write(file, {"conversations": messages}))
    rewritten = with_canonical_calls(row)
    assert rewritten.messages[0] == {"role": "user", "content": system}
    canonical = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    assert rewritten.messages[1] == {"role": "assistant", "content": canonical}
    messages[1]["content"] = "<tool_call>\n{'name': }\n</tool_call>"
    [row] = read_conversations(write(file, {"conversations": messages}))
    with pytest.raises(DataError, match=r"rows\.jsonl, row 1: neither JSON nor a Python literal"):
        with_canonical_calls(row)


def test_structured_conversations_are_canonical_already(glaive_rows: list[Conversation]) -> None:
    assert [with_canonical_calls(row) for row in glaive_rows] == glaive_rows


def test_an_example_is_the_rendered_conversation(tagged_tiny: Tokenizer) -> None:
    row = Conversation([USER, MODEL], [NOW], source="here")
    rendered = render(row.messages, tagged_tiny, row.tools, "course")
    [example] = make_examples([row], tagged_tiny, "course", 1000).fitting
    assert example == Example(rendered.ids, rendered.mask, "here")


def test_audit_names_a_misspelled_tag(tiny_tokenizer: Tokenizer, file: Path) -> None:
    """The notebook registered `<tool_reponse>`; a row that holds such a tag is told apart (FAILURES.md, 15)."""
    messages = [{"role": "human", "content": "a"}, {"role": "tool", "content": "<tool_reponse>b</tool_reponse>"}, MODEL]
    found = counted(read_conversations(write(file, {"conversations": messages})), tiny_tokenizer, "course")
    assert found.unknown == Counter({"<tool_reponse>": 1})
    assert found.tags == Counter()


def test_audit_names_misspelled_closings(tiny_tokenizer: Tokenizer, file: Path) -> None:
    """After </thnik> the rest of the turn would count as thought."""
    text = "<think>a</thnik> <b>x</b> <Tool_Call>{}</Tool_Call> <tool-call>{}</tool-call> </div>"
    rows = read_conversations(write(file, {"conversations": [USER, {"role": "model", "content": text}]}))
    assert set(counted(rows, tiny_tokenizer, "course").unknown) == {"</thnik>", "<b>", "<Tool_Call>", "<tool-call>"}


def test_a_table_s_empty_fields_are_no_arguments(tmp_path: Path) -> None:
    """In a table a row's objects have the fields of all other rows' too, as nulls."""
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").Table

    def row(name: str, key: str, value: Any) -> dict[str, Any]:
        schema = {"type": "object", "properties": {key: {"type": "string"}}}
        call = {"function": {"name": name, "arguments": {key: value}}}
        return {
            "messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}],
            "tools": [{"name": name, "parameters": schema}],
        }

    given = [row("weather", "city", "Rome"), row("pay", "amount", "3")]
    parquet.write_table(table.from_pylist(given), tmp_path / "rows.parquet")
    for found, right in zip(read_conversations(tmp_path / "rows.parquet"), given, strict=True):
        assert list(found.tools) == right["tools"]
        assert message_calls(found.messages[1]) == message_calls(right["messages"][1])


def test_audit_counts_tokens_it_is_asked_about(tiny_tokenizer: Tokenizer, file: Path) -> None:
    """So that one which never occurs can be named before training."""
    messages = [{"role": "human", "content": "<plan>a</plan> <plan>"}, MODEL]
    rows = read_conversations(write(file, {"conversations": messages}))
    found = counted(rows, tiny_tokenizer, "course", ["<plan>", "<absent>"])
    assert found.tags == Counter({"<plan>": 2})


# Errors


@pytest.mark.parametrize("content", ["", " \n\n", "[]"])
def test_a_file_without_rows(file: Path, content: str) -> None:
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{re.escape(str(file))}.*empty"):
        read_conversations(file)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(DataError, match=f"{re.escape(str(file))}: cannot be read"):
        read_conversations(file)
    with pytest.raises(DataError, match=r"a folder without a \.parquet, \.json or \.jsonl file"):
        read_conversations(file.parent)


def test_a_folder_of_files(file: Path) -> None:
    """As a download leaves it: parquet before JSON, and hidden folders are not data."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = {"conversations": [USER, MODEL]}
    (file.parent / ".cache").mkdir()
    (file.parent / ".cache" / "rows.jsonl").write_text("not data")
    write(file, row, row)
    assert len(read_conversations(file.parent)) == 2
    (file.parent / "data").mkdir()
    parquet.write_table(pyarrow.Table.from_pylist([row]), file.parent / "data" / "train.parquet")
    [read] = read_conversations(file.parent)
    assert [dict(message) for message in read.messages] == [USER, MODEL]
    assert read.source.endswith("train.parquet, row 1")
    (file.parent / "data" / "train.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read as parquet"):
        read_conversations(file.parent)


def test_a_file_that_is_not_text(file: Path) -> None:
    file.write_bytes(b'{"messages": "\xff"}')
    with pytest.raises(DataError, match="not UTF-8 text at byte 14"):
        read_conversations(file)


@pytest.mark.parametrize("bad", ["not json", '{"messages": [', "[" * 100_000, "{'messages': []}"])
def test_a_line_that_is_not_json(file: Path, bad: str) -> None:
    file.write_text(json.dumps({"messages": [USER, MODEL]}) + f"\n\n{bad}\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"{re.escape(str(file))}, row 2: line 3 .*JSON"):
        read_conversations(file)


def learn_from(file: Path, tokenizer: Tokenizer, with_audit: bool) -> None:
    rows = read_conversations(file)
    if with_audit:
        counted(rows, tokenizer, "gemma")
    make_examples(rows, tokenizer, "gemma", 1000)


def complaint(file: Path, bad: Any, tokenizer: Tokenizer, with_audit: bool = True) -> str:
    """A good row, then a bad one: what whoever finds it says, be it reading, audit or rendering."""
    file.write_text("\n".join(map(json.dumps, ({"messages": [USER, MODEL]}, bad))), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        learn_from(file, tokenizer, with_audit)
    return str(caught.value)


CALLING = {"role": "assistant", "content": None, "tool_calls": [{"name": "now", "arguments": {}}]}
HUMAN, GPT = {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}
BAD_ROWS: dict[str, Any] = {
    "a number": 5,
    "null": None,
    "a list": [USER, MODEL],
    "no messages": {"text": "rendered already"},
    "no message": {"messages": []},
    "messages a string": {"messages": "hello"},
    "messages of strings": {"messages": ["hello"]},
    "an unknown role": {"messages": [USER, {"role": "wizard", "content": "x"}]},
    "an unknown role in ShareGPT": {"conversations": [HUMAN, {"from": "wizard", "value": "x"}]},
    "an unknown field": {"messages": [USER, {**MODEL, "calls": [1]}]},
    "no role": {"messages": [USER, {"content": "x"}]},
    "no content": {"messages": [USER, {"role": "assistant"}]},
    "no value": {"conversations": [HUMAN, {"from": "gpt"}]},
    "a number for content": {"messages": [{"role": "user", "content": 5}, MODEL]},
    "a number for value": {"conversations": [{"from": "human", "value": 5}, GPT]},
    "a late system message": {"messages": [USER, {"role": "system", "content": "x"}, MODEL]},
    "a system message alone": {"messages": [{"role": "system", "content": "x"}]},
    "nothing to learn from": {"messages": [USER]},
    "nothing to learn from either": {"conversations": [HUMAN, {"from": "observation", "value": "x"}]},
    "tools that are no JSON": {"messages": [USER, MODEL], "tools": "[{"},
    "tools an object": {"messages": [USER, MODEL], "tools": NOW},
    "tools a number": {"messages": [USER, MODEL], "tools": 5},
    "a tool without name": {"messages": [USER, MODEL], "tools": [{"description": "x"}]},
    "a tool that is null": {"messages": [USER, MODEL], "tools": [None]},
    "parameters a list": {"messages": [USER, CALLING], "tools": [{"name": "now", "parameters": []}]},
    "a call that is no JSON": {"conversations": [HUMAN, {"from": "function_call", "value": "now("}], "tools": "[]"},
    "a call that is a string": {"conversations": [HUMAN, {"from": "function_call", "value": '"now"'}], "tools": "[]"},
    "a call that is null": {"conversations": [HUMAN, {"from": "function_call", "value": None}], "tools": "[]"},
    "a call without name": {"conversations": [HUMAN, {"from": "function_call", "value": "{}"}], "tools": "[]"},
    "tool_calls of strings": {"messages": [USER, {**CALLING, "tool_calls": ["now"]}]},
    "tool_calls an object": {"messages": [USER, {**CALLING, "tool_calls": {"name": "now"}}]},
    "a tool result that JSON does not have": {"messages": [USER, MODEL, {"role": "tool", "content": float("nan")}]},
    "calls beside verbatim text": {
        "conversations": [USER, CALLING, {"role": "model", "content": "<tool_call>{}</tool_call>"}]
    },
    "half a surrogate pair": {"messages": [{"role": "user", "content": "\ud83d"}, MODEL]},
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_named(file: Path, tagged_tiny: Tokenizer, name: str) -> None:
    for with_audit in (True, False):
        assert complaint(file, BAD_ROWS[name], tagged_tiny, with_audit).startswith(f"{file}, row 2: ")


WORDLESS = r"object has no attribute|object is not iterable|row 2: '\w+'$"


@pytest.mark.parametrize(
    "name", ["tools an object", "tools a number", "a tool that is null", "a call that is null", "no value"]
)
def test_a_bad_row_is_explained(file: Path, tagged_tiny: Tokenizer, name: str) -> None:
    """In words for the one who has the file, not Python's about its own objects."""
    assert not re.search(WORDLESS, complaint(file, BAD_ROWS[name], tagged_tiny))


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"properties": None}])
def test_a_tool_without_parameters_is_no_error(file: Path, tagged_tiny: Tokenizer, parameters: Any) -> None:
    """APIs write such tools as they like; a call of one is rendered as any other."""
    row = {"messages": [USER, CALLING], "tools": [{"name": "now", "parameters": parameters}]}
    [example] = make_examples(read_conversations(write(file, row)), tagged_tiny, "gemma", 1000).fitting
    assert parse_calls(example.ids, tagged_tiny) == [Call("now", {})]
