"""What the conversations of a data set call, and what is doubtful in them: each kind of fault with its count and its
first row."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minifc.calling.kinds import Schema
from minifc.calling.schema import read_schema
from minifc.calling.validation import find_error
from minifc.data import Conversation
from minifc.data.public.leaderboard import Leaderboard
from minifc.errors import CallError, SchemaError, TemplateError
from minifc.evaluation.similar import Similar
from minifc.text.calls import Call, read_tools, spelled_calls, write_json
from minifc.text.messages import Message, is_assistant, message_calls

NOT_OFFERED = "calls of a tool that is not offered"
NOT_ALLOWED = "calls that their tool's schema does not allow"
NOT_FOLLOWED = "tools whose schema cannot be followed, so that their calls are not checked"
UNREADABLE = "lists of tools in the text that cannot be read, so that calls are not checked"
SAME_ROLE = "turns that follow one of the same role"
EMPTY = "replies of the model that are empty"
REPEATED = "rows that say what an earlier row says, but for case, spaces and punctuation"
SIMILAR = "rows that share four fifths of their runs of words with an earlier row"
LEADERBOARD = "rows that share a function's name, or eight words in a row, with the leaderboard's questions"


@dataclass
class Fault:
    """How often something was found, and where first."""

    count: int = 0
    first: str = ""


@dataclass
class Survey:
    """Counts of a data set."""

    calls: int = 0
    parallel: int = 0  # turns with more than one call
    offering: int = 0  # conversations that have tools
    declining: int = 0  # conversations that have tools and call none
    offered: Counter[str] = field(default_factory=Counter)  # tools by name, in how many conversations
    called: Counter[str] = field(default_factory=Counter)
    faults: dict[str, Fault] = field(default_factory=dict)

    def found(self, what: str, where: str) -> None:
        fault = self.faults.setdefault(what, Fault(first=where))
        fault.count += 1

    @property
    def never_called(self) -> list[str]:
        return [name for name in self.offered if name not in self.called]

    def warnings(self) -> list[str]:
        """What somebody who is going to train on this should know, in sentences."""
        said = [f"{what}: {fault.count:,}, first {fault.first}" for what, fault in self.faults.items()]
        if self.offering and not self.calls:
            said.append("tools are offered, and no reply holds a call that is recognised")
        elif self.offering and not self.declining:
            said.append("every conversation that offers tools calls one, so a model learns to call whatever is asked")
        return said


def survey(conversations: Sequence[Conversation], leaderboard: Leaderboard | None = None) -> Survey:
    """Look through all conversations. leaderboard: what rows should not share with it."""
    found = Survey()
    schemas: dict[str, Schema | None] = {}
    seen: set[str] = set()
    similar = Similar()
    for conversation in conversations:
        _look_at_calls(conversation, found, schemas)
        _look_at_turns(conversation, found)
        words = _words(conversation)
        if words in seen:
            found.found(REPEATED, conversation.source)
        elif (earlier := similar.add(words, conversation.source)) is not None:
            found.found(SIMILAR, f"{conversation.source}: as {earlier}")
        seen.add(words)
        if leaderboard and (shared := _shared(conversation, leaderboard)):
            found.found(LEADERBOARD, f"{conversation.source}: {shared}")
    return found


def calls_of(message: Message, verbatim: bool) -> list[Call]:
    """The calls of a model's turn, none if one cannot be read: such turns are counted where tokens are."""
    try:
        return spelled_calls(str(message.get("content") or "")) if verbatim else message_calls(message)
    except (CallError, TemplateError):
        return []


def tools_of(conversation: Conversation) -> dict[str, Mapping[str, Any]]:
    """The tools that a conversation offers, in its field or in its text, by name. Raises CallError."""
    tools: dict[str, Mapping[str, Any]] = {}
    for message in conversation.messages if conversation.verbatim else ():
        if not is_assistant(message):
            tools |= {tool["name"]: tool for tool in read_tools(str(message.get("content") or ""))}
    return tools | {tool["name"]: tool for tool in (*conversation.tools, *conversation.listed)}


def _look_at_calls(conversation: Conversation, found: Survey, schemas: dict[str, Schema | None]) -> None:
    try:
        tools = tools_of(conversation)
    except CallError as error:
        found.found(UNREADABLE, f"{conversation.source}: {error}")
        return
    turns = [calls_of(m, conversation.verbatim) for m in conversation.messages if is_assistant(m)]
    found.offered.update(tools.keys())
    found.offering += bool(tools)
    found.declining += bool(tools) and not any(turns)
    for calls in turns:
        found.calls += len(calls)
        found.parallel += len(calls) > 1
        for call in calls:
            found.called[call.name] += 1
            where = f"{conversation.source}: {call.name}"
            if call.name not in tools:
                found.found(NOT_OFFERED, where)
            elif wrong := _error_in(call, tools[call.name], found, schemas, where):
                found.found(NOT_ALLOWED, f"{where}: {wrong}")


def _error_in(
    call: Call, tool: Mapping[str, Any], found: Survey, schemas: dict[str, Schema | None], where: str
) -> str | None:
    """Why the schema of its tool does not allow a call; a schema is read once, and None if it cannot be followed."""
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    key = write_json(parameters)
    if key not in schemas:
        try:
            schemas[key] = read_schema(parameters, call.name)
        except SchemaError as error:
            schemas[key] = None
            found.found(NOT_FOLLOWED, f"{where.partition(': ')[0]}: {error}")
    schema = schemas[key]
    return None if schema is None else find_error(call.arguments, schema)


def _look_at_turns(conversation: Conversation, found: Survey) -> None:
    before = ""
    for number, message in enumerate(conversation.messages):
        role = str(message["role"])
        if is_assistant(message) and not message.get("tool_calls") and not str(message.get("content") or "").strip():
            found.found(EMPTY, f"{conversation.source}, message {number}")
        if role == before and role in ("user", "assistant"):
            found.found(SAME_ROLE, f"{conversation.source}, message {number} ({role})")
        before = role


def _shared(conversation: Conversation, leaderboard: Leaderboard) -> str | None:
    try:
        names = tools_of(conversation)
    except CallError:
        names = {}
    said = [str(message.get("content") or "") for message in conversation.messages if message["role"] == "user"]
    return leaderboard.has(names, said)


def _words(conversation: Conversation) -> str:
    """What is said and called, without what makes no difference."""
    said = []
    for message in conversation.messages:
        content = message.get("content")
        said.append(f"{message['role']} {content or ''} {calls_of(message, verbatim=False) or ''}")
    return " ".join(re.findall(r"\w+", " ".join(said).lower()))
