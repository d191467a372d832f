"""A history that smolagents flattened into texts is calls and results again; anything else stays what it is."""

from typing import Any

import pytest
from smolagents.memory import ActionStep, ToolCall
from smolagents.models import get_clean_message_list, tool_role_conversions
from smolagents.monitoring import Timing

from minifc.serving.flattened import unflattened
from minifc.serving.requests import read_request

TASK = {"role": "user", "content": "How warm is it?"}


def flattened(calls: list[ToolCall], **more: Any) -> list[dict[str, Any]]:
    """What smolagents makes of a step."""
    step = ActionStep(step_number=1, timing=Timing(0), tool_calls=calls, **more)
    made = get_clean_message_list(step.to_messages(), role_conversions=tool_role_conversions)
    return [{"role": message["role"].value, "content": message["content"]} for message in made]


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("said", [None, "I look."])
def test_a_step(said: str | None) -> None:
    step = flattened([ToolCall("get", {"city": 'O\'slo "x"'}, "1")], observations="23\nOslo", model_output=said)
    assert unflattened([TASK, *step]) == [
        TASK,
        {"role": "assistant", "content": said or "", "tool_calls": [call("get", {"city": 'O\'slo "x"'})]},
        {"role": "tool", "content": "23\nOslo"},
    ]
    assert read_request({"messages": [TASK, *step]}, "m").messages == unflattened([TASK, *step])


def test_several_calls_and_an_error() -> None:
    calls = [ToolCall("get", {"a": 1}, "1"), ToolCall("now", {}, "2")]
    step = flattened(calls, observations="23\n24", error=ValueError("no"))
    (assistant, result) = unflattened(step)
    assert assistant["tool_calls"] == [call("get", {"a": 1}), call("now", {})]
    assert result["role"] == "tool"
    assert result["content"].startswith("23\n24\nCall id: 1\nError:\nno")
    (_, result) = unflattened(flattened(calls, error=ValueError("no")))
    assert result["content"].startswith("Call id: 1\nError:\nno")


@pytest.mark.parametrize(
    "messages",
    [
        [TASK, {"role": "user", "content": "Observation:\n23"}],
        [{"role": "user", "content": "Calling tools:\n[{'function': {'name': 'f', 'arguments': {}}}]"}],
        [{"role": "assistant", "content": "Calling tools:\nnone"}, {"role": "user", "content": "Observation:\n23"}],
        [{"role": "assistant", "content": "Calling tools:\n[1]"}],
        [{"role": "assistant", "content": "Calling tools:\n[]"}],
        [{"role": "assistant", "content": "Calling tools:\n[__import__('os')]"}],
        [{"role": "assistant", "content": "x", "tool_calls": [call("f", {})]}, {"role": "tool", "content": "x"}],
    ],
    ids=str,
)
def test_what_is_no_such_history_stays_as_it_is(messages: list[dict[str, Any]]) -> None:
    assert unflattened(messages) == messages


def test_a_user_who_says_observation_later_says_it() -> None:
    step = flattened([ToolCall("get", {}, "1")], observations="23")
    later = {"role": "user", "content": "Observation:\nI am cold."}
    assert unflattened([TASK, *step, later])[-1] == later
