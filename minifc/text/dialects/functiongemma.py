"""google/functiongemma-270m-it's own way of writing calls, as its published chat template has it.

    <start_function_call>call:book_table{guests:2,name:<escape>Ada<escape>,when:[18,19]}<end_function_call>

Strings stand between two `<escape>` tokens, and inside them every character stands for itself. Keys are bare, at every
depth, in alphabetical order without regard to case; numbers are Python's, true and false are JSON's, and null is None.
What could not be read back, a key with a colon in it, is refused by name.
"""

import re
from collections.abc import Mapping
from typing import Any

from minifc.errors import CallError
from minifc.text.calls import END_THINK, MAX_DEPTH, MAX_LENGTH, THINK, Call, as_listed, read_value, write_json
from minifc.text.dialects.dialect import DELIMITER, Characters, Dialect, Syntax, to_bytes

DECLARATION, END_DECLARATION = "<start_function_declaration>", "<end_function_declaration>"
CALL, END_CALL = "<start_function_call>", "<end_function_call>"
RESPONSE, END_RESPONSE = "<start_function_response>", "<end_function_response>"
ESCAPE = "<escape>"
TOKENS = (DECLARATION, END_DECLARATION, CALL, END_CALL, RESPONSE, END_RESPONSE, ESCAPE)

NOT_IN_KEYS = ":,{}[]"
_NAME = re.compile(rf"call:([^{{{DELIMITER}]+)(?=\{{)")
_KEY = re.compile(rf"([^{re.escape(NOT_IN_KEYS)}{DELIMITER}]+):")
_STRING = re.compile(f"{DELIMITER}([^{DELIMITER}]*){DELIMITER}")
_WORD = re.compile(r"[-+.\w]+")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_WORDS = {"true": True, "false": False, "None": None, "null": None}  # the template writes None


def write_call(call: Call, tool: Mapping[str, Any] | None = None) -> str:
    """The canonical text between the tokens of a call, with DELIMITER around strings. Raises CallError.

    Of keys that differ in nothing but their case, the order is that of `tool`'s schema. Where it wants an integer, 1.0
    is written 1.
    """
    try:
        return _opening(call.name) + write_value(as_listed(call.arguments, (tool or {}).get("parameters")))
    except RecursionError:
        raise CallError("the arguments are nested too deeply") from None


def write_value(value: Any) -> str:
    """Raises CallError for what is not a JSON value, or has a key that could not be read back."""
    if isinstance(value, str):
        _require_text(value)
        return f"{DELIMITER}{value}{DELIMITER}"
    if value is None:
        return "None"
    if isinstance(value, dict):
        keys = sorted(value, key=order)
        return "{" + ",".join(f"{_key(key)}:{write_value(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_value, value)) + "]"
    return write_json(value)


def order(key: Any) -> str:
    """By which keys are sorted, as Jinja's dictsort does it."""
    return str(key).lower()


def _opening(name: str) -> str:
    _require_text(name)
    if not name or "{" in name:
        raise CallError(f"the name {name!r} cannot be written: a bracket ends it")
    return f"call:{name}"


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key or any(character in key for character in NOT_IN_KEYS):
        raise CallError(f"the key {key!r} cannot be written: keys are bare, and hold none of {' '.join(NOT_IN_KEYS)}")
    _require_text(key)
    return key


def _require_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CallError("a string holds half a surrogate pair") from None


def read_call(text: str) -> Call:
    """A call from the text between its tokens, with DELIMITER around strings. Raises CallError.

    Nothing stands between its parts, not even a space: this is how the model was taught, and how the grammar writes.
    """
    if len(text) > MAX_LENGTH:
        raise CallError(f"{len(text)} characters; at most {MAX_LENGTH} are read")
    name = _NAME.match(text)
    if not name:
        raise CallError(f"a call is call:name{{...}}, not {_shown(text)}")
    arguments, end = _read_value(text, name.end(), 1)
    if end < len(text):
        raise CallError(f"{_shown(text[end:])} follows the arguments of {name[1]}")
    return Call(name[1], arguments)


def _read_value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at a place, and where it ends."""
    if depth > MAX_DEPTH and text[at : at + 1] in ("{", "["):
        raise CallError(f"nested more than {MAX_DEPTH} deep, at character {at}")
    if text.startswith("{", at):
        return _read_members(text, at + 1, depth)
    if text.startswith("[", at):
        return _read_items(text, at + 1, depth)
    if match := _STRING.match(text, at):
        return match[1], match.end()
    match = _WORD.match(text, at)
    if match and match[0] in _WORDS:
        return _WORDS[match[0]], match.end()
    if match and _NUMBER.fullmatch(match[0]):
        return read_value(match[0]), match.end()
    raise CallError(f"no value at character {at}: {_shown(text[at:])}")


def _read_members(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    members: dict[str, Any] = {}
    if text.startswith("}", at):
        return members, at + 1
    while True:
        key = _KEY.match(text, at)
        if not key:
            raise CallError(f"no key at character {at}: {_shown(text[at:])}")
        if key[1] in members:
            raise CallError(f"the key {key[1]!r} stands twice")
        members[key[1]], at = _read_value(text, key.end(), depth + 1)
        if text.startswith("}", at):
            return members, at + 1
        at = _after_comma(text, at)


def _read_items(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    if text.startswith("]", at):
        return items, at + 1
    while True:
        item, at = _read_value(text, at, depth + 1)
        items.append(item)
        if text.startswith("]", at):
            return items, at + 1
        at = _after_comma(text, at)


def _after_comma(text: str, at: int) -> int:
    if not text.startswith(",", at):
        raise CallError(f"neither a comma nor a closing bracket at character {at}: {_shown(text[at:])}")
    return at + 1


def _shown(text: str) -> str:
    return repr(text[:40].replace(DELIMITER, ESCAPE)) if text else "the end"


FUNCTIONGEMMA = Dialect(
    tokens=(*TOKENS, THINK, END_THINK),
    begin=CALL,
    end=END_CALL,
    write=write_call,
    read=read_call,
    syntax=Syntax(
        opening=_opening,
        closing="",
        value=write_value,
        key=_key,
        string=Characters(opening=to_bytes(DELIMITER), closing=to_bytes(DELIMITER), reserved=frozenset()),
        name=Characters(opening=b"", closing=b":", reserved=frozenset(NOT_IN_KEYS.encode()), shortest=1),
        colon=b"",
        comma=b",",
        sorted_keys=True,
        depth=0,
    ),
    example="`call:name{key:<escape>text<escape>,other:3}`",
    parser={
        "open_pattern": CALL + r"call:(?P<name>[^{]+)(?=\{)",
        "content_args": {"unquoted_keys": True, "string_delims": [[ESCAPE, ESCAPE]]},
        "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
    },
    delimiter=ESCAPE,
    stops=(RESPONSE,),
    resumes=(END_RESPONSE,),
    calls_end_turn=True,
    ids={token: 46 + number for number, token in enumerate(TOKENS)},
    shown=tuple(token for token in TOKENS if token != RESPONSE),
)
