"""The shapes of rows, recognised by their fields, each with a reader of its messages; and fields that make a row mean
something that is not read here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minifc.data.tools import unpacked
from minifc.errors import DataError


@dataclass(frozen=True)
class Shape:
    """A row with these fields, and how its messages are read from their values."""

    fields: tuple[str, ...]
    read: Callable[..., Any]
    text_may_hold_tags: bool = False  # whether tags in the text count where the row has no field with tools


def _messages(given: Any) -> Any:
    return unpacked(given)


def _asked_and_answered(prompt: Any, completion: Any) -> list[Any]:
    """TRL's prompt and completion: each a text, or messages of its own."""
    prompt, completion = unpacked(prompt), unpacked(completion)
    asked = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    return [*asked, *(completion if isinstance(completion, list) else [{"role": "assistant", "content": completion}])]


def _query_and_answers(query: Any, answers: Any) -> list[Any]:
    """xLAM's: a request, and the calls that answer it."""
    calls = unpacked(answers)
    if not isinstance(calls, list):
        raise DataError(f"answers are a {type(calls).__name__}, not a list of calls")
    if not calls:
        raise DataError("answers are empty, so nothing is replied; give the row a reply, or leave it out")
    return [{"role": "user", "content": query}, {"role": "tool_call", "content": calls}]


SHAPES = (
    Shape(("messages",), _messages),
    Shape(("conversations",), _messages, text_may_hold_tags=True),
    Shape(("conversation",), _messages, text_may_hold_tags=True),
    Shape(("query", "answers"), _query_and_answers),
    Shape(("prompt", "completion"), _asked_and_answered),
    Shape(("prompt", "response"), _asked_and_answered),
)
_PAIRS = "pairs of a better and a worse reply are for preference training; give the better one as messages"
_MEDIA = "only text is read; leave such rows out"
REFUSED = {
    "chosen": _PAIRS, "rejected": _PAIRS, "rejected_response": _PAIRS, "rejected_messages": _PAIRS,
    "image": _MEDIA, "images": _MEDIA, "audio": _MEDIA, "audios": _MEDIA, "video": _MEDIA, "videos": _MEDIA,
}  # fmt: skip


def find_shape(row: Mapping[str, Any]) -> Shape:
    """The shape of a row. Raises DataError for one of no shape, or whose fields make it mean something else."""
    for name, why in REFUSED.items():
        if not is_empty(row.get(name)):
            raise DataError(f"it has a field {name!r}: {why}")
    if "label" in row and row["label"] in (0, "0", "false", "False"):
        raise DataError(f"its label is {row['label']!r}: a bad reply would be learned; leave such rows out")
    for shape in SHAPES:
        if all(row.get(field) is not None for field in shape.fields):
            return shape
    known = "; ".join(" and ".join(shape.fields) for shape in SHAPES[:2] + SHAPES[3:])
    raise DataError(f"none of the known shapes ({known}); it has {sorted(row)}")


def read_shape(row: Mapping[str, Any], shape: Shape) -> Sequence[Any]:
    """The row's messages as they are given. Raises DataError or CallError."""
    messages = shape.read(*(row[field] for field in shape.fields))
    if not isinstance(messages, list) or not messages:
        kind = "an empty list" if messages == [] else f"a JSON {type(messages).__name__}"
        raise DataError(f"{' and '.join(map(repr, shape.fields))}: {kind}, not a list of messages")
    return messages


def is_empty(value: Any) -> bool:
    """Whether a field holds nothing, as many have in tables."""
    return value is None or value in ("", [], {})
