"""Rows of a data file to conversations, conversations to examples, examples to packed batches.

Three shapes of row, recognised by their fields:

    {"messages": [{"role", "content", ...}], "tools": [...]}    OpenAI's
    {"conversations": [{"role", "content"}]}                    the course's, tags in the text
    {"conversations": [{"from", "value"}], "tools": "[...]"}    ShareGPT's; without `tools`, tags in the text

A `system` field beside the messages is a system message before them. Other fields say something about the
row, not in it, and are not read.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minifc.errors import CallError, DataError, TemplateError, TokenizerError
from minifc.text.calls import TAGS, read_tools, read_value, rewrite_calls, tool_schema
from minifc.text.template import SPEAKERS, Format, Message, render, spelled_tags, unknown_tags, used_tags
from minifc.text.tokenizer import Tokenizer

IGNORED = -100  # the target of a position that nothing is learned from


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


def read_rows(path: str | Path | Sequence[Path]) -> list[tuple[str, Any]]:
    """(where it stands, the row) for each row of a JSON, JSON Lines or parquet file, of a folder of them, or of
    several.

    Raises DataError for a file that cannot be read or is empty.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else path
    files = [file for path in paths for file in (_data_files(path) if path.is_dir() else [path])]
    rows = [(f"{file}, row {number}", row) for file in files for number, row in enumerate(_read_file(file), 1)]
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: empty; a data file holds one conversation per row")
    return rows


def _data_files(folder: Path) -> list[Path]:
    """Parquet files, or else JSON ones, in a folder; hidden folders are not looked into."""
    for suffixes in ((".parquet",), (".json", ".jsonl")):
        files = [file for file in folder.rglob("*") if file.suffix in suffixes]
        if shown := [file for file in files if not any(p.startswith(".") for p in file.relative_to(folder).parts)]:
            return sorted(shown)
    raise DataError(f"{folder}: a folder without a .parquet, .json or .jsonl file")


def _read_file(path: Path) -> list[Any]:
    return _READERS.get(path.suffix, _read_json)(path)


def _read_parquet(path: Path) -> list[Any]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise DataError(f"{path}: a parquet file needs pyarrow; pip install pyarrow") from None
    try:
        rows: list[Any] = read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet ({error})") from None
    return [_without_nulls(row) for row in rows]


def _without_nulls(value: Any) -> Any:
    """Without the fields that have no value: in a table, a row's objects have the fields of all other rows' too."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _read_json(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text at byte {error.start}") from None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        rows = []
        for number, line in enumerate(text.split("\n"), 1):
            try:
                if line.strip():
                    rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: neither a JSON file nor JSON Lines ({error})") from None
        return rows
    return whole if isinstance(whole, list) else [whole]


_READERS = {".json": _read_json, ".jsonl": _read_json, ".parquet": _read_parquet}


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
            if SPEAKERS.get(str(message.get("role"))) == "model" and isinstance(content, str):
                content = rewrite_calls(content, tools)
            elif isinstance(content, str):
                tools |= {tool["name"]: tool for tool in read_tools(content)}
            messages.append({**message, "content": content})
    except CallError as error:
        raise DataError(f"{conversation.source}: {error}") from None
    return replace(conversation, messages=messages)


@dataclass(frozen=True)
class Audit:
    """What a data set asks of the tokenizer and of the row length."""

    tags: Counter[str]  # our tags, and in how many places they stand
    unknown: Counter[str]  # tags in the text that are not ours, and stay text
    spelled: Counter[str]  # tags of ours in what the model says in structured rows, where they stay text


def audit(conversations: Sequence[Conversation], format: Format, tokens: Sequence[str] = ()) -> Audit:
    """Count our tags and `tokens`. Raises DataError naming the row that cannot be rendered."""
    tags: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    spelled: Counter[str] = Counter()
    counted = tuple(dict.fromkeys((*TAGS, *tokens)))
    for conversation in conversations:
        try:
            tags += used_tags(conversation.messages, conversation.tools, format, conversation.verbatim, counted)
            if conversation.verbatim:
                unknown += unknown_tags(conversation.messages)
            else:
                spelled += spelled_tags(conversation.messages)
        except (CallError, TemplateError) as error:
            raise DataError(f"{conversation.source}: {error}") from None
    return Audit(Counter({tag: tags[tag] for tag in counted if tags[tag]}), unknown, spelled)


@dataclass(frozen=True)
class Examples:
    """Conversations ready to learn from, and those that are longer than a row."""

    fitting: list["Example"]
    too_long: list["Example"] = field(default_factory=list)


def make_examples(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    format: Format,
    length: int,
    every_token: bool = False,
    cut: bool = False,
) -> Examples:
    """Render every conversation. Raises DataError for one with nothing to learn from.

    every_token: learn from all tokens, not from the model's turns alone.
    cut: one that is longer than a row goes on in the next, which does not see what came before.
    """
    examples = Examples([])
    for conversation in conversations:
        try:
            rendered = render(
                conversation.messages, tokenizer, conversation.tools, format, verbatim=conversation.verbatim
            )
        except (CallError, TemplateError, TokenizerError) as error:
            raise DataError(f"{conversation.source}: {error}") from None
        if not any(rendered.mask):
            raise DataError(f"{conversation.source}: nothing to learn from; no turn is the model's")
        mask = [True] * len(rendered.ids) if every_token else rendered.mask
        if len(mask) <= length:
            examples.fitting.append(Example(rendered.ids, mask, conversation.source))
            continue
        examples.too_long.append(Example(rendered.ids, mask, conversation.source))
        for start in range(0, len(mask) if cut else 0, length):
            part = slice(start, start + length)
            if any(mask[part][1:]):  # the first token of a row follows nothing
                examples.fitting.append(Example(rendered.ids[part], mask[part], conversation.source))
    return examples


@dataclass(frozen=True)
class Example:
    """One conversation: its ids, which of them are learned from, and where it came from."""

    ids: list[int]
    mask: list[bool]
    source: str = ""


@dataclass(frozen=True)
class Batch:
    """Whole conversations laid end to end in rows that do not see each other."""

    ids: Tensor  # int64 [B, T]
    targets: Tensor  # int64 [B, T]: the id that follows, or IGNORED
    documents: Tensor  # int64 [B, T]: which conversation of its row; -1 is padding

    @property
    def supervised(self) -> int:
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.ids.to(device), self.targets.to(device), self.documents.to(device))


def pack(examples: Iterable[Example], rows: int, length: int, pad_id: int = 0, look_ahead: int = 1) -> Iterator[Batch]:
    """Fill `rows` rows of `length` tokens with whole examples, each where it first fits.

    look_ahead: how many of the coming examples there are to choose from. An empty row takes the first of them, any
        other the longest that fits: so little room is left over, and no example waits for long.
    Every example appears exactly once and none is ever split, so each must fit into a row.
    """
    upcoming = iter(examples)
    waiting: list[Example] = []
    open_rows: list[list[Example]] = [[] for _ in range(rows)]
    room = [length] * rows
    while True:
        for example in islice(upcoming, look_ahead - len(waiting)):
            if len(example.ids) > length:
                raise ValueError(f"{example.source}: {len(example.ids)} tokens do not fit into a row of {length}")
            waiting.append(example)
        if not waiting:
            break
        shortest = min(len(example.ids) for example in waiting)
        row = next((row for row in range(rows) if room[row] >= shortest), None)
        if row is None:
            yield _batch(open_rows, length, pad_id)
            open_rows, room = [[] for _ in range(rows)], [length] * rows
            continue
        fitting = [example for example in waiting if len(example.ids) <= room[row]]
        chosen = max(fitting, key=lambda example: len(example.ids)) if open_rows[row] else waiting[0]
        waiting.remove(chosen)
        open_rows[row].append(chosen)
        room[row] -= len(chosen.ids)
    if any(open_rows):
        yield _batch([row for row in open_rows if row], length, pad_id)


def _batch(rows: list[list[Example]], length: int, pad_id: int) -> Batch:
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id)
    targets = torch.full(shape, IGNORED)
    documents = torch.full(shape, -1)
    for number, row in enumerate(rows):
        at = 0
        for document, example in enumerate(row):
            end = at + len(example.ids)
            ids[number, at:end] = torch.tensor(example.ids)
            learned = [id_ if mask else IGNORED for id_, mask in zip(example.ids, example.mask, strict=True)]
            targets[number, at : end - 1] = torch.tensor(learned[1:])  # each position learns what follows it
            documents[number, at:end] = document
            at = end
    return Batch(ids, targets, documents)
