"""Messages as OpenAI's API has them, whatever spelling they come in.

{"role": "system" | "developer" | "user" | "assistant" | "tool",
 "content": text, a list of text parts, or for a tool any JSON value,
 "thinking": text, "tool_calls": [{"id", "function": {"name", "arguments": {...}}}],   an assistant's
 "tool_call_id", "name"}                                                               a tool's
"""

from collections.abc import Mapping, Sequence
from typing import Any

from minifc.errors import CallError, TemplateError
from minifc.text.calls import Call, read_call, write_json

Message = Mapping[str, Any]

# Every name that a data set or an API gives a speaker -> OpenAI's name for it.
ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "tool_output": "tool",
    "function_response": "tool",
    "function_result": "tool",
    "function_output": "tool",
}
_CALL_FIELDS = {"id", "type", "index", "function"}


def normal_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages in OpenAI's form: its roles, calls with arguments as objects, no fields without a value.

    Raises TemplateError naming the message for an unknown role or a call that cannot be read.
    """
    return [_normal(message, f"message {number}") for number, message in enumerate(messages)]


def _normal(message: Message, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not all(isinstance(key, str) for key in message):
        raise TemplateError(f"{where}: not an object with role and content")
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise TemplateError(f"{where}: unknown role {role!r}; known are {', '.join(ROLES)}")
    normal = {key: value for key, value in message.items() if value is not None} | {"role": ROLES[role]}
    try:
        if ROLES[role] == "tool":
            write_json(message.get("content"))  # a result is any JSON value, null too
            normal["content"] = message.get("content")
        if calls := message_calls(message):
            given = message["tool_calls"]
            normal["tool_calls"] = [_openai(call, of) for call, of in zip(calls, given, strict=True)]
    except (CallError, TemplateError) as error:
        raise TemplateError(f"{where} ({role}): {error}") from None
    return normal


def _openai(call: Call, given: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return ({"id": given["id"]} if given.get("id") is not None else {}) | {"type": "function", "function": function}


def is_assistant(message: Message) -> bool:
    """Whether a message is the model's, in whatever spelling of the role."""
    return ROLES.get(str(message.get("role"))) == "assistant"


def message_calls(message: Message) -> list[Call]:
    """The calls of an assistant's message, from OpenAI's form or {"name", "arguments"}, arguments parsed."""
    calls = message.get("tool_calls") or []
    if not isinstance(calls, Sequence) or not all(isinstance(call, Mapping) for call in calls):
        raise TemplateError("tool_calls is not a list of objects")
    inner = [call.get("function", call) for call in calls]
    if not all(isinstance(call, Mapping) for call in inner):
        raise TemplateError("a call's function is not an object")
    for call in calls:
        if "function" in call and (unknown := sorted(set(_given(call)) - _CALL_FIELDS)):
            raise TemplateError(f"a call has a field {unknown[0]!r}; known are {', '.join(sorted(_CALL_FIELDS))}")
    return [read_call(write_json(_given(call))) for call in inner]


def _given(call: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value: in a table, as parquet is one, a row has every field of every other."""
    return {name: value for name, value in call.items() if value is not None}
