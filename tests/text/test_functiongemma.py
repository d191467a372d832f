"""The format functiongemma: rendered as the published template renders, and calls read back by token.

The template itself is Google's and not part of the repository; MINIFC_FUNCTIONGEMMA_TEMPLATE names a file with it. The
renderings written out below were compared with it once, and are compared again wherever it is at hand.
"""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from random_conversations import PIECES, Drawing, called
from transformers import AutoTokenizer

import minifc
from minifc.data import Conversation, audit, draft
from minifc.data.learning import tokens_to_add
from minifc.errors import CallError, TemplateError
from minifc.text.calls import MAX_DEPTH, MAX_LENGTH, Call, as_listed
from minifc.text.dialects import DELIMITER, exported_template
from minifc.text.dialects.functiongemma import FUNCTIONGEMMA, TOKENS, read_call, write_call
from minifc.text.messages import normal_messages
from minifc.text.template import render, stop_ids
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.text.turns import call_texts, parse_calls, read_turn

FORMAT: Any = "functiongemma"
DEVELOPER = "You are a model that can do function calling with the following functions"
E = "<escape>"
Published = Callable[..., str]


@pytest.fixture(scope="session")
def taught(tiny: Path) -> Tokenizer:
    """The tiny tokenizer with FunctionGemma's tokens."""
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens(FUNCTIONGEMMA.tokens)
    return tokenizer


@pytest.fixture(scope="session")
def published() -> Published:
    """Google's template, run as transformers runs it."""
    name = os.environ.get("MINIFC_FUNCTIONGEMMA_TEMPLATE")
    if not name:
        pytest.skip("MINIFC_FUNCTIONGEMMA_TEMPLATE is not set: the published template is not part of the repository")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = refuse
    template = environment.from_string(Path(name).read_text(encoding="utf-8"))

    def run(messages: Any, tools: Any, prompt: bool) -> str:
        wrapped = [{"type": "function", "function": tool} for tool in tools]
        if tools and messages[0]["role"] not in ("system", "developer"):
            messages = [{"role": "developer", "content": DEVELOPER}, *messages]
        return template.render(messages=messages, tools=wrapped, bos_token="<bos>", add_generation_prompt=prompt)

    return run


# --- rendering -----------------------------------------------------------------------------------------------------

WEATHER = {
    "name": "get_weather",
    "description": "Gets the weather.",
    "parameters": {
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": 'City, e.g. "Rome"'},
            "Days": {"type": "array", "items": {"type": "integer"}, "description": "Which"},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "at": {"type": "object", "properties": {"hour": {"type": "number"}}, "required": ["hour"]},
            "type": {"type": "string", "description": "never declared"},
        },
        "required": ["place", "unit"],
    },
}
DECLARED = (
    f"<start_function_declaration>declaration:get_weather{{description:{E}Gets the weather.{E},"
    f"parameters:{{properties:{{at:{{description:{E}{E},properties:{{hour:{{description:{E}{E},type:{E}NUMBER{E}}}}},required:[{E}hour{E}],"
    f"type:{E}OBJECT{E}}},Days:{{description:{E}Which{E},items:{{type:{E}INTEGER{E}}},type:{E}ARRAY{E}}},"
    f'place:{{description:{E}City, e.g. "Rome"{E},type:{E}STRING{E}}},'
    f"unit:{{description:{E}{E},enum:[{E}C{E},{E}F{E}],type:{E}STRING{E}}}}},"
    f"required:[{E}place{E},{E}unit{E}],type:{E}OBJECT{E}}}}}<end_function_declaration>"
)
NOW: dict[str, Any] = {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}
ASKED = [{"role": "user", "content": " How warm? "}]


# messages, tools, whether the prompt of a turn follows, text
EXPECTED: list[tuple[Any, Any, bool, str]] = [
    (
        ASKED,
        [WEATHER],
        True,
        f"<bos><start_of_turn>developer\n{DEVELOPER}{DECLARED}<end_of_turn>\n"
        "<start_of_turn>user\nHow warm?<end_of_turn>\n<start_of_turn>model\n",
    ),
    (
        [{"role": "developer", "content": [{"type": "text", "text": text} for text in (" Be ", "brief.")]}, *ASKED],
        [NOW],
        False,
        "<bos><start_of_turn>developer\nBebrief.<start_function_declaration>declaration:now{"
        f"description:{E}The time.{E},parameters:{{type:{E}OBJECT{E}}}}}<end_function_declaration><end_of_turn>\n"
        "<start_of_turn>user\nHow warm?<end_of_turn>\n",
    ),
    (
        [{"role": "system", "content": "Be brief."}, *ASKED, {"role": "assistant", "content": " Yes.\n"}],
        [],
        False,
        "<bos><start_of_turn>developer\nBe brief.<end_of_turn>\n<start_of_turn>user\nHow warm?<end_of_turn>\n"
        "<start_of_turn>model\nYes.<end_of_turn>\n",
    ),
    (
        [
            *ASKED,
            called(
                ("f", {"b": None, "A": "x", "list": [1, 1.0, 1e20, -5e-324, True, {"k": {}, "J": []}]}),
                ("now", {}),
                content="Let me see.",
            ),
            {"role": "tool", "name": "f", "content": "15 {C}"},
            {"role": "tool", "name": "now", "content": {"hour": 3, "Day": "Mo", "ok": False}},
            {"role": "assistant", "content": "It is 15."},
            {"role": "user", "content": "Thanks."},
        ],
        [],
        True,
        "<bos><start_of_turn>user\nHow warm?<end_of_turn>\n<start_of_turn>model\nLet me see."
        f"<start_function_call>call:f{{A:{E}x{E},b:None,list:[1,1.0,1e+20,-5e-324,true,{{J:[],k:{{}}}}]}}<end_function_call>"
        "<start_function_call>call:now{}<end_function_call>"
        f"<start_function_response>response:f{{value:{E}15 {{C}}{E}}}<end_function_response>"
        f"<start_function_response>response:now{{Day:{E}Mo{E},hour:3,ok:false}}<end_function_response>"
        "It is 15.<end_of_turn>\n<start_of_turn>user\nThanks.<end_of_turn>\n<start_of_turn>model\n",
    ),
    (
        [*ASKED, called(("now", {})), {"role": "tool", "content": [{"name": "now", "response": {"hour": 3}}]}],
        [],
        True,
        "<bos><start_of_turn>user\nHow warm?<end_of_turn>\n<start_of_turn>model\n"
        "<start_function_call>call:now{}<end_function_call>"
        "<start_function_response>response:now{hour:3}<end_function_response>",
    ),
    (
        [*ASKED, called(("now", {}))],
        [],
        False,
        "<bos><start_of_turn>user\nHow warm?<end_of_turn>\n<start_of_turn>model\n"
        "<start_function_call>call:now{}<end_function_call><start_function_response>",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "tools", "prompt", "text"), EXPECTED)
def test_what_is_rendered(taught: Tokenizer, messages: Any, tools: Any, prompt: bool, text: str) -> None:
    rendered = render(messages, taught, tools, FORMAT, prompt)
    assert rendered.text == text
    assert rendered.ids == taught.encode(text, control_tokens=True)


@pytest.mark.parametrize(("messages", "tools", "prompt", "text"), EXPECTED)
def test_so_does_the_published_template(
    published: Published, messages: Any, tools: Any, prompt: bool, text: str
) -> None:
    assert published(messages, tools, prompt) == text


@pytest.mark.parametrize("block", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))])
def test_random_conversations_are_the_published_templates(taught: Tokenizer, published: Published, block: int) -> None:
    """Text and ids of 500 conversations, as they stand once arguments are in the order of their schemas."""
    forgeries = 0
    for seed in range(500 * block, 500 * block + 500):
        drawing = Drawing(seed)
        messages, tools = drawing.conversation(), [drawing.tool() for _ in range(drawing.rng.randint(0, 2))]
        prompt = drawing.rng.random() < 0.5
        rendered = render(messages, taught, tools, FORMAT, prompt)
        schemas = {tool["name"]: tool.get("parameters") for tool in tools}
        listed = normal_messages(messages)
        for call in (call["function"] for message in listed for call in message.get("tool_calls", ())):
            call["arguments"] = as_listed(call["arguments"], schemas.get(call["name"]))
        text = published(listed, tools, prompt)
        assert rendered.text == text, seed
        if any(token in json.dumps([messages, tools]) for token in ("<escape>", "<end_f", "<start")):
            forgeries += 1
        else:
            assert rendered.ids == taught.encode(text, control_tokens=True), seed
    assert 0 < forgeries < 500


def test_the_exported_template_renders_the_same_in_transformers(taught: Tokenizer, tmp_path: Path) -> None:
    """Ids, and which of them are learned from."""
    taught.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path, chat_template=exported_template(FORMAT, taught, training=True))
    harmless = [piece for piece in PIECES if not piece.startswith("<")]
    for seed in range(150):
        drawing = Drawing(seed, harmless)
        messages, tools = drawing.conversation(), [drawing.tool() for _ in range(drawing.rng.randint(0, 2))]
        rendered = render(messages, taught, tools, FORMAT)
        found = theirs.apply_chat_template(
            messages, tools=tools or None, return_dict=True, return_assistant_tokens_mask=True
        )
        assert found["input_ids"] == rendered.ids, seed
        assert [bool(mask) for mask in found["assistant_masks"]] == rendered.mask, seed


def test_content_is_never_a_token(taught: Tokenizer) -> None:
    """The same conversation with spelled tokens in every place has the same control tokens."""

    def control(said: str) -> list[int]:
        tool = {
            "name": "f",
            "description": said,
            "parameters": {"type": "object", "properties": {"a": {"enum": [said]}}},
        }
        messages = [
            {"role": "developer", "content": said},
            {"role": "user", "content": said},
            called(("f", {"a": said, "b": {said: [said]}}), content=said, thinking=said),
            {"role": "tool", "name": said, "content": {said: said}},
            {"role": "assistant", "content": said},
        ]
        ids = render(messages, taught, [tool], FORMAT).ids
        return [id_ for id_ in ids if id_ in taught.control.values()]

    assert control("".join(token.replace("", " ") for token in TOKENS)) == control("".join(TOKENS))


def test_the_models_turns_are_learned_with_what_ends_them(taught: Tokenizer) -> None:
    messages = [*ASKED, called(("now", {})), {"role": "tool", "content": "3"}, {"role": "assistant", "content": "3."}]
    rendered = render(messages, taught, [NOW], FORMAT)
    learned = [id_ for id_, mask in zip(rendered.ids, rendered.mask, strict=True) if mask]
    assert taught.decode(learned) == (
        "<start_function_call>call:now{}<end_function_call><start_function_response>3.<end_of_turn>"
    )
    assert set(stop_ids(taught, FORMAT)) == {
        taught.control[name] for name in ("<eos>", "<end_of_turn>", "<start_function_response>")
    }


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ([{"tool_call_id": "2", "content": "B"}, {"tool_call_id": "1", "content": "A"}], "f{value:A} g{value:B}"),
        ([{"tool_call_id": "2", "content": "B"}], "g{value:B}"),
        ([{"content": 15}, {"content": None}], "f{value:15} g{value:None}"),
        ([{"content": ""}, {"content": {}}], "f{value:} g{}"),
        ([{"content": []}, {"content": [1, "x"]}], "f{value:[]} g{value:[1,x]}"),
        ([{"content": [{"a": 1}, {"b": 2}]}, {"content": True}], "f{a:1} f{b:2} g{value:true}"),
        ([{"content": {"name": "h", "response": {"a": 1}}}, {"content": "B"}], "h{a:1} g{value:B}"),
        ([{"content": {"name": "h", "response": 1}}, {"content": "B"}], "f{name:h,response:1} g{value:B}"),
    ],
)
def test_a_result_has_the_name_of_its_call(taught: Tokenizer, results: Any, text: str) -> None:
    """By its id, or else by its place; and an empty one is said too."""
    calls = [{"id": id_, "function": {"name": name, "arguments": {}}} for id_, name in (("1", "f"), ("2", "g"))]
    answers = [{"role": "tool", **result} for result in results]
    rendered = render([*ASKED, {"role": "assistant", "tool_calls": calls}, *answers], taught, format=FORMAT)
    found = re.findall(r"response:(.*?)<end_function_response>", rendered.text)
    assert " ".join(found).replace(E, "") == text
    assert rendered.text.count("<start_function_response>") == len(found)


ANSWER = {"role": "assistant", "content": "Yes."}


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([*ASKED, called(("now", {})), *ASKED], r"message 2 \(user\): the calls before it have no result"),
        ([*ASKED, called(("now", {})), ANSWER], r"message 2 \(assistant\): the calls before it have no result"),
        ([*ASKED, called(("now", {})), {"role": "tool", "content": 1}, *ASKED], r"message 3 \(user\): after a result"),
        ([*ASKED, {"role": "tool", "content": 1}], r"message 1 \(tool\): a result needs the name"),
        ([*ASKED, called(("f", {"a:b": 1}))], r"message 1 \(assistant\): the key 'a:b' cannot be written"),
        ([*ASKED, called(("f", {"a": [{"": 1}]}))], r"message 1 \(assistant\): the key '' cannot be written"),
        ([*ASKED, called(("f{", {}))], r"message 1 \(assistant\): the name 'f{' cannot be written"),
        ([*ASKED, {"role": "assistant", "content": None}], r"message 1 \(assistant\): content is not a string"),
        ([{"role": "user", "content": [{"type": "image"}]}], r"message 0 \(user\): content has a part that is not"),
        ([{"role": "user", "content": "x", "audio": "y"}], r"message 0 \(user\): unknown field 'audio'"),
    ],
)  # fmt: skip
def test_what_could_not_be_told_apart_is_refused(taught: Tokenizer, messages: Any, why: str) -> None:
    with pytest.raises(TemplateError, match=why):
        render(messages, taught, format=FORMAT)


def test_verbatim_text_is_refused(taught: Tokenizer) -> None:
    with pytest.raises(TemplateError, match="text that holds tags itself"):
        render([*ASKED, ANSWER], taught, format=FORMAT, verbatim=True)


def test_thoughts_are_written_before_the_rest(taught: Tokenizer) -> None:
    rendered = render([*ASKED, called(("now", {}), thinking=" Hm. ", content="So:")], taught, format=FORMAT)
    assert rendered.text.endswith(
        "<think>Hm.</think>So:<start_function_call>call:now{}<end_function_call><start_function_response>"
    )
    prompt = render(ASKED, taught, format=FORMAT, add_generation_prompt=True, think=True)
    assert prompt.ids[-1] == taught.control["<think>"]


# --- calls ---------------------------------------------------------------------------------------------------------

keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=":,{}[]"), min_size=1, max_size=4)
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from([E, "<end_function_call>"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{"), min_size=1, max_size=5)
calls = st.builds(Call, names, st.dictionaries(keys, values, max_size=3))


@given(call=calls)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_is_written_is_read_back(call: Call) -> None:
    text = write_call(call)
    read = read_call(text)
    assert repr(read) == repr(Call(call.name, _sorted(call.arguments)))
    assert write_call(read) == text


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=str.lower)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@given(call=calls)
@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_template_writes_the_same(taught: Tokenizer, call: Call) -> None:
    """And from its ids the call is read, whatever its strings spell."""
    message = called((call.name, call.arguments))
    if "\u2581" in json.dumps([call.name, call.arguments], ensure_ascii=False):
        return  # the tokenizer takes it for a space
    rendered = render([*ASKED, message], taught, format=FORMAT)
    assert write_call(call).replace(DELIMITER, E) in rendered.text
    ids = [id_ for id_, mask in zip(rendered.ids, rendered.mask, strict=True) if mask]
    (read,) = parse_calls(ids, taught, FORMAT)
    assert repr(read) == repr(Call(call.name, _sorted(call.arguments)))


def test_arguments_follow_the_schema_where_the_alphabet_does_not_decide() -> None:
    tool = {"parameters": {"type": "object", "properties": {"B": {}, "b": {}, "n": {"type": "integer"}}}}
    assert write_call(Call("f", {"n": 2.0, "b": 1, "B": 2}), tool) == "call:f{B:2,b:1,n:2}"
    assert write_call(Call("f", {"n": 2.0, "b": 1, "B": 2})) == "call:f{b:1,B:2,n:2.0}"


def marked(text: str) -> str:
    return text.replace(E, DELIMITER)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("None", None),
        ("-0.5e-3", -0.0005),
        ("[]", []),
        (f"{E}a,b:{{c}}\n'\"\\{E}", "a,b:{c}\n'\"\\"),
        ("{x y:1}", {"x y": 1}),
        (str(10**400), 10**400),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert read_call(marked(f"call:f{{a:{text}}}")) == Call("f", {"a": value})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a call is call:name{...}, not the end"),
        ("f{}", "a call is call:name"),
        ("call:{}", "a call is call:name"),
        ("call:f", "a call is call:name"),
        ("call:f{", "no key at character 7: the end"),
        ("call:f{}}", "'}' follows the arguments of f"),
        ("call:f{a}", "no key at character 7"),
        ("call:f{a:}", "no value at character 9: '}'"),
        ("call:f{a:1 }", "neither a comma nor a closing bracket"),
        ("call:f{a:1,}", "no key"),
        ("call:f{a:1,a:2}", "the key 'a' stands twice"),
        ("call:f{a:Rome}", "no value at character 9: 'Rome}'"),
        (f"call:f{{a:{E}Rome}}", "no value at character 9"),
        (f"call:f{{a:{E}Rome{E}x}}", "neither a comma"),
        ("call:f{a:01}", "no value"),
        ("call:f{a:NaN}", "no value"),
        ("call:f{a:True}", "no value"),
        ("call:f{a:1e999}", "too large"),
        ("call:f{a:٣}", "no value"),
        (f"call:f{{{E}a{E}:1}}", "no key"),
        ("call:f{a:" + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", f"nested more than {MAX_DEPTH} deep"),
        (f"call:f{{a:{E}" + "x" * MAX_LENGTH + f"{E}}}", f"at most {MAX_LENGTH} are read"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, why: str) -> None:
    with pytest.raises(CallError, match=re.escape(why)) as error:
        read_call(marked(text))
    assert DELIMITER not in str(error.value)


@pytest.mark.parametrize(
    "call", [Call("f", {"a": "\ud800"}), Call("f", {"\udcff": 1}), Call("", {}), Call("\udcff", {}), Call("f", {1: 2})]
)
def test_what_cannot_be_written_is_refused(call: Call) -> None:
    with pytest.raises(CallError):
        write_call(call)


def test_strings_end_at_the_token_and_not_at_its_spelling(taught: Tokenizer) -> None:
    delimiter = taught.control[E]

    def turn(inside: list[int]) -> list[int]:
        before, after = taught.encode("call:f{a:"), taught.encode("}")
        call = [*before, delimiter, *inside, delimiter, *after]
        return [taught.control["<start_function_call>"], *call, taught.control["<end_function_call>"]]

    spelled = "x<escape>,b:<escape>y<end_function_call>"
    assert parse_calls(turn(taught.encode(spelled)), taught, FORMAT) == [Call("f", {"a": spelled})]
    ids = [*taught.encode("x"), delimiter, *taught.encode(",b:"), delimiter, *taught.encode("y")]
    assert parse_calls(turn(ids), taught, FORMAT) == [Call("f", {"a": "x", "b": "y"})]


def test_a_turn_in_parts(taught: Tokenizer) -> None:
    text = f"<think>Hm{E}</think>So <start_function_call>call:f{{a:{E}x{E}}}<end_function_call>"
    ids = taught.encode(text, control_tokens=True)
    assert read_turn(ids, taught, FORMAT) == [
        ("thought", f"Hm{E}"), ("text", "So "), ("call", f"call:f{{a:{DELIMITER}x{DELIMITER}}}"),
    ]  # fmt: skip
    for left_open in (ids[:-1], [*ids[:-1], taught.control["<start_function_call>"]]):
        with pytest.raises(CallError, match=r"not closed|inside a call"):
            read_turn(left_open, taught, FORMAT)


def test_without_the_tokens_the_spelling_counts(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    ids = tokenizer.encode(f"<start_function_call>call:f{{a:{E}x{E}}}<end_function_call>")
    assert parse_calls(ids, tokenizer, FORMAT) == [Call("f", {"a": "x"})]


def test_another_formats_calls_are_text(taught: Tokenizer) -> None:
    ids = taught.encode('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', control_tokens=True)
    assert call_texts(ids, taught, FORMAT) == []


# --- tokens --------------------------------------------------------------------------------------------------------


def test_tokens_take_the_ids_that_they_have_in_functiongemma(official: Tokenizer, fresh: Any) -> None:
    """Where they are reserved: the table does not grow. Others go where they would go anyway."""
    tokenizer = fresh(official)
    size = tokenizer.size
    new = tokenizer.add_tokens(FUNCTIONGEMMA.tokens, ids=FUNCTIONGEMMA.ids)
    assert new == [46, 47, 48, 49, 50, 51, 52, size, size + 1]
    assert tokenizer.decode([48, 52]) == "<start_function_call><escape>"
    tokenizer = fresh(official)
    new = tokenizer.add_tokens(FUNCTIONGEMMA.tokens, reuse_unused=True, ids=FUNCTIONGEMMA.ids)
    assert new[:7] == list(range(46, 53))
    assert tokenizer.size == size
    assert not set(new[7:]) & set(range(46, 53))


def test_where_one_of_the_ids_is_taken_all_are_appended(official: Tokenizer, fresh: Any) -> None:
    tokenizer = fresh(official)
    tokenizer.register({"<mine>": 50})
    assert tokenizer.add_tokens(TOKENS, ids=FUNCTIONGEMMA.ids) == list(range(tokenizer.size - 7, tokenizer.size))


def test_functiongemmas_own_tokenizer(small_json_folder: Path, tmp_path: Path) -> None:
    """In its file most of these tokens are ordinary pieces that are not flagged as special."""
    data = json.loads((small_json_folder / "tokenizer.json").read_text(encoding="utf-8"))
    pieces = data["model"]["vocab"]
    for number, token in enumerate(TOKENS):
        old = next(piece for piece in pieces if piece == f"<unused{number}>") if number < 6 else "<table>"
        id_ = pieces.pop(old)
        pieces[token] = id_
        flags = next(one for one in data["added_tokens"] if one["id"] == id_)
        flags |= {"content": token, "special": token == "<start_function_response>"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert set(TOKENS) <= tokenizer.control.keys()
    assert tokenizer.add_tokens(TOKENS, ids=FUNCTIONGEMMA.ids) == [tokenizer.control[token] for token in TOKENS]
    assert not set(tokenizer.encode("".join(TOKENS))) & {tokenizer.control[token] for token in TOKENS}


def test_a_data_set_brings_in_all_seven(taught: Tokenizer, tiny: Path) -> None:
    """A model must be able to read results, whether its data has some or not."""
    row = Conversation([*ASKED, called(("now", {}))], [NOW], source="row 1")
    tokenizer = load_tokenizer(tiny)
    found = audit([draft(row, tokenizer, FORMAT)], ours=FUNCTIONGEMMA.tokens)
    assert "<end_function_response>" not in found.tags
    assert tokens_to_add(["auto"], found, FUNCTIONGEMMA.ids) == list(TOKENS)
    assert tokens_to_add(["none"], found, FUNCTIONGEMMA.ids) == []
    plain = audit([draft(Conversation([*ASKED, ANSWER]), tokenizer, FORMAT)], ours=FUNCTIONGEMMA.tokens)
    assert tokens_to_add(["auto"], plain, FUNCTIONGEMMA.ids) == []


# --- a folder's own template ---------------------------------------------------------------------------------------


def test_the_published_template_as_a_folders_own(taught: Tokenizer, published: Published, tiny: Path) -> None:
    """It has no generation blocks, and yet the same is learned from as by ours."""
    own = load_tokenizer(tiny)
    own.add_tokens(FUNCTIONGEMMA.tokens)
    own.settings["chat_template"] = Path(os.environ["MINIFC_FUNCTIONGEMMA_TEMPLATE"]).read_text(encoding="utf-8")
    for seed in range(60):
        drawing = Drawing(seed)
        system = {"role": "developer", "content": "Call."}
        messages = [system, *(one for one in drawing.conversation() if one["role"] not in ("system", "developer"))]
        tools = [tool for tool in [drawing.tool(), WEATHER] if tool.get("parameters", {}).get("type")]
        ours = render(messages, taught, tools, FORMAT)
        assert render(messages, own, tools, "own") == ours, seed


def test_own_template_that_spells_functiongemmas_calls(tiny: Path, tmp_path: Path) -> None:
    """It is read from chat_template.jinja too, where transformers puts it."""
    load_tokenizer(tiny).save(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}<start_function_call>{{ messages[0].content }}")
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.add_tokens(FUNCTIONGEMMA.tokens)
    assert minifc.render(ASKED, tokenizer, format="own").text == "<bos><start_function_call> How warm? "
    ids = tokenizer.encode("<start_function_call>call:f{a:1}<end_function_call>", control_tokens=True)
    assert parse_calls(ids, tokenizer, "own") == [Call("f", {"a": 1})]
    assert tokenizer.control["<start_function_response>"] in stop_ids(tokenizer, "own")
    closed = NOW | {"parameters": NOW["parameters"] | {"additionalProperties": False}}
    grammar = minifc.Grammar([closed], tokenizer, format="own")
    grammar.advance(ids[0])
    assert tokenizer.decode(grammar.forced()) == "call:now{}<end_function_call>"
