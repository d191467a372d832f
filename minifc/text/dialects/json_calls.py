"""Calls as canonical JSON between `<tool_call>` and `</tool_call>`: the dialect of `gemma` and `course`."""

from collections.abc import Mapping
from typing import Any

from minifc.text.calls import END_TOOL_CALL, TAGS, TOOL_CALL, Call, read_call, write_call, write_json
from minifc.text.dialects.dialect import Characters, Dialect, Syntax

# What json.dumps writes for the characters that cannot stand for themselves, less the backslash.
_SHORT = {0x08: b"b", 0x09: b"t", 0x0A: b"n", 0x0C: b"f", 0x0D: b"r"}
_STRING = Characters(
    opening=b'"',
    closing=b'"',
    reserved=frozenset([*range(0x20), *b'"\\']),
    escaped=(b'"', b"\\", *(_SHORT.get(code, b"u%04x" % code) for code in range(0x20))),
)


def _write(call: Call, tool: Mapping[str, Any] | None) -> str:
    return f"\n{write_call(call, tool)}\n"


JSON_CALLS = Dialect(
    tokens=TAGS,
    begin=TOOL_CALL,
    end=END_TOOL_CALL,
    write=_write,
    read=read_call,
    syntax=Syntax(
        opening=lambda name: f'\n{{"name": {write_json(name)}, "arguments": ',
        closing="}\n",
        value=write_json,
        key=lambda key: write_json(key)[1:-1],
        string=_STRING,
        name=_STRING,
        colon=b": ",
        comma=b", ",
        sorted_keys=False,
        depth=1,
    ),
    example="a line of JSON with `name` and `arguments`",
    parser={
        "open": TOOL_CALL,
        "transform": {
            "type": "function",
            "function": {"name": "{content.name}", "arguments": "{content.arguments}"},
        },
    },
)
