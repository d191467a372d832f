"""What is told piece by piece is what the turn says, however it comes."""

import json
import random
from typing import Any

import pytest

from minifc.gemma.generate import Choice
from minifc.serving.replies import ReplyReader, logprobs_of
from minifc.text.calls import Call
from minifc.text.dialects import dialect_of
from minifc.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizers(loaded: Any) -> dict[str, Tokenizer]:
    """One for each dialect."""
    functiongemma = loaded.tokenizer.copy()
    tokens = dialect_of("functiongemma", functiongemma).tokens
    functiongemma.register(
        functiongemma.places([token for token in tokens if token not in functiongemma.control], False)
    )
    return {"gemma": loaded.tokenizer, "functiongemma": functiongemma}


def told(reader: ReplyReader, ids: list[int], rng: random.Random | None = None) -> dict[str, Any]:
    """The message that the deltas make, put together as a client does."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    deltas, at = [], 0
    while at < len(ids):
        count = rng.randint(1, 9) if rng else 1
        deltas += reader.read([Choice(id_) for id_ in ids[at : at + count]])
        at += count
    for delta in deltas + reader.finish():
        assert len(delta) == 1
        for name in ("content", "reasoning_content"):
            message[name] += delta.get(name, "")
        for part in delta.get("tool_calls", []):
            if "id" in part:
                assert part["index"] == len(message["tool_calls"])
                message["tool_calls"].append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
            message["tool_calls"][part["index"]]["arguments"] += part["function"]["arguments"]
    return message


TEXTS = [
    "",
    "Fine.",
    "It is 3 °C — “cold”. 冷たい 🥶",
    "two\n\nlines",
    'with {"name": "f"} in it',
    "<tool_call> spelled",
]
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"a": 1},
    {"a": 'q"}\n\\', "b": [{"c": None}, "é🥶"]},
    {"name": "x", "e": {"f": {}}},
]


@pytest.mark.parametrize("format", ["gemma", "functiongemma"])
def test_deltas_make_the_message(tokenizers: dict[str, Tokenizer], format: str) -> None:
    """Of 300 random turns, cut at random."""
    tokenizer, dialect, rng = tokenizers[format], dialect_of(format, tokenizers[format]), random.Random(0)
    control = tokenizer.control
    for _ in range(300):
        thought = rng.choice(TEXTS).strip() if "<think>" in control else ""
        text = rng.choice(TEXTS)
        calls = [Call(rng.choice(("f", "get_it")), rng.choice(ARGUMENTS)) for _ in range(rng.choice((0, 0, 1, 1, 3)))]
        ids = [control["<think>"], *tokenizer.encode(thought), control["</think>"]] if thought else []
        ids += tokenizer.encode(text)
        for number, call in enumerate(calls):
            ids += tokenizer.encode("\n") if (text or number) and format == "gemma" else []
            pieces = dialect.write(call, None).split("\udcff")
            ids += [control[dialect.begin], *tokenizer.encode(pieces[0])]
            for piece in pieces[1:]:
                ids += [control[dialect.delimiter], *tokenizer.encode(piece)]
            ids.append(control[dialect.end])
        reader = ReplyReader(tokenizer, format)
        message = told(reader, ids, rng)
        assert (message["reasoning_content"], message["content"]) == (thought, text)
        read = [Call(call["name"], json.loads(call["arguments"])) for call in message["tool_calls"]]
        assert read == calls
        whole = reader.message
        assert whole["content"] == (text or (None if calls else ""))
        assert whole.get("reasoning_content", "") == thought
        functions = [{"name": call["name"], "arguments": call["arguments"]} for call in message["tool_calls"]]
        assert [call["function"] for call in whole.get("tool_calls", [])] == functions
        assert len({call["id"] for call in whole.get("tool_calls", [])}) == len(calls)


@pytest.mark.parametrize(
    ("stop", "content"),
    [
        (["STOP"], "One two"),
        (["two STOP three"], "One"),
        (["thre", "ST"], "One two"),
        (["threes", "fourr"], "One two STOP three"),
        (["e"], "On"),
        (["One"], ""),
        (["STOP three "], "One two STOP three"),
    ],
    ids=str,
)
def test_content_ends_before_a_stop(loaded: Any, stop: list[str], content: str) -> None:
    reader = ReplyReader(loaded.tokenizer, "gemma", stop)
    message = told(reader, loaded.tokenizer.encode("One two STOP three"))
    assert message["content"] == reader.message["content"] == content
    assert reader.stopped == (content != "One two STOP three")


def test_a_stop_is_none_in_a_thought_or_a_call(loaded: Any) -> None:
    tokenizer = loaded.tokenizer
    text = '<think>STOP</think><tool_call>\n{"name": "f", "arguments": {"a": "STOP"}}\n</tool_call>'
    message = told(ReplyReader(tokenizer, "gemma", ["STOP"]), tokenizer.encode(text, control_tokens=True))
    assert message["reasoning_content"] == "STOP"
    assert message["tool_calls"][0]["arguments"] == '{"a": "STOP"}'


def test_a_call_that_breaks_off_is_told_as_far_as_it_goes(loaded: Any) -> None:
    tokenizer = loaded.tokenizer
    text = '<tool_call>\n{"name": "f", "arguments": {"a": "abcdefghi'
    message = told(ReplyReader(tokenizer, "gemma"), tokenizer.encode(text, control_tokens=True))
    assert '{"a": "abcdefghi'.startswith(message["tool_calls"][0]["arguments"])


def test_logprobs(loaded: Any) -> None:
    tokenizer = loaded.tokenizer
    (a,), (b,), think = tokenizer.encode("a"), tokenizer.encode("b"), tokenizer.control["<think>"]
    found = logprobs_of([Choice(a, -0.5, ((a, -0.5), (b, -1.5))), Choice(think, forced=True)], tokenizer, 2)
    one, other = {"token": "a", "bytes": [97]}, {"token": "b", "bytes": [98]}
    likeliest = [one | {"logprob": -0.5}, other | {"logprob": -1.5}]
    assert found == [
        one | {"logprob": -0.5, "top_logprobs": likeliest, "forced": False},
        {"token": "<think>", "bytes": list(b"<think>"), "logprob": 0.0, "top_logprobs": [], "forced": True},
    ]
