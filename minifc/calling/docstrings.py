"""What a docstring says of a function and of its parameters.

Four ways of writing parameters are read: lines `name: text`, Google's `Args:`, numpy's underlined `Parameters`, and
Sphinx's `:param name: text`. A description goes on in the lines below it that are indented further, and, but for
numpy's, in lines directly below it that begin nothing else.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

Kind = Literal["text", "parameters", "numpy parameters", "other"]

# Titles of sections, in any case.
_OF_PARAMETERS = re.compile(
    r"((other|keyword|input|function|tool)\s+)?(args|arguments|params|parameters)|inputs?", re.IGNORECASE
)
_OTHERS = re.compile(
    r"(returns?|outputs?|results?|response)(\s+(values?|type|format))?|yields?|raises|throws|exceptions|errors|warns"
    r"|warnings?|attributes|methods|(example|sample)s?(\s+\w+)?|usage|notes?|references|see also|side effects|todo",
    re.IGNORECASE,
)
_UNDERLINE = re.compile(r"\s*(-{3,}|={3,})\s*")
_FIELD = re.compile(r"[:@]\w")  # Sphinx's `:return:`, Javadoc's `@return`
_OTHER_ENTRY = re.compile(r"([-*+]\s+)?[`*]*[\w.]+[`*]*\s*(\(.*\)\s*)?:(\s|$)|(Returns?|Yields?|Raises)\b")


def read_docstring(text: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The description, which is what stands before the first section or parameter, and those of parameters by name.

    text: as `inspect.getdoc` gives it, without the indentation of the code. names: of the function's parameters.
    """
    entries = _entries(names)
    description: list[str] = []
    described: dict[str, list[str]] = {}
    for number, (kind, lines) in enumerate(_sections(text, names)):
        if kind == "other":
            continue
        current, depth, above = [] if number else description, 10**6, ""
        for line in lines:
            said, indent = line.strip(), _indent(line)
            if said and indent <= depth:
                if found := entries[kind].match(said):
                    current, depth = [], indent
                    for name in re.split(r"\s*,\s*", found["names"]):
                        described.setdefault(name.strip("`*"), current)  # the first description counts
                    said = found["text"]
                elif _FIELD.match(said) or (current is not description and not _goes_on(kind, said, above)):
                    current, depth = [], indent  # about something else
            current.append(said)
            above = line.strip()
    texts = {name: _joined(parts) for name, parts in described.items()}
    return _joined(description), {name: text for name, text in texts.items() if text}


def _entries(names: Sequence[str]) -> dict[Kind, re.Pattern[str]]:
    """How the line that begins a parameter's description looks, by kinds of section."""
    name = rf"[`*]*(?:{'|'.join(map(re.escape, names)) or '(?!)'})\b[`*]*"
    some = rf"(?:[-*+]\s+)?(?P<names>{name}(?:\s*,\s*{name})*)"
    usual = rf"{some}(?:\s*\(.*?\))?[`*]*\s*:[`*]*\s*(?P<text>.*)"
    field = r"(?:[:@](?:param|parameter|arg|argument|key|keyword)\s+(?:[^:]*\s)?)?"
    return {
        "text": re.compile(rf"{field}{usual}"),
        "parameters": re.compile(usual),
        "numpy parameters": re.compile(rf"{some}\s*(?::.*)?$(?P<text>)"),
    }


def _goes_on(kind: Kind, said: str, above: str) -> bool:
    """Whether a line that is not indented further than its parameter belongs to the description above it."""
    return kind != "numpy parameters" and above != "" and not _OTHER_ENTRY.match(said)


def _sections(text: str, names: Sequence[str]) -> Iterator[tuple[Kind, list[str]]]:
    """The text's lines by sections, without their titles. The first section is the text before any title."""
    kind: Kind = "text"
    margin, underlined, section = 10**6, False, list[str]()  # margin: how far the section's title is indented
    lines = text.split("\n")
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if _UNDERLINE.fullmatch(line):
            continue
        title, indent = line.strip(), _indent(line)
        ruled = bool(title) and _UNDERLINE.fullmatch(below) is not None
        if ruled or (indent <= margin and title.endswith(":") and _is_title(title[:-1].rstrip(), names)):
            yield kind, section
            of_parameters = _OF_PARAMETERS.fullmatch(title.removesuffix(":"))
            kind = "other" if not of_parameters else "numpy parameters" if ruled else "parameters"
            margin, underlined, section = indent, ruled, []
            continue
        if title and indent <= margin and kind != "text" and not underlined:  # as far out as the title: a section's end
            yield kind, section
            kind, section = "text", []
        section.append(line)
    yield kind, section


def _is_title(text: str, names: Sequence[str]) -> bool:
    return text not in names and bool(_OF_PARAMETERS.fullmatch(text) or _OTHERS.fullmatch(text))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(parts: Sequence[str]) -> str:
    return " ".join(" ".join(parts).split())
