"""The exported chat template renders what minifc renders: the same ids and the same mask, through transformers."""

import json
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
from minifc.text.jinja import chat_template
from minifc.text.tokenizer import Tokenizer, load_tokenizer

FORMATS = ("gemma", "course")


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
    config["chat_template"] = chat_template(format, list(tokenizer.control))
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
    ours.add_tokens([tag for tag in TAGS if tag not in ours.control])
    return Pair(ours, {format: with_template(ours, tmp_path_factory.mktemp(format), format) for format in FORMATS})


MARKERS = (*TAGS, *"<pad> <eos> <bos> <unk> <mask> <2mass> [@BOS@] <start_of_turn> <end_of_turn> <unused".split())


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
calls = st.fixed_dictionaries({"name": names, "arguments": st.dictionaries(names, values, max_size=3)})
wrapped = calls.map(lambda call: {"type": "function", "function": call})
user = st.fixed_dictionaries({"role": st.sampled_from(["user", "human"]), "content": texts})
model = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "model", "gpt"]), "content": texts},
    optional={"thinking": texts, "tool_calls": st.lists(calls | wrapped, max_size=2)},
)
tool = st.fixed_dictionaries({"role": st.sampled_from(["tool", "observation"]), "content": texts | values})
system = st.fixed_dictionaries({"role": st.just("system"), "content": texts})
conversations = st.tuples(st.lists(system, max_size=1), user, st.lists(user | model | tool, max_size=5)).map(
    lambda parts: [*parts[0], parts[1], *parts[2]]
)


@pytest.mark.parametrize("format", FORMATS)
@given(messages=conversations, schemas=st.lists(tools, max_size=2), prompt=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ids_and_mask_are_ours(pair: Any, format: Any, messages: Any, schemas: Any, prompt: bool) -> None:
    ours, theirs = pair
    rendered = minifc.render(messages, ours, schemas, format, add_generation_prompt=prompt)
    given = theirs[format].apply_chat_template(
        messages,
        tools=schemas or None,
        add_generation_prompt=prompt,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
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


def test_results_in_another_order_are_refused(pair: Any) -> None:
    """Jinja cannot sort them as render does."""
    ordered, mixed = answered(("1", "30"), ("2", "-5")), answered(("2", "-5"), ("1", "30"))
    ids = pair.theirs["gemma"].apply_chat_template(ordered, return_dict=True)["input_ids"]
    assert ids == minifc.render(mixed, pair.ours, format="gemma").ids
    with pytest.raises(jinja2.TemplateError, match="in the order of their calls"):
        pair.theirs["gemma"].apply_chat_template(mixed)


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
        ([{"role": "critic", "content": "No."}], "unknown role critic"),
        ([{"role": "user", "content": "Hi"}, {"role": "system", "content": "Late."}], "can only come first"),
        ([{"role": "system", "content": "Hi"}, {"role": "assistant", "content": "Hi"}], "the user speaks"),
        ([{"role": "user", "content": None}], "not a string"),
        (
            [
                {"role": "user", "content": "Hi"},
                {"role": "model", "content": "", "tool_calls": [{"name": "f", "parameters": {}}]},
            ],
            "unknown field parameters of a call",
        ),
    ],
)
def test_what_render_refuses_the_template_refuses(pair: Any, messages: Any, why: str) -> None:
    ours, theirs = pair
    with pytest.raises(minifc.MinifcError):
        minifc.render(messages, ours, format="gemma")
    with pytest.raises(jinja2.TemplateError, match=why):
        theirs["gemma"].apply_chat_template(messages)
