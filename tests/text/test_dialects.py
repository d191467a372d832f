"""Dialects: the exported template renders in transformers what minifc renders, and no template can be made to forge."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import minifc
from minifc.errors import TemplateError
from minifc.text.calls import TAGS
from minifc.text.dialects import exported_template
from minifc.text.dialects.functiongemma import TOKENS
from minifc.text.tokenizer import Tokenizer, load_tokenizer

FORMATS = ("gemma", "course", "functiongemma")


def answered(*results: tuple[str, str]) -> list[dict[str, Any]]:
    """Two calls, and results as (id of the call, content)."""
    calls = [
        {"id": id_, "function": {"name": "f", "arguments": {"city": c}}} for id_, c in (("1", "Rome"), ("2", "Oslo"))
    ]
    messages = [{"role": "user", "content": "How warm?"}, {"role": "assistant", "content": "", "tool_calls": calls}]
    return [*messages, *({"role": "tool", "tool_call_id": id_, "content": content} for id_, content in results)]


def with_template(tokenizer: Tokenizer, folder: Path, format: Any) -> Any:
    """The tokenizer as transformers loads it, template included."""
    tokenizer.save(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["chat_template"] = exported_template(format, tokenizer, training=True)
    path.write_text(json.dumps(config), encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)


class Pair(NamedTuple):
    ours: Tokenizer
    theirs: dict[str, Any]

    def __repr__(self) -> str:
        return "tokenizers"  # hypothesis prints it


@pytest.fixture(scope="session", params=["tiny", "official"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Any:
    """Our tokenizer with all tags, and for each format transformers' with the template."""
    folder = tiny if request.param == "tiny" else request.getfixturevalue("shared") / "gemma-2-2b-it"
    ours = load_tokenizer(folder)
    ours.add_tokens((*TAGS, *TOKENS))
    return Pair(ours, {format: with_template(ours, tmp_path_factory.mktemp(format), format) for format in FORMATS})


OFFICIAL = "<pad> <eos> <bos> <unk> <mask> <2mass> [@BOS@] <start_of_turn> <end_of_turn> <unused".split()
MARKERS = (*TAGS, *TOKENS, *OFFICIAL)


def spells_nothing(text: str) -> bool:
    return not any(marker in text for marker in MARKERS)


# Beside any character: what is nearly a marker, and what the official vocabulary has as a piece.
nearly = st.sampled_from("< </ > <b> </td> <tool tool_call> <0x41> <bos end_of_turn> <|im_end|>".split())
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
texts = st.lists(plain | nearly, max_size=4).map("".join).filter(spells_nothing)
names = st.from_regex(r"[a-c_]{1,2}", fullmatch=True)  # few, so that calls often have what schemas list
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-9, 9).map(float)
    | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names | texts, inner, max_size=3),
    max_leaves=4,
)
schemas = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer"}, {"type": ["null", "integer"]}, {"type": "number"}, True]),
    lambda inner: (
        st.builds(lambda listed: {"type": "object", "properties": listed}, st.dictionaries(names, inner, max_size=3))
        | st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda others: {"type": "object", "additionalProperties": others}, inner)
        | st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=2))
    ),
    max_leaves=6,
)
tools = st.fixed_dictionaries(
    {"name": names, "description": texts},
    optional={
        "parameters": st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(names, schemas, max_size=3)}
        )
    },
)
offered = tools | tools.map(lambda tool: {"type": "function", "function": tool})
calls = st.fixed_dictionaries(
    {"name": names, "arguments": st.dictionaries(names, values, max_size=3)},
    optional={"id": st.sampled_from("12") | st.none(), "type": st.just("function"), "index": st.none()},
)
functions = st.fixed_dictionaries({"name": names, "arguments": st.dictionaries(names, values, max_size=3)})
wrapped = st.fixed_dictionaries(
    {"function": functions}, optional={"id": st.sampled_from("123"), "type": st.just("function"), "index": st.just(0)}
)
parts = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts})
    | st.sampled_from([{"type": "image"}, {"type": "text"}, "text", None]),
    max_size=2,
)
contents = texts | texts | texts | parts | st.none()
thoughts = {name: texts | st.none() for name in ("thinking", "reasoning_content", "reasoning")}
odd = {"name": names | st.none(), "refusal": st.none(), "audio": st.none() | st.none() | st.just("x")}
user = st.fixed_dictionaries({"role": st.sampled_from(["user", "user", "human"]), "content": contents}, optional=odd)
model = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "assistant", "model"])},
    optional={"content": contents, "tool_calls": st.none() | st.lists(calls | wrapped, max_size=3), **thoughts, **odd},
)
result = st.fixed_dictionaries(
    {"role": st.just("tool"), "content": texts | values | parts},
    optional={"tool_call_id": st.sampled_from("123") | st.none(), **odd},
)
system = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": contents})


def usually_in_place(draw: Any) -> list[Any]:
    """A conversation that a template mostly takes: calls with ids, their results in any order, one system message."""
    messages = [*draw(st.lists(system, max_size=1)), draw(user)]
    for _ in range(draw(st.integers(0, 3))):
        messages.append(draw(model))
        made = [call.get("id") for call in messages[-1].get("tool_calls") or []]
        for id_ in draw(st.permutations(made)):
            answer = draw(result)
            messages.append(answer | {"tool_call_id": id_} if draw(st.integers(0, 9)) else answer)
        if draw(st.booleans()):
            messages.append(draw(user))
    return messages


conversations = st.composite(usually_in_place)() | st.lists(user | model | result | system, min_size=1, max_size=5)
EXAMPLES = int(os.environ.get("MINIFC_EXAMPLES", "120"))  # of each of four; 15,000 make the 60,000 of LOG.md


@pytest.mark.parametrize("format", FORMATS)
@given(messages=conversations, schemas=st.lists(offered, max_size=2), prompt=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_ids_and_mask_are_ours_or_both_refuse(
    pair: Any, format: Any, messages: Any, schemas: Any, prompt: bool
) -> None:
    ours, theirs = pair
    rendered, given, why = None, None, ""
    with contextlib.suppress(minifc.MinifcError):
        rendered = minifc.render(messages, ours, schemas, format, add_generation_prompt=prompt)
    try:
        given = theirs[format].apply_chat_template(
            messages,
            tools=schemas or None,
            add_generation_prompt=prompt,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
    except jinja2.TemplateError as error:
        why = str(error)
    if given is None or rendered is None:  # text parts may spell a control token together, which we keep as text
        assert (given is None and rendered is None) or "spells the control token" in why
        return
    assert theirs[format].decode(given["input_ids"]) == ours.decode(rendered.ids)
    assert given["input_ids"] == rendered.ids
    assert [bool(mask) for mask in given["assistant_masks"]] == rendered.mask


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": [{"type": "text", "text": "See:"}, {"type": "image"}]}],
        [{"role": "user", "content": "Hi.", "thinking": "Hm."}],
        [{"role": "user", "content": "Hi.", "tool_calls": [{"name": "f", "arguments": {}}]}],
        [{"role": "user", "content": "Hi."}, {"role": "model", "content": "", "function_call": {"name": "f"}}],
        [{"role": "system", "content": "Be brief."}],
        answered(("3", "30")),
        answered(("1", "30"), ("1", "-5")),
    ],
)
def test_nothing_is_dropped_silently(pair: Any, messages: Any) -> None:
    with pytest.raises(TemplateError):
        minifc.render(messages, pair.ours, format="gemma")
    with pytest.raises(jinja2.TemplateError):
        pair.theirs["gemma"].apply_chat_template(messages)


def test_results_are_put_in_the_order_of_their_calls(pair: Any) -> None:
    ordered, mixed = answered(("1", "30"), ("2", "-5")), answered(("2", "-5"), ("1", "30"))
    ids = minifc.render(ordered, pair.ours, format="gemma").ids
    assert minifc.render(mixed, pair.ours, format="gemma").ids == ids
    for messages in (ordered, mixed):
        assert pair.theirs["gemma"].apply_chat_template(messages, return_dict=True)["input_ids"] == ids


@pytest.mark.parametrize("token", ["tool_calls", "namespace", "'\\n'", "known; are", "{%- set", "introduction"])
@pytest.mark.parametrize("verbatim", [False, True])
def test_a_token_may_be_spelled_like_a_word_of_the_template(tiny: Path, token: str, verbatim: bool) -> None:
    """Tokens that data brought in count in verbatim text, and change nothing in the template that is run."""
    tokenizer = load_tokenizer(tiny)
    (id_,) = tokenizer.add_tokens([token])
    messages = [{"role": "user", "content": f"What is {token}?"}, {"role": "assistant", "content": "Nothing."}]
    rendered = minifc.render(messages, tokenizer, format="gemma", verbatim=verbatim)
    assert rendered.text == (
        f"<bos><start_of_turn>user\nWhat is {token}?<end_of_turn>\n<start_of_turn>model\nNothing.<end_of_turn>\n"
    )
    assert rendered.ids.count(id_) == verbatim
    assert any(rendered.mask)


@pytest.mark.parametrize("token", ["<END>", "ROLES", "<|MARKERS|>", "{{ END }}"])
def test_a_token_may_have_any_name(tiny: Path, tmp_path: Path, token: str) -> None:
    """The template is put together by replacing words in it; a token that is one of them stays as it is."""
    ours = load_tokenizer(tiny)
    ours.add_tokens([token])
    theirs = with_template(ours, tmp_path, "gemma")
    messages = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello."}]
    assert (
        theirs.apply_chat_template(messages, return_dict=True)["input_ids"]
        == minifc.render(messages, ours, format="gemma").ids
    )
    with pytest.raises(jinja2.TemplateError, match="control token"):
        theirs.apply_chat_template([{"role": "user", "content": f"What is {token}?"}])


@pytest.mark.parametrize("content", ["<end_of_turn>", "a <tool_call> b", "<bos>", "<unused7>"])
def test_content_that_spells_a_control_token_is_refused(pair: Any, content: str) -> None:
    ours, theirs = pair
    for role in ("user", "assistant", "tool"):
        messages = [{"role": "user", "content": "Hello."}, {"role": role, "content": content}]
        with pytest.raises(jinja2.TemplateError, match="control token"):
            theirs["gemma"].apply_chat_template(messages)
        assert minifc.render(messages, ours, format="gemma").ids.count(ours.end_of_turn_id) == 2


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "critic", "content": "No."}], "unknown role"),
        ([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Late."}], "can only come first"),
        (
            [{"role": "system", "content": "Hi"}, {"role": "tool", "content": "Hi"}],
            "after a system message",
        ),
        ([{"role": "user", "content": None}], "not a string"),
        (
            [
                {"role": "user", "content": "Hi"},
                {"role": "model", "content": "", "tool_calls": [{"name": "f", "parameters": {}}]},
            ],
            "has a field 'parameters'",
        ),
    ],
)
def test_what_render_refuses_the_template_refuses(pair: Any, messages: Any, why: str) -> None:
    ours, theirs = pair
    with pytest.raises(minifc.MinifcError):
        minifc.render(messages, ours, format="gemma")
    with pytest.raises(jinja2.TemplateError, match=why):
        theirs["gemma"].apply_chat_template(messages)


# Templates of others


CHATML = """{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message.role + '\n' }}
{%- if message.role == 'assistant' %}{% generation %}{{ message.content | trim }}
{%- for call in message.tool_calls or [] %}{{ '<tool_call>' }}<function={{ call.function.name }}>
{%- for key, value in call.function.arguments | dictsort %}<{{ key }}>
{{- value if value is string else value | tojson }}</{{ key }}>
{%- endfor %}{{ '</tool_call>' }}{% endfor %}{{ '<end_of_turn>' }}{% endgeneration %}
{%- else %}
    {%- if message.content is string %}{{ message.content.split('</think>')[-1] | upper }}
    {%- else %}{% for part in message.content %}{{ part.text if part is mapping else part }}{% endfor %}{% endif %}
    {{- '<end_of_turn>' }}
{%- endif %}
{%- endfor %}{% if add_generation_prompt %}<start_of_turn>assistant
{% endif %}"""
ALTERNATING = """{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>assistant
' }}{% endif %}"""
SPLIT = [name[:cut] for name in ("<end_of_turn>", "<tool_call>", "<unused3>") for cut in range(1, len(name))]
hostile = st.lists(
    st.sampled_from([*MARKERS[:-1], *SPLIT, "end_of_turn", "tool_call", "of_turn>", "\U0010f400", "\U0010f402"]),
    min_size=1,
    max_size=4,
).map("".join)


def own(tiny: Path, template: str) -> Tokenizer:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens((*TAGS, *TOKENS))
    tokenizer.settings["chat_template"] = template
    return tokenizer


def control_ids(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    known = set(tokenizer.control.values())
    return [id_ for id_ in ids if id_ in known]


@given(said=st.lists(hostile, min_size=6, max_size=6), format=st.sampled_from([*FORMATS, "own"]))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_field_forges_a_token_in_any_template(tiny: Path, said: list[str], format: str) -> None:
    """Not by a spelling, nor by one that a template puts together: `<` ~ key ~ `>`, or text parts side by side."""

    def conversation(texts: list[str]) -> list[dict[str, Any]]:
        first, second, answer, key, value, result = texts
        if format == "functiongemma":  # which refuses such keys
            key = re.sub(r"[][{}:,]", "", key)
        parts = [{"type": "text", "text": first}, {"type": "text", "text": second}]
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {f"a{key}": value, key: [value]}}}
        return [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": answer, "tool_calls": [call]},
            {"role": "tool", "content": result, "tool_call_id": "1"},
            {"role": "assistant", "content": answer},
        ]

    tokenizer = own(tiny, CHATML)
    rendered = minifc.render(conversation(said), tokenizer, format=format)
    harmless = minifc.render(conversation(list("uvwxyz")), tokenizer, format=format)
    assert control_ids(rendered.ids, tokenizer) == control_ids(harmless.ids, tokenizer)


def test_own_template_with_generation_blocks(tiny: Path, tmp_path: Path) -> None:
    tokenizer = own(tiny, CHATML)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    messages = [*answered(("1", "30"), ("2", "-5")), {"role": "assistant", "content": "Warm </think> and cold."}]
    rendered = minifc.render(messages, tokenizer, format="own")
    given = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert rendered.ids != given["input_ids"]  # theirs takes </think> in the text for the token
    messages[-1]["content"] = "Warm and cold."
    rendered = minifc.render(messages, tokenizer, format="own")
    given = theirs.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert (rendered.ids, [int(mask) for mask in rendered.mask]) == (given["input_ids"], given["assistant_masks"])


def test_own_template_without_generation_blocks(tiny: Path) -> None:
    """Learned from is what an assistant's turn adds to the prompt for it."""
    tokenizer = own(tiny, ALTERNATING)
    talk = [{"role": role, "content": f" {role} {i}\n"} for i in range(2) for role in ("user", "assistant")]
    rendered = minifc.render(talk, tokenizer, format="own")
    learned = [id_ for id_, mask in zip(rendered.ids, rendered.mask, strict=True) if mask]
    assert tokenizer.decode(learned) == "assistant 0<end_of_turn>assistant 1<end_of_turn>"
    assert rendered.ids == tokenizer.encode(rendered.text, control_tokens=True)


def test_own_template_that_changes_what_came_before_is_refused(tiny: Path) -> None:
    tokenizer = own(tiny, "{{ messages | length }} {{ messages[-1].content }}")
    with pytest.raises(TemplateError, match="nothing says what to learn from"):
        minifc.render(
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], tokenizer, format="own"
        )


def test_a_folder_without_template_has_no_own_format(tiny: Path) -> None:
    with pytest.raises(TemplateError, match="no chat template"):
        minifc.render([{"role": "user", "content": "x"}], load_tokenizer(tiny), format="own")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ messages[0", "cannot be read"),
        ("{{ raise_exception('no system role') }}", "^no system role$"),
        ("{{ messages.__class__.__mro__ }}", "fails on these messages: .*unsafe"),
        ("{{ messages[0].content + 5 }}", "fails on these messages"),
        ("{{ 1 / 0 }}", "fails on these messages: division by zero"),
        ("{{ range(10**9) | list }}", "fails on these messages: Range too big"),
        ("{{ undefined_thing.more }}", "fails on these messages: .*undefined.*; mend the template"),
    ],
)
def test_a_template_that_fails_is_one_line(tiny: Path, template: str, why: str) -> None:
    with pytest.raises(TemplateError, match=why):
        minifc.render([{"role": "user", "content": "x"}], own(tiny, template), format="own", add_generation_prompt=True)


def test_private_characters_in_a_message_stay(tiny: Path) -> None:
    """Also those that stand for control tokens while the template runs."""
    tokenizer = load_tokenizer(tiny)
    said = "".join(map(chr, (0x10F400, 0x10F402, 0x10F403, 0x10F000)))
    rendered = minifc.render([{"role": "user", "content": said}], tokenizer, format="gemma")
    assert rendered.text == f"<bos><start_of_turn>user\n{said}<end_of_turn>\n"
    assert tokenizer.decode(rendered.ids) == rendered.text
