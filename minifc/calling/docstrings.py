"""What a docstring says of a function and of its parameters.

Four ways of writing parameters are read: lines `name: text`, Google's `Args:`, numpy's underlined `Parameters`, and
Sphinx's `:param name: text`. A description goes on in the lines below it that are indented further.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

Kind = Literal["text", "parameters", "numpy parameters", "other"]

_OF_PARAMETERS = {"Args", "Arguments", "Parameters", "Other Parameters", "Keyword Args", "Keyword Arguments"}
_OTHERS = {"Returns", "Return", "Yields", "Raises", "Warns", "Attributes", "Example", "Examples", "Note", "Notes"}
_UNDERLINE = re.compile(r"\s*---+\s*")


def read_docstring(text: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The description, which is what stands before the first section or parameter, and those of parameters by name.

    text: as `inspect.getdoc` gives it, without the indentation of the code. names: of the function's parameters.
    """
    name = f"(?P<name>{'|'.join(map(re.escape, names)) or '(?!)'})"
    usual = rf"{name}(?:\s*\(.*?\))?\s*:\s*(?P<text>.*)"
    patterns = {
        "text": rf"(?::param\s+(?:[^:]*\s)?)?{usual}",
        "parameters": usual,
        "numpy parameters": rf"{name}\s*(?::.*)?$(?P<text>)",
    }
    description: list[str] = []
    described: dict[str, list[str]] = {}
    for number, (kind, lines) in enumerate(_sections(text)):
        if kind == "other":
            continue
        current, depth = [] if number else description, 10**6
        for line in lines:
            said, indent = line.strip(), len(line) - len(line.lstrip())
            if said and indent <= depth:
                if found := re.match(patterns[kind], said):
                    current = [] if found["name"] in described else described.setdefault(found["name"], [])
                    said, depth = found["text"], indent
                elif current is not description or said.startswith(":"):  # about something else: `:return: text`
                    current, depth = [], indent
            current.append(said)
    texts = {name: " ".join(" ".join(parts).split()) for name, parts in described.items()}
    return " ".join(" ".join(description).split()), {name: text for name, text in texts.items() if text}


def _sections(text: str) -> Iterator[tuple[Kind, list[str]]]:
    """The text's lines by sections, without their titles. The first section is the text before any title."""
    kind: Kind = "text"
    underlined, section = False, list[str]()
    lines = text.split("\n")
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        title = line.rstrip().removesuffix(":")
        if _UNDERLINE.fullmatch(line):
            continue
        if _UNDERLINE.fullmatch(below) or (title != line and title in _OF_PARAMETERS | _OTHERS):
            yield kind, section
            underlined, section = _UNDERLINE.fullmatch(below) is not None, []
            kind = "other"
            if title in _OF_PARAMETERS:
                kind = "numpy parameters" if underlined else "parameters"
            continue
        if line[:1].strip() and kind != "text" and not underlined:  # back at the margin: Google's section has ended
            yield kind, section
            kind, section = "text", []
        section.append(line)
    yield kind, section
