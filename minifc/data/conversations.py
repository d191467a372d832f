"""Rows to conversations.

The shapes of rows are in shapes.py. A `system` field beside the messages is a system message before them. Other
fields say something about the row, not in it; they are not read, and counted.

Text that holds the tags itself stays as it is (`verbatim`): of rows like the course's, {"conversations": ...} without
tools, and of rows whose model's turns hold tagged calls or whose system message lists the tools in tags.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minifc.data.bad_rows import BadRows
from minifc.data.nulls import without_nulls
from minifc.data.rows import BadLine, read_rows
from minifc.data.shapes import Shape, find_shape, is_empty, read_shape
from minifc.data.speakers import Speakers, with_one_system_message, with_thoughts_apart, without_tags_of_results
from minifc.data.tools import FIELDS, read_tool_field
from minifc.errors import CallError, DataError, TemplateError
from minifc.text.calls import END_THINK, END_TOOL_CALL, THINK, TOOL_CALL, TOOLS, read_tools, rewrite_calls
from minifc.text.messages import Message, is_assistant, normal_messages

_CALL = (TOOL_CALL, END_TOOL_CALL)
_PAIRS = (_CALL, (THINK, END_THINK))


@dataclass(frozen=True)
class Conversation:
    """One row, whatever its shape was. `source` says where it came from: file and row."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()
    verbatim: bool = False  # the messages' text already holds the tags
    source: str = ""
    listed: Sequence[dict[str, Any]] = ()  # tools of the row's own field that its text lists already
    unlearned: frozenset[int] = frozenset()  # numbers of the model's messages that are not to be learned from
    unread: Sequence[str] = ()  # fields that hold something and were not read
    nulls: int = 0  # nulls that were no arguments


def read_conversations(path: str | Path | Sequence[Path], bad: BadRows | None = None) -> list[Conversation]:
    """The conversations of a data file, of a folder of them, or of several. Raises DataError naming file and row.

    bad: takes the rows that cannot be read, as many as it allows.
    """
    bad = bad or BadRows()
    read: list[Conversation] = []
    for source, row in read_rows(path):
        with bad.left_out():
            read.append(read_conversation(row, source))
    if not read:
        raise bad.errors[0]
    return read


def read_conversation(row: Any, source: str, verbatim: bool | None = None) -> Conversation:
    """A row in any of the shapes. Raises DataError that begins with its source.

    verbatim: whether its text holds the tags, where that is known; None where the row tells.
    """
    if isinstance(row, BadLine):
        raise DataError(f"{source}: {row.why}")
    if not isinstance(row, dict):
        raise DataError(f"{source}: a JSON {type(row).__name__}, not an object with messages or conversations")
    try:
        return _read(row, find_shape(row), source, verbatim)
    except (CallError, DataError, TemplateError) as error:
        raise DataError(f"{source}: {error}") from None


def _read(row: dict[str, Any], shape: Shape, source: str, verbatim: bool | None) -> Conversation:
    tools = read_tool_field(row)
    speakers = Speakers()
    for message in read_shape(row, shape):
        speakers.read(message)
    given, fewer = with_one_system_message(speakers.messages, row.get("system"))
    messages: list[Message] = list(normal_messages(given))
    listing = ("system", "developer", "user") if shape.text_may_hold_tags else ("system", "developer")
    lists_tools = _lists_tools(messages, listing)
    structured = any(message.get("tool_calls") for message in messages)
    spelled = [pair for pair in _PAIRS if any(_holds(message, pair) for message in messages)]
    tagged = bool(spelled) if shape.text_may_hold_tags else _CALL in spelled
    if verbatim is None:
        in_text = lists_tools or (tagged and tools is not None) or (shape.text_may_hold_tags and tools is None)
        verbatim = in_text and not structured
    if structured and lists_tools and tools:
        raise DataError("its system message lists the tools in its text, and 'tools' lists them again; leave one")
    if structured and _CALL in spelled and shape.text_may_hold_tags:
        raise DataError("calls in the tags of the text, and others as fields; give all in one way")
    nulls = 0
    if not verbatim:
        messages = with_thoughts_apart(messages) if shape.text_may_hold_tags else messages
        messages, nulls = _without_nulls(without_tags_of_results(messages), tools or [])
    read = {*shape.fields, *FIELDS, "system"}
    unread = [name for name, value in row.items() if name not in read and not is_empty(value)]
    return Conversation(
        messages,
        [] if verbatim and lists_tools else tools or [],
        verbatim,
        source,
        tools or [] if verbatim and lists_tools else (),
        frozenset(number - fewer for number in speakers.unlearned),
        tuple(dict.fromkeys([*unread, *speakers.unread])),
        nulls,
    )


def _lists_tools(messages: Sequence[Message], roles: Collection[str]) -> bool:
    """Whether a message of one of these roles, before the model's first turn, lists tools in tags."""
    for message in messages:
        content = message.get("content")
        if is_assistant(message):
            return False
        if message["role"] in roles and isinstance(content, str) and TOOLS in content:
            try:
                if read_tools(content):
                    return True
            except CallError:
                continue
    return False


def _holds(message: Message, pair: tuple[str, str]) -> bool:
    """Whether a message is the model's and its text holds both of these tags."""
    content = message.get("content")
    return is_assistant(message) and isinstance(content, str) and all(tag in content for tag in pair)


def _without_nulls(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> tuple[list[Message], int]:
    """The messages with each call's arguments freed of nulls that its tool does not allow, and how many these were."""
    schemas = {tool["name"]: tool.get("parameters") for tool in tools}
    cleaned: list[Message] = []
    dropped = 0
    for message in messages:
        calls = []
        for call in message.get("tool_calls") or []:
            function = call["function"]
            arguments, count = without_nulls(function["arguments"], schemas.get(function["name"]))
            calls.append({**call, "function": {**function, "arguments": arguments}})
            dropped += count
        cleaned.append({**message, "tool_calls": calls} if calls else message)
    return cleaned, dropped


def what_was_left(conversations: Iterable[Conversation]) -> list[str]:
    """In sentences, with counts: which fields were not read, which nulls are no arguments, which turns are not
    learned from."""
    unread: Counter[str] = Counter()
    nulls = turns = 0
    for conversation in conversations:
        unread.update(conversation.unread)
        nulls += conversation.nulls
        turns += len(conversation.unlearned)
    said = []
    if unread:
        said.append(f"fields that are not read: {', '.join(f'{name} {count:,}' for name, count in unread.items())}")
    if nulls:
        said.append(f"nulls that their schema does not allow, and so are no arguments: {nulls:,}")
    if turns:
        said.append(f"the model's turns of weight 0, which are not learned from: {turns:,}")
    return said


def with_canonical_calls(conversation: Conversation) -> Conversation:
    """A verbatim conversation with its model turns' calls in minifc's one written form; any other as it is.

    Raises DataError naming the row for a call or a list of tools that cannot be read.
    """
    if not conversation.verbatim:
        return conversation
    listed = {tool["name"]: tool for tool in (*conversation.tools, *conversation.listed)}
    tools = dict(listed)
    messages: list[Message] = []
    try:
        for message in conversation.messages:
            content = message.get("content")
            if is_assistant(message) and isinstance(content, str):
                content = rewrite_calls(content, tools)
            elif isinstance(content, str):
                tools |= {tool["name"]: tool for tool in read_tools(content)} | listed
            messages.append({**message, "content": content})
    except CallError as error:
        raise DataError(f"{conversation.source}: {error}") from None
    return replace(conversation, messages=messages)
