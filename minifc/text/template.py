"""Messages to ids, and which of them a model learns from: chat templates, run so that no text can forge a token.

    <bos><start_of_turn>user
    ...<end_of_turn>
    <start_of_turn>model
    ...<end_of_turn>

A chat template writes one string, in which a control token and its spelling inside somebody's text look alike. So
before it runs, each control token that *the template itself* spells is replaced by a character that no message has.
In what it writes, those characters are the control tokens, and everything else is text: filters, tests and loops see
ordinary strings, and whatever a message holds, or is put together from, stays text. `{% generation %}` blocks, which
mark what a model learns from, are found the same way.

`verbatim` is for data sets whose text already holds the tags of calls, like the course's: there the tags count, but
never the markers of turns.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from minifc.errors import TemplateError
from minifc.text.calls import TAGS, THINK, tool_schema
from minifc.text.dialects import chat_template, dialect_of
from minifc.text.messages import Message, normal_messages
from minifc.text.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

Format = str  # one of dialects.FORMATS
_PRIVATE = [range(start, start + 0x400) for start in range(0x10F400, 0x100000, -0x400)]  # for private use, in blocks
# What a template's own mistakes raise while it runs.
_FAILURES = (
    jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError
)  # fmt: skip
_LEARN, _END_LEARN, _FIRST = 0, 1, 2  # places in a block: where learning begins and ends, and the first token


@dataclass(frozen=True)
class Piece:
    """A part of a rendered conversation: some text, or one control token, and whether it is learned from."""

    text: str
    control: bool
    learned: bool


@dataclass(frozen=True)
class Rendered:
    """ids, for each id whether it is learned from, and the same as text."""

    ids: list[int]
    mask: list[bool]
    text: str


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]] | None = None,
    format: Format = "course",
    add_generation_prompt: bool = False,
    verbatim: bool = False,
    think: bool = False,
) -> Rendered:
    """Messages to ids and loss mask.

    messages: {"role", "content"} and, in a model's turn, "thinking" (str) and "tool_calls"
        (OpenAI's form or {"name", "arguments"}). A tool's content may be any JSON value. Results that name their
        call, by "tool_call_id", are put in the order of the calls; "name" says what stands in the call already.
    tools: JSON schemas, {"name", "description", "parameters"} or wrapped as OpenAI does.
    format: gemma, course, functiongemma, or own: the chat template in the tokenizer's folder.
    add_generation_prompt: end with the opening of a model turn; with `think`, also with `<think>`.

    Raises TemplateError naming the message for what the template refuses: an unknown role, an unknown field, a
    system message that is not first, a result of no call; CallError for a malformed tool. Nothing is dropped.
    """
    return encode(pieces(messages, tokenizer, tools, format, add_generation_prompt, verbatim, think), tokenizer)


def pieces(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]] | None = None,
    format: Format = "course",
    add_generation_prompt: bool = False,
    verbatim: bool = False,
    think: bool = False,
    tags: Sequence[str] = (),
) -> list[Piece]:
    """The rendered conversation before it is encoded; arguments and errors as `render` has them.

    Tags of calls are control tokens here whether the tokenizer has them or not: which of them a data set uses
    decides which of them become tokens. tags: further tags that count in verbatim text.
    """
    schemas = [tool_schema(tool) for tool in tools or []]
    normal = [_with_both_names_of_thoughts(message) for message in normal_messages(messages)]
    dialect = dialect_of(format, tokenizer)
    block = _unused_block(normal, schemas)
    # Tokens that data brought in may be spelled like a word of the template, which does not mean them.
    known = tokenizer.names if format == "own" else tokenizer.own_names
    template = _compiled(chat_template(format, tokenizer), known, dialect.tokens, block, trusted=format != "own")
    marks = template.marks
    if verbatim:
        counted = tuple(dict.fromkeys((*TAGS, *tokenizer.added, *tags)))
        marks = marks | _marks([name for name in counted if name not in marks], block[_FIRST + len(marks) :])
        normal = [_with_marks(message, counted, marks) for message in normal]
    # In OpenAI's wrapper, as a template that was made for transformers expects them.
    offered = [{"type": "function", "function": schema} for schema in schemas] if format == "own" else schemas
    variables = {
        "bos_token": marks[BOS], "eos_token": marks[EOS], "pad_token": PAD, "unk_token": UNK,
        "tools": offered or None, "add_generation_prompt": add_generation_prompt, "verbatim": verbatim,
    }  # fmt: skip
    try:
        written = template.jinja.render(messages=normal, **variables)
        if not template.marks_learning:
            written = _with_learning(template.jinja, written, normal, variables, block)
    except _Refusal as error:
        raise TemplateError(str(error)) from None
    except _FAILURES as error:
        advice = "; mend the template, or use the format gemma or course" if format == "own" else ""
        raise TemplateError(f"the chat template fails on these messages: {error}{advice}") from None
    found = _split(written, marks, block)
    if add_generation_prompt and think:
        found.append(Piece(THINK, True, False))
    return found


def encode(found: Sequence[Piece], tokenizer: Tokenizer) -> Rendered:
    """Pieces to ids. A control token that the tokenizer does not have is text; neighbouring text is encoded as one."""
    ids: list[int] = []
    mask: list[bool] = []
    pending, learned = "", False

    def flush() -> None:
        nonlocal pending
        new = tokenizer.encode(pending)
        ids.extend(new)
        mask.extend([learned] * len(new))
        pending = ""

    for piece in found:
        if piece.learned != learned:
            flush()
            learned = piece.learned
        if piece.control and piece.text in tokenizer.control:
            flush()
            ids.append(tokenizer.control[piece.text])
            mask.append(learned)
        else:
            pending += piece.text
    flush()
    return Rendered(ids, mask, "".join(piece.text for piece in found))


def stop_ids(tokenizer: Tokenizer, format: Format = "gemma") -> tuple[int, ...]:
    """The ids that end a model turn. Both, whatever the format: a model may know either. And those of its dialect."""
    both = (tokenizer.eos_id, tokenizer.end_of_turn_id)
    stops = [token for token in dialect_of(format, tokenizer).stops if token in tokenizer.control]
    return (*both, *(tokenizer.control[token] for token in stops))


# --- running a template --------------------------------------------------------------------------------------------


class _Generation(Extension):
    """`{% generation %}`, transformers' mark around what the model writes: here two private characters around it."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 wants it)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_between_marks"), [], [], body).set_lineno(line)

    def _between_marks(self, caller: Any) -> str:
        block: Any = self.environment.globals["private_block"]
        return f"{chr(block[_LEARN])}{caller()}{chr(block[_END_LEARN])}"


class _Refusal(Exception):
    """What a template itself says of messages that it does not take."""


def _refuse(message: object) -> None:
    raise _Refusal(str(message))


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As transformers has this filter, but for NaN, which is not JSON."""
    options: dict[str, Any] = {"indent": indent, "separators": separators, "sort_keys": sort_keys}
    return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False, **options)


@dataclass(frozen=True)
class _Template:
    """A template with private characters in place of its control tokens."""

    jinja: jinja2.Template
    marks: dict[str, str]  # each control token that the template spells, and its character
    marks_learning: bool  # whether it has {% generation %} blocks


@lru_cache(64)
def _compiled(source: str, known: frozenset[str], more: tuple[str, ...], block: range, trusted: bool) -> _Template:
    """known, more: names of control tokens. Those that the template spells, and <bos> and <eos>, get a character.

    trusted: the template is minifc's own, so it need not be watched at each step, which takes half of the time.
    """
    environment_of = jinja2.Environment if trusted else ImmutableSandboxedEnvironment
    environment = environment_of(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _refuse,
        "strftime_now": lambda format: datetime.now().strftime(format),
        "private_block": block,
    }
    names = sorted({BOS, EOS, *more, *known})
    marks = _marks([name for name in names if name in (BOS, EOS) or name in source], block[_FIRST:])
    try:
        template = environment.from_string(_with_spellings_marked(source, tuple(marks), marks))
    except jinja2.TemplateError as error:
        raise TemplateError(f"the chat template cannot be read: {error}") from None
    return _Template(template, marks, re.search(r"\{%-?\s*generation\s*-?%\}", source) is not None)


def _marks(names: Sequence[str], characters: range) -> dict[str, str]:
    """A private character for each name. Raises TemplateError for more names than there are characters."""
    if len(names) > len(characters):
        raise TemplateError(f"{len(names)} control tokens, and a chat template can have {len(characters)}")
    return dict(zip(names, map(chr, characters), strict=False))


def _with_spellings_marked(text: str, names: tuple[str, ...], marks: Mapping[str, str]) -> str:
    """The text with each spelling of a name replaced by its character."""
    return _spellings(names).sub(lambda match: marks[match.group()], text)


@lru_cache(64)
def _spellings(names: tuple[str, ...]) -> "re.Pattern[str]":
    """Matches any of these names; of two that begin alike, the longer one."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))


def _unused_block(*values: Any) -> range:
    """A block of private characters of which no string in the values has one."""
    text = json.dumps(values, ensure_ascii=False, default=str, skipkeys=True)
    return next(block for block in _PRIVATE if not re.search(f"[{chr(block.start)}-{chr(block.stop - 1)}]", text))


def _with_marks(message: dict[str, Any], tags: tuple[str, ...], marks: Mapping[str, str]) -> dict[str, Any]:
    """A verbatim message with its tags as private characters."""
    content = message.get("content")
    if not isinstance(content, str):
        return message
    return message | {"content": _with_spellings_marked(content, tags, marks)}


def _with_both_names_of_thoughts(message: dict[str, Any]) -> dict[str, Any]:
    """As transformers passes messages to a template: some read `thinking`, others `reasoning_content`."""
    names = ("reasoning_content", "thinking", "reasoning")
    thoughts = next((message[name] for name in names if message.get(name) is not None), None)
    return message if thoughts is None else {"thinking": thoughts} | message | {"reasoning_content": thoughts}


def _split(written: str, marks: Mapping[str, str], block: range) -> list[Piece]:
    """What a template wrote, as pieces."""
    names = {mark: name for name, mark in marks.items()}
    found: list[Piece] = []
    learned = False
    for part in re.split(f"([{chr(block.start)}-{chr(block.stop - 1)}])", written):
        if part in (chr(block[_LEARN]), chr(block[_END_LEARN])):
            learned = part == chr(block[_LEARN])
        elif part:
            found.append(Piece(names.get(part, part), part in names, learned))
    return found


def _with_learning(
    template: jinja2.Template, written: str, messages: list[dict[str, Any]], variables: dict[str, Any], block: range
) -> str:
    """What a template without generation blocks wrote, with each assistant's turn marked as learned from.

    A turn is what the conversation up to it has more than the prompt that asks for it. Where the two do not begin
    alike, nothing says which part is the model's: a prompt is then left without marks, and a conversation to learn from
    is a TemplateError.
    """
    unmarked = written
    for number in reversed(range(len(messages))):
        if messages[number]["role"] != "assistant":
            continue
        before, up_to = messages[:number], messages[: number + 1]
        prompt = template.render(messages=before, **variables | {"add_generation_prompt": True})
        whole = template.render(messages=up_to, **variables | {"add_generation_prompt": False})
        if not whole.startswith(prompt) or not written.startswith(whole):
            if variables["add_generation_prompt"]:
                return unmarked
            raise TemplateError(
                f"message {number} (assistant): the chat template has no {{% generation %}} block, and writes what "
                "comes before this turn otherwise once the turn is there; so nothing says what to learn from"
            )
        end = len(whole.rstrip("\n"))
        written = f"{prompt}{chr(block[_LEARN])}{written[len(prompt) : end]}{chr(block[_END_LEARN])}{written[end:]}"
    return written
