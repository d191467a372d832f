"""The messages of a row, in whatever spelling, to OpenAI's: who speaks, what is said, called and answered."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from minifc.data.tools import unpacked
from minifc.errors import DataError
from minifc.text.calls import END_THINK, END_TOOL_RESPONSE, THINK, TOOL_CALL, TOOL_RESPONSE, read_value
from minifc.text.messages import ROLES, Message, is_assistant

_CALLS = ("function_call", "tool_call", "tool_calls")  # roles of turns that are calls and nothing else
_FIELDS = {
    "role", "content", "thinking", "reasoning", "reasoning_content", "tool_calls", "tool_call_id", "name",
    "function_call",
}  # fmt: skip
_ABOUT = {"id", "message_id", "turn", "turn_id", "timestamp", "created", "created_at", "date", "model", "finish_reason",
          "usage", "logprobs", "annotations"}  # fmt: skip
# Fields that say whether a turn is learned from: OpenAI's and Mistral's, Axolotl's, Swift's.
_WEIGHTS = ("weight", "train", "training", "train_on_turn", "loss")
_TEXT = ("text", "input_text", "output_text")
_THOUGHT = re.compile(rf"\s*{THINK}(.*?){END_THINK}", re.DOTALL)
_MEDIA = ("image", "audio", "video", "file")


class Speakers:
    """Messages read one by one, and what is known about them."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.unlearned: set[int] = set()  # numbers of the model's turns that are not to be learned from
        self.unread: list[str] = []  # names of fields that say something about a message and not in it
        self._turns_of_calls: set[int] = set()

    def read(self, given: Any) -> None:
        """The next message. Raises DataError or CallError."""
        given = unpacked(given)
        if not isinstance(given, Mapping):
            raise DataError(f"a message is a JSON {type(given).__name__}, not an object with role and content")
        message = {name: value for name, value in given.items() if value is not None}
        if "role" not in message and "from" in message:
            if "value" not in given:
                raise DataError(f"a message has {sorted(given)}, not 'from' and 'value'")
            names = {"from": "role", "value": "content"}
            message = {names.get(name, name): value for name, value in message.items()}
        role = message.get("role")
        message["role"] = role = role.strip().lower() if isinstance(role, str) else role
        learned = _is_learned(message)
        self._leave_fields(message)
        if role in _CALLS and TOOL_CALL in str(message.get("content")):
            message["role"] = role = "assistant"  # a text that holds the tags
        if role in _CALLS:
            message = {"role": "assistant", "content": None, "tool_calls": _calls(message.get("content"))}
        elif old := message.pop("function_call", None):
            message["tool_calls"] = [*(message.get("tool_calls") or []), unpacked(old)]
        if "tool_calls" in message:
            calls = unpacked(message["tool_calls"])
            message["tool_calls"] = [_call(call) for call in calls] if isinstance(calls, list) else calls
        message["content"] = _text(message.get("content"), is_result=_is_result(message))
        self._add(message, learned, of_calls=role in _CALLS)

    def _leave_fields(self, message: dict[str, Any]) -> None:
        """Take out fields that hold nothing, or say something about the message; others are left for an error."""
        for name in [name for name in message if name not in _FIELDS]:
            if name in _ABOUT or message[name] in ("", [], {}):
                self.unread += [f"messages.{name}"] * (message[name] not in ("", [], {}))
                del message[name]

    def _add(self, message: dict[str, Any], learned: bool, of_calls: bool) -> None:
        """Calls that follow what the model says, or other calls, are of the same turn."""
        last = len(self.messages) - 1
        before = self.messages[last] if self.messages else {}
        one_turn = is_assistant(before) and (not before.get("tool_calls") or last in self._turns_of_calls)
        if of_calls and one_turn and learned == (last not in self.unlearned):
            before["tool_calls"] = [*(before.get("tool_calls") or []), *message["tool_calls"]]
            self._turns_of_calls.add(last)
            return
        if of_calls:
            self._turns_of_calls.add(last + 1)
        if not learned and is_assistant(message):
            self.unlearned.add(last + 1)
        self.messages.append(message)


def _is_learned(message: dict[str, Any]) -> bool:
    """Whether a message says that it is learned from, or says nothing; the fields that say it are taken out."""
    said = {name: message.pop(name) for name in _WEIGHTS if name in message}
    for name, value in said.items():
        if value not in (0, 1):
            raise DataError(f"a message has {name} {value!r}; a turn is learned from or not: 1 or 0")
    return all(said.values())


def _is_result(message: Message) -> bool:
    return ROLES.get(str(message.get("role"))) == "tool"


def _calls(content: Any) -> list[Any]:
    """The calls that are the content of a turn: JSON or objects."""
    if not isinstance(content, str | list | Mapping):
        raise DataError(f"a function_call is a {type(content).__name__}, not a string")
    calls = read_value(content) if isinstance(content, str) else content
    calls = calls if isinstance(calls, list) else [calls]
    if not all(isinstance(call, Mapping) for call in calls):
        raise DataError("a function_call is not an object with name and arguments")
    return [_call(call) for call in calls]


def _call(call: Any) -> Any:
    """A call without the wrapper of a string; `parameters` are Llama's name for its arguments."""
    call = unpacked(call)
    if isinstance(call, Mapping) and isinstance(call.get("function"), Mapping | str):
        return {**call, "function": _call(call["function"])}
    if isinstance(call, Mapping) and "parameters" in call and call.get("arguments") is None:
        call = {"arguments" if name == "parameters" else name: v for name, v in call.items() if name != "arguments"}
    return call


def _text(content: Any, is_result: bool) -> Any:
    """Content as one text where it is a list of text parts. A result may be any other JSON value, but no picture."""
    if isinstance(content, Mapping) and content.get("type") in _TEXT:
        content = [content]
    if not isinstance(content, list) or not content:
        return None if content == [] and not is_result else content
    kinds = [part.get("type") if isinstance(part, Mapping) else None for part in content]
    if all(kind in _TEXT for kind in kinds) and all(isinstance(part.get("text"), str) for part in content):
        return "".join(part["text"] for part in content)
    others = [kind for kind in kinds if isinstance(kind, str) and kind not in _TEXT]
    if others and (not is_result or any(medium in kind for kind in others for medium in _MEDIA)):
        raise DataError(f"content has a part of type {others[0]!r}, and only text is read; leave such rows out")
    if not is_result:
        raise DataError("content is a list whose parts are not all text; give it as a string")
    return content


def with_one_system_message(messages: Sequence[dict[str, Any]], field: Any) -> tuple[list[dict[str, Any]], int]:
    """The messages with the system messages at their beginning put together, and how many fewer they are.

    field: the text of the row's own field `system`, another system message before them.
    """
    beginning = 0
    while beginning < len(messages) and messages[beginning].get("role") in ("system", "developer"):
        beginning += 1
    rest = list(messages[beginning:])
    system = [message for message in messages[:beginning] if message.get("content") not in (None, "")]
    if field:
        if system and [message.get("content") for message in system] != [field]:
            raise DataError("a system message, and another one in the field 'system'")
        system = [{"role": "system", "content": field}]
    texts = [message.get("content") for message in system]
    if len(system) > 1 and all(isinstance(text, str) for text in texts):
        system = [{**system[0], "content": "\n\n".join(map(str, texts))}]
    return [*system, *rest], beginning - len(system)


def with_thoughts_apart(messages: Sequence[Message]) -> list[Message]:
    """Structured messages in which what the model thinks, in tags before what it says, has a field of its own."""
    found: list[Message] = []
    for message in messages:
        content = message.get("content")
        thought = _THOUGHT.match(content) if isinstance(content, str) and is_assistant(message) else None
        if thought and not message.get("thinking"):
            message = {
                **message,
                "thinking": thought[1].strip(),
                "content": message["content"][thought.end() :].strip(),
            }
        found.append(message)
    return found


def without_tags_of_results(messages: Sequence[Message]) -> list[Message]:
    """Structured messages whose results stand in tags already, which the chat template is going to write."""
    return [
        {**message, "content": _untagged(message["content"])} if _is_result(message) else message
        for message in messages
    ]


def _untagged(content: Any) -> Any:
    text = content.strip() if isinstance(content, str) else ""
    tagged = text.startswith(TOOL_RESPONSE) and text.endswith(END_TOOL_RESPONSE)
    inside = text[len(TOOL_RESPONSE) : -len(END_TOOL_RESPONSE)]
    return inside.strip() if tagged and TOOL_RESPONSE not in inside else content
