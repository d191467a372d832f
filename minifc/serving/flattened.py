"""What smolagents' ToolCallingAgent sends, as a model knows it that was taught calls, results and answers as such.

It writes its history into texts: an assistant's ends with `Calling tools:` and the calls as Python writes a list, and
the user's text behind it is `Observation:` and the results, or `Call id:` and an error. And it wants each answer as a
call of a tool, `final_answer`: here the model answers in words, and the words become that call.
"""

from typing import Any

from minifc.errors import CallError
from minifc.text.calls import read_value

CALLING = "Calling tools:\n"
OBSERVATION, FAILURE = "Observation:\n", "Call id: "
FINAL_ANSWER = "final_answer"


def wants_final_answer(tools: list[dict[str, Any]]) -> bool:
    """Whether one of the tools stands for an answer in words."""
    parameters = next((tool.get("parameters") for tool in tools if tool["name"] == FINAL_ANSWER), None)
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    return isinstance(properties, dict) and list(properties) == ["answer"]


def unflattened(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with such texts as tool_calls and results; all others as they are."""
    found: list[dict[str, Any]] = []
    called = False  # whether the message before is such a text
    for message in messages:
        role, text = message.get("role"), _text(message)
        if role == "assistant" and text is not None and (calls := _calls(text)):
            said = text[: text.rindex(CALLING)].strip()
            found.append({"role": "assistant", "content": said, "tool_calls": calls})
            called = True
        elif called and role == "user" and text is not None and text.startswith((OBSERVATION, FAILURE)):
            found.append({"role": "tool", "content": text.removeprefix(OBSERVATION)})
            called = False
        else:
            found.append(message)
            called = False
    return found


def _text(message: dict[str, Any]) -> str | None:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content)
    return content if isinstance(content, str) and not message.get("tool_calls") else None


def _calls(text: str) -> list[dict[str, Any]]:
    """The calls at the end of an assistant's text; none if there is anything else."""
    if CALLING not in text:
        return []
    try:
        calls = read_value(text[text.rindex(CALLING) + len(CALLING) :])
    except CallError:
        return []
    if not isinstance(calls, list) or not all(isinstance(call, dict) and "function" in call for call in calls):
        return []
    return [{"type": "function", "function": call["function"]} for call in calls]
