"""Messages to one string of tokens, and which of them a model learns from.

    <bos><start_of_turn>user
    ...<end_of_turn>
    <start_of_turn>model
    ...<end_of_turn>

Two formats. `course` is the notebook's: its role names, and `<end_of_turn><eos>` after every turn.
`gemma` puts the same content into the turns that gemma-2-*-it was trained on, where only `user` and
`model` exist: a tool's result comes back in a user turn.

The text of a turn is data. Turn markers and tags become control tokens where this module puts them;
the same spelling inside somebody's content stays text. `verbatim` is for data sets whose model turns
already hold tags as text, like the course's: there the tags, but never the turn markers, count.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from minifc.errors import CallError, TemplateError
from minifc.text.calls import (
    END_THINK,
    END_TOOL_CALL,
    END_TOOL_RESPONSE,
    END_TOOLS,
    TAGS,
    THINK,
    TOOL_CALL,
    TOOL_RESPONSE,
    TOOLS,
    Call,
    read_call,
    tool_schema,
    write_call,
    write_json,
)
from minifc.text.tokenizer import BOS, END_OF_TURN, EOS, START_OF_TURN, Tokenizer

Format = Literal["course", "gemma"]
Message = Mapping[str, Any]

# Every role a data set or an API uses, and whose turn it is.
SPEAKERS = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "model",
    "model": "model",
    "gpt": "model",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
}
ROLE_NAMES: dict[str, dict[str, str]] = {
    "course": {"user": "human", "model": "model", "tool": "tool"},
    "gemma": {"user": "user", "model": "model", "tool": "user"},
}
TURN_ENDS: dict[str, tuple[str, ...]] = {"course": (END_OF_TURN, EOS), "gemma": (END_OF_TURN,)}
# The sentence that the course puts between system message and question (COURSE.md).
COURSE_THINK = (
    "Also, before making a call to a function take the time to plan the function to take. "
    "Make that thinking process between <think>{your thoughts}</think>\n\n"
)
TOOLS_INTRODUCTION = "Call a tool when one fits the request. The tools are:\n"
_CALL_FIELDS = {"id", "type", "index", "function"}
FIELDS = {"role", "content", "thinking", "reasoning_content", "tool_calls", "tool_call_id", "name"}


@dataclass(frozen=True)
class Rendered:
    """ids, for each id whether it is learned from, and the same as text."""

    ids: list[int]
    mask: list[bool]
    text: str


@dataclass
class _Writer:
    """Collects pieces; neighbours of one kind are encoded together, as one tokenizer call would."""

    tokenizer: Tokenizer
    ids: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    pending: str = ""
    supervised: bool = False

    def supervise(self, supervised: bool) -> None:
        self.flush()
        self.supervised = supervised

    def data(self, text: str) -> None:
        self.pending += text
        self.text.append(text)

    def control(self, name: str) -> None:
        """A control token, or its spelling where the tokenizer has no such token."""
        if name not in self.tokenizer.control:
            return self.data(name)
        self.flush()
        self.text.append(name)
        self._append([self.tokenizer.control[name]])

    def flush(self) -> None:
        self._append(self.tokenizer.encode(self.pending))
        self.pending = ""

    def _append(self, ids: list[int]) -> None:
        self.ids += ids
        self.mask += [self.supervised] * len(ids)


# A turn's content as pieces: (text, is it a tag that we put there?)
_Pieces = list[tuple[str, bool]]


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]] | None = None,
    format: Format = "course",
    add_generation_prompt: bool = False,
    verbatim: bool = False,
    think: bool = False,
) -> Rendered:
    """Messages to ids and loss mask: exactly one `<bos>`, every model turn supervised up to its end.

    messages: {"role", "content"} and, in a model's turn, "thinking" (str) and "tool_calls"
        (OpenAI's form or {"name", "arguments"}). A tool's content may be any JSON value. Results that name their
        call, by "tool_call_id", are put in the order of the calls; "name" says what stands in the call already.
    tools: JSON schemas, {"name", "description", "parameters"} or wrapped as OpenAI does.
    add_generation_prompt: end with the opening of a model turn; with `think`, also with `<think>`.

    Raises TemplateError naming the message for an unknown role, an unknown field, a system message that is not
    first, or a result of no call, CallError for a malformed tool. Nothing else is ever dropped silently.
    """
    if format not in ROLE_NAMES:
        raise TemplateError(f"format {format!r} is not one of {', '.join(ROLE_NAMES)}")
    schemas = [tool_schema(tool) for tool in tools or []]
    turns = _turns(messages, schemas, format, (*TAGS, *tokenizer.added) if verbatim else None)

    out = _Writer(tokenizer)
    out.control(BOS)
    for role, pieces in turns:
        out.control(START_OF_TURN)
        out.data(role + "\n")
        out.supervise(role == "model")
        for text, tag in pieces:
            out.control(text) if tag else out.data(text)
        for end in TURN_ENDS[format]:
            out.control(end)
        out.supervise(False)
        out.data("\n")
    if add_generation_prompt:
        out.control(START_OF_TURN)
        out.data("model\n")
        if think:
            out.control(THINK)
    out.flush()
    return Rendered(out.ids, out.mask, "".join(out.text))


def stop_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that end a model turn. Both, whatever the format: a model may know either."""
    return (tokenizer.eos_id, tokenizer.end_of_turn_id)


def used_tags(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    format: Format = "course",
    verbatim: bool = False,
    tags: Sequence[str] = TAGS,
) -> Counter[str]:
    """The tags that rendering these messages puts in, each with its number."""
    turns = _turns(messages, [tool_schema(tool) for tool in tools], format, tags if verbatim else None)
    return Counter(text for _, pieces in turns for text, tag in pieces if tag)


def unknown_tags(messages: Sequence[Message]) -> Counter[str]:
    """Tags in verbatim text that are not ours: pairs of some, such as <tool_reponse>, and closings like </thnik> in
    which one of ours is misspelled."""
    text = "\n".join(str(message.get("content")) for message in messages)
    closing = Counter(tag for tag in re.findall(r"</[\w-]+>", text) if tag not in TAGS)
    return Counter(
        {
            opened if opened in text else tag: count
            for tag, count in closing.items()
            if (opened := tag.replace("/", "")) in text or difflib.get_close_matches(tag.lower(), TAGS, 1, 0.75)
        }
    )


def spelled_tags(messages: Sequence[Message]) -> Counter[str]:
    """Our tags in what the model says in structured messages, where any text is data: they stay text."""
    said = [str(m.get("content") or "") for m in messages if SPEAKERS.get(str(m.get("role"))) == "model"]
    return Counter({tag: count for tag in TAGS if (count := sum(text.count(tag) for text in said))})


def message_calls(message: Message) -> list[Call]:
    """The structured calls of a model's message, from OpenAI's form or {"name", "arguments"}."""
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


def _turns(
    messages: Sequence[Message], tools: list[dict[str, Any]], format: Format, verbatim: Sequence[str] | None
) -> list[tuple[str, _Pieces]]:
    """(role name, content) of each turn, the system message merged into the first.

    verbatim: the tags that count in the messages' text; None if the messages are structured.
    """
    turns: list[tuple[str, _Pieces]] = []
    system: _Pieces | None = _tools_pieces(tools) if tools else None
    previous = ""
    for number, message in enumerate(messages if verbatim is not None else _in_order_of_calls(messages)):
        where = f"message {number}"
        role = message.get("role")
        if not isinstance(role, str) or role not in SPEAKERS:
            raise TemplateError(f"{where}: unknown role {role!r}; known are {', '.join(SPEAKERS)}")
        if unknown := sorted(set(message) - FIELDS):
            raise TemplateError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(FIELDS))}")
        speaker = SPEAKERS[role]
        try:
            pieces = _content(message, speaker, tools, verbatim)
        except (CallError, TemplateError) as error:
            raise TemplateError(f"{where} ({role}): {error}") from None
        if speaker == "system":
            if number:
                raise TemplateError(f"{where}: a system message can only come first")
            system = [*pieces, ("\n\n", False), *system] if system else pieces
        elif system is not None:
            if speaker != "user":
                raise TemplateError(f"{where}: after a system message or tools the user speaks, not {role!r}")
            between = _tagged(COURSE_THINK, TAGS) if format == "course" else [("\n\n", False)]
            turns.append((ROLE_NAMES[format][speaker], _strip([*system, *between, *pieces])))
            system = None
        elif speaker == "tool" and previous == "tool" and ROLE_NAMES[format]["tool"] != "tool":
            # Results of several calls in one turn: the model knows user and model turns that alternate.
            turns[-1] = (turns[-1][0], [*turns[-1][1], ("\n", False), *_strip(pieces)])
        else:
            turns.append((ROLE_NAMES[format][speaker], _strip(pieces)))
        previous = speaker
    if system is not None:
        raise TemplateError("no user message to put the system message and the tools into")
    return turns


def _in_order_of_calls(messages: Sequence[Message]) -> list[Message]:
    """The messages, with the results that follow a model's turn in the order of its calls.

    Raises TemplateError for a result that names no call of that turn, or one that has its result already.
    """
    ordered: list[Message] = []
    results: dict[int, Message] = {}  # of the last turn's calls, by the number of the call
    calls: list[str] = []
    for number, message in enumerate(messages):
        id_ = message.get("tool_call_id")
        if SPEAKERS.get(str(message.get("role"))) != "tool" or id_ is None or not calls:
            ordered += [results[call] for call in sorted(results)]
            results = {}
            given = message.get("tool_calls")
            given = given if isinstance(given, Sequence) else []
            calls = [call["id"] for call in given if isinstance(call, Mapping) and isinstance(call.get("id"), str)]
            calls = calls if len(set(calls)) == len(given) else []  # without ids of their own they go by their order
            ordered.append(message)
        elif id_ not in calls or calls.index(id_) in results:
            which = "a call that has its result already" if id_ in calls else "no call of the turn before it"
            raise TemplateError(f"message {number}: tool_call_id {id_!r} is of {which}; those calls are {calls}")
        else:
            results[calls.index(id_)] = message
    return ordered + [results[call] for call in sorted(results)]


def _content(message: Message, speaker: str, tools: list[dict[str, Any]], verbatim: Sequence[str] | None) -> _Pieces:
    content, thinking = message.get("content"), message.get("thinking") or message.get("reasoning_content")
    calls = message_calls(message)
    if (thinking or calls) and (speaker != "model" or verbatim is not None):
        raise TemplateError("only a model's turn thinks and calls, and not where its text holds the tags itself")
    if thinking is not None and not isinstance(thinking, str):
        raise TemplateError(f"thinking is a {type(thinking).__name__}, not a string")
    if isinstance(content, list) and content and all(map(_is_text_part, content)):  # as OpenAI's API has it
        content = "".join(part["text"] for part in content)
    if speaker == "tool" and verbatim is None:
        text = content if isinstance(content, str) else write_json(content)
        return [(TOOL_RESPONSE, True), (f"\n{text.strip()}\n", False), (END_TOOL_RESPONSE, True)]
    if not isinstance(content, str) and not (content is None and (thinking or calls)):
        verbatim_too = "" if verbatim is None else "; verbatim data holds strings"
        raise TemplateError(f"content is a {type(content).__name__}, not a string{verbatim_too}")
    if verbatim is not None:
        return _tagged(content or "", verbatim)
    pieces: _Pieces = []
    if thinking:
        pieces += [(THINK, True), (thinking.strip(), False), (END_THINK, True)]
    if content and content.strip():
        pieces.append((content.strip() if speaker == "model" else content, False))
    schemas = {tool["name"]: tool for tool in tools}
    for number, call in enumerate(calls):
        if number or (content and content.strip()):
            pieces.append(("\n", False))
        written = write_call(call, schemas.get(call.name))
        pieces += [(TOOL_CALL, True), (f"\n{written}\n", False), (END_TOOL_CALL, True)]
    return pieces


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _tools_pieces(tools: list[dict[str, Any]]) -> _Pieces:
    listed = "\n".join(write_json(tool) for tool in tools)
    return [(TOOLS_INTRODUCTION, False), (TOOLS, True), (f"\n{listed}\n", False), (END_TOOLS, True)]


def _tagged(text: str, tags: Sequence[str]) -> _Pieces:
    """Text whose tags count, because we or a trusted data set wrote them."""
    parts = re.split("(" + "|".join(map(re.escape, tags)) + ")", text)
    return [(part, part in tags) for part in parts if part]


def _strip(pieces: _Pieces) -> _Pieces:
    """Strip the whole content, as the notebook's template does, not each piece of it."""
    pieces = [piece for piece in pieces if piece[0]]
    while pieces and not pieces[0][1]:
        pieces[0] = (pieces[0][0].lstrip(), False)
        if pieces[0][0]:
            break
        del pieces[0]
    while pieces and not pieces[-1][1]:
        pieces[-1] = (pieces[-1][0].rstrip(), False)
        if pieces[-1][0]:
            break
        del pieces[-1]
    return pieces
