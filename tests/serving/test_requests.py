"""Requests are read as OpenAI's protocol says, and what is wrong in one is named."""

from typing import Any

import pytest

from minifc.serving.requests import ApiError, ChatRequest, read_request

MESSAGES = [{"role": "user", "content": "Hi."}]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def read(**fields: Any) -> ChatRequest:
    return read_request({"model": "m", "messages": MESSAGES} | fields, "m")


def test_a_bare_request() -> None:
    assert read() == ChatRequest(MESSAGES)
    assert read_request({"messages": MESSAGES}, "m") == ChatRequest(MESSAGES)


def test_every_field() -> None:
    schema = {"type": "object", "properties": {}}
    assert read(
        tools=[TOOL, {"type": "function", "function": {"name": "g", "strict": True}}],
        tool_choice={"type": "function", "function": {"name": "g"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        max_tokens=7,
        stop=["a", "b"],
        temperature=1,
        top_p=0.5,
        top_k=3,
        repetition_penalty=1.5,
        seed=-1,
        logprobs=True,
        top_logprobs=2,
        stream=True,
        stream_options={"include_usage": True},
    ) == ChatRequest(
        MESSAGES, [TOOL["function"], {"name": "g"}], frozenset({"g"}), "required", "g", False, False, schema, 7,
        ("a", "b"), 1, 0.5, 3, 1.5, -1, 2, True, True,
    )  # fmt: skip


def test_what_makes_no_difference_is_taken() -> None:
    neutral = {
        "n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "user": "u", "metadata": {"a": "b"},
        "store": False, "service_tier": "auto", "temperature": None, "tools": None, "functions": [], "stop": None,
        "reasoning_effort": "low", "response_format": {"type": "text"}, "tool_choice": "auto",
    }  # fmt: skip
    assert read(**neutral) == ChatRequest(MESSAGES)


def test_the_newer_limit_counts() -> None:
    assert read(max_completion_tokens=5, max_tokens=9).max_tokens == 5


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer = {
        "role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "function_call": None,
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }  # fmt: skip
    kept = {"role": "assistant", "tool_calls": answer["tool_calls"]}
    assert read(messages=[*MESSAGES, answer]).messages == [*MESSAGES, kept]


@pytest.mark.parametrize(
    ("content", "read_as"),
    [
        ('{"a":1,"b":[true,null]}', {"a": 1, "b": [True, None]}),
        ("{'a': None}", {"a": None}),
        ("[1, 2]", [1, 2]),
        ("23", "23"),
        ('"x"', '"x"'),
        ("{broken", "{broken"),
        ("{1: 2}", "{1: 2}"),
        ("[see below]", "[see below]"),
        ("", ""),
    ],
)
def test_a_result_that_spells_json_is_json(content: str, read_as: Any) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    messages = [*MESSAGES, {"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": content}]
    assert read(messages=messages).messages[-1] == {"role": "tool", "content": read_as}


BAD: list[tuple[Any, str, str]] = [
    ({"model": "gpt"}, "model", "there is no model 'gpt' here; there is 'm'"),
    ({"model": 3}, "model", "must be a string"),
    ({"messages": []}, "messages", "at least one message"),
    ({"messages": "Hi."}, "messages", "must be a list"),
    ({"messages": ["Hi."]}, "messages[0]", "no object"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]", "the model reads text alone"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0]", "a part of its content"),
    ({"messages": [{"role": "user", "content": ["Hi."]}]}, "messages[0]", "a part of its content"),
    ({"messages": [{"role": "assistant", "refusal": "No."}]}, "messages[0]", "refusal is not read here"),
    (
        {"messages": [*MESSAGES, {"role": "tool", "content": "x"}]},
        "messages",
        "messages[1]: is a tool's, but no message",
    ),
    ({"tools": [TOOL, TOOL]}, "tools[1]", "there are two tools called f"),
    ({"tools": [{}]}, "tools[0]", "is no"),
    ({"tools": [{"type": "web_search"}]}, "tools[0]", "is no"),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}]}, "tools[0]", "no JSON schema"),
    ({"tools": [TOOL] * 513}, "tools", "513 of them"),
    ({"tool_choice": "required"}, "tool_choice", "there are no tools"),
    ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice", "must be auto, required, none"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
        "tool_choice",
        "there is no tool 'g'; there are: f",
    ),
    ({"tool_choice": {"type": "function", "function": "g"}}, "tool_choice", "there is no tool None; there are: none"),
    ({"functions": [{}]}, "functions", "use tools"),
    ({"n": 2}, "n", "is not done here"),
    ({"logit_bias": {"1": 2}}, "logit_bias", "is not done here"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "is not done here"),
    ({"tol_choice": "auto"}, "tol_choice", "is no field of a request"),
    ({"max_tokens": 0}, "max_tokens", "must be an integer of at least 1"),
    ({"max_tokens": True}, "max_tokens", "must be an integer"),
    ({"max_tokens": 1.5}, "max_tokens", "must be an integer"),
    ({"temperature": 2.1}, "temperature", "must be a number of at least 0 and at most 2"),
    ({"temperature": "0"}, "temperature", "must be a number"),
    ({"temperature": float("nan")}, "temperature", "must be a number"),
    ({"top_p": 0}, "top_p", "must be a number above 0 and at most 1"),
    ({"seed": 2**64}, "seed", "must be an integer"),
    ({"top_logprobs": 21, "logprobs": True}, "top_logprobs", "at most 20"),
    ({"top_logprobs": 2}, "top_logprobs", "only with logprobs: true"),
    ({"stop": ["x"] * 10_000}, "stop", "10000 sequences; at most 16"),
    ({"stop": ""}, "stop", "1 to 1000 characters"),
    ({"stop": ["x" * 1001]}, "stop", "1 to 1000 characters"),
    ({"stop": [1]}, "stop", "must be strings"),
    ({"stream": "yes"}, "stream", "must be true or false"),
    ({"response_format": {"type": "xml"}}, "response_format", "must be"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format", "must be"),
]


@pytest.mark.parametrize(("fields", "param", "message"), BAD, ids=lambda bad: str(bad)[:50])
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(ApiError) as raised:
        read(**fields)
    error = raised.value.body["error"]
    assert error["param"] == param
    assert message in error["message"]
    assert error["type"] == ("not_found_error" if raised.value.status == 404 else "invalid_request_error")


@pytest.mark.parametrize("body", [None, [], "x", 3])
def test_a_body_that_is_no_object(body: Any) -> None:
    with pytest.raises(ApiError, match="the body is not a JSON object"):
        read_request(body, "m")
