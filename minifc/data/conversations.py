"""Rows to conversations.

Three shapes of row, recognised by their fields:

    {"messages": [{"role", "content", ...}], "tools": [...]}    OpenAI's
    {"conversations": [{"role", "content"}]}                    the course's, tags in the text
    {"conversations": [{"from", "value"}], "tools": "[...]"}    ShareGPT's; without `tools`, tags in the text

A `system` field beside the messages is a system message before them. Other fields say something about the
row, not in it, and are not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minifc.data.rows import read_rows
from minifc.errors import CallError, DataError, TemplateError
from minifc.text.calls import read_tools, read_value, rewrite_calls, tool_schema
from minifc.text.messages import Message, is_assistant, normal_messages


@dataclass(frozen=True)
class Conversation:
    """One row, whatever its shape was. `source` says where it came from: file and row."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()
    verbatim: bool = False  # the messages' text already holds the tags
    source: str = ""


def read_conversations(path: str | Path | Sequence[Path]) -> list[Conversation]:
    """The conversations of a data file, of a folder of them, or of several. Raises DataError naming file and row."""
    return [read_conversation(row, source) for source, row in read_rows(path)]


def read_conversation(row: Any, source: str) -> Conversation:
    """A row in any of the three shapes. Raises DataError that begins with its source."""
    if not isinstance(row, dict):
        raise DataError(f"{source}: a JSON {type(row).__name__}, not an object with messages or conversations")
    messages = row.get("messages", row.get("conversations"))
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise DataError(f"{source}: no list of messages under 'messages' or 'conversations'; it has {sorted(row)}")
    if row.get("functions"):
        raise DataError(f"{source}: 'functions' is OpenAI's older form; it takes 'tools', and 'tool_calls' in messages")
    try:
        tools = row.get("tools")
        if isinstance(tools, str):
            tools = read_value(tools) if tools.strip() else []
        if tools is not None and not isinstance(tools, list):
            raise DataError(f"tools are a {type(tools).__name__}, not a list")
        schemas = [tool_schema(tool) for tool in tools or []]
        if "from" in messages[0]:
            messages = [_from_value(message) for message in messages]
        if system := row.get("system"):
            if messages[0].get("role") == "system":
                raise DataError("a system message, and another one in the field 'system'")
            messages = [{"role": "system", "content": system}, *messages]
        messages = normal_messages(messages)
    except (CallError, DataError, TemplateError) as error:
        raise DataError(f"{source}: {error}") from None
    verbatim = "messages" not in row and tools is None
    return Conversation(messages, schemas, verbatim, source)


def _from_value(message: dict[str, Any]) -> Message:
    """ShareGPT's {"from", "value"}; a function_call is a model turn that calls."""
    if not {"from", "value"} <= message.keys():
        raise DataError(f"a message has {sorted(message)}, not 'from' and 'value'")
    role, value = message["from"], message["value"]
    if role != "function_call":
        return {"role": role, "content": value}
    if not isinstance(value, str):
        raise DataError(f"a function_call is a {type(value).__name__}, not a string")
    calls = read_value(value)
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, dict) for call in calls):
        raise DataError("a function_call is not an object with name and arguments")
    return {"role": "assistant", "content": None, "tool_calls": calls}


def with_canonical_calls(conversation: Conversation) -> Conversation:
    """A verbatim conversation with its model turns' calls in minifc's one written form; any other as it is.

    Raises DataError naming the row for a call or a list of tools that cannot be read.
    """
    if not conversation.verbatim:
        return conversation
    tools: dict[str, dict[str, Any]] = {}
    messages: list[Message] = []
    try:
        for message in conversation.messages:
            content = message.get("content")
            if is_assistant(message) and isinstance(content, str):
                content = rewrite_calls(content, tools)
            elif isinstance(content, str):
                tools |= {tool["name"]: tool for tool in read_tools(content)}
            messages.append({**message, "content": content})
    except CallError as error:
        raise DataError(f"{conversation.source}: {error}") from None
    return replace(conversation, messages=messages)
