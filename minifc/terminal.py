"""What people see in a terminal or a pipe: safe text, colour where it is wanted, tables, wrapped text, progress."""

import math
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TextIO
from unicodedata import category

from tqdm import tqdm

Table = Sequence[Sequence[str]]
Sample = Sequence[tuple[str, str]]  # (label, text) pairs that are shown together

# Python calls these unprintable, but joiners shape letters and emoji, and direction marks order the text.
_KEPT = "\n\t\u200c\u200d\u200e\u200f"
PIPE_INTERVAL = 30.0  # seconds between lines of progress where nobody watches a bar


def printable(text: str) -> str:
    """The text with control characters escaped: a model, a tool or a data file may hold terminal escape sequences."""
    return "".join(c if c in _KEPT or c.isprintable() or category(c) == "Zs" else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode()


def in_a_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(printable(str(error)).split("\n"))


def colourful(stream: TextIO) -> bool:
    """Whether to colour what goes to this stream: a terminal, and no wish against it (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """The width to write for: the terminal's, 80 in a pipe, and never more than 100, which is hard to read."""
    return min(shutil.get_terminal_size((80, 24)).columns, 100)


def note(text: str) -> None:
    """Print a sentence for people, wrapped for the terminal."""
    lines = textwrap.wrap(  # names and commands stay whole
        printable(text), columns(), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    print("\n".join(lines), flush=True)


class _Lines:
    """A stream on which each update of a progress bar is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self.stream.write(line + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress(total: int, name: str | None, unit: str, initial: int = 0, show: bool = True) -> "tqdm[Any]":
    """A progress bar on standard error: in a terminal it moves, in a pipe it is a line now and then."""
    watched = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=name,
        unit=unit,
        disable=not show,
        dynamic_ncols=watched,
        ncols=None if watched else 79,
        mininterval=0.1 if watched else PIPE_INTERVAL,
        maxinterval=10.0 if watched else PIPE_INTERVAL,
        file=None if watched else _Lines(sys.stderr),
    )


def text_table(table: Table) -> str:
    """Aligned columns. The first row is the head; where the terminal is too narrow, the cells are wrapped."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    widths = _narrowed(widths, columns() - 2 * (len(widths) - 1))
    lines: list[str] = []
    for number, row in enumerate(table):
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            shown = [(cell[i] if i < len(cell) else "").ljust(width) for cell, width in zip(cells, widths, strict=True)]
            lines.append("  ".join(shown).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _narrowed(widths: list[int], room: int) -> list[int]:
    """Column widths that fit into `room`, taken from the widest columns first; none gets narrower than 8."""
    widths = list(widths)
    while sum(widths) > room and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    return widths


def text_histogram(values: Sequence[int], mark: int) -> str:
    """How many of these whole numbers lie in each of about ten ranges, as bars, with a line at a mark."""
    step = _round_step(max(*values, mark) / 10)
    counts = [0] * (max(values) // step + 1)
    for value in values:
        counts[value // step] += 1
    names = [f"{number * step:,} to {(number + 1) * step - 1:,}" for number in range(len(counts))]
    width, digits = max(map(len, names)), len(f"{max(counts):,}")
    room = columns() - width - digits - 4
    lines = []
    for number, (name, count) in enumerate(zip(names, counts, strict=True)):
        bar = "#" * -(-count * room // max(counts))
        lines.append(f"{name:>{width}}  {count:>{digits},}  {bar}".rstrip())
        if number == mark // step and number + 1 < len(counts):
            lines.append(f"{'-' * width}  {mark:,} {'-' * max(columns() - width - len(f'{mark:,}') - 3, 0)}")
    return "\n".join(lines)


def _round_step(at_least: float) -> int:
    """1, 2 or 5 times a power of ten."""
    power = 10 ** max(math.floor(math.log10(max(at_least, 1))), 0)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= at_least)


def text_samples(samples: Sequence[Sample]) -> str:
    """Samples one below the other, each label with its own paragraph."""
    blocks = []
    for sample in samples:
        indent = max(len(name) for name, _ in sample) + 2
        lines = []
        for name, words in sample:
            paragraphs = printable(words).split("\n")
            wrapped = [line for part in paragraphs for line in textwrap.wrap(part, columns() - indent) or [""]]
            lines += [f"{name if i == 0 else '':>{indent - 2}}  {line}".rstrip() for i, line in enumerate(wrapped)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def text_settings(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Every setting with its value, a paragraph per group."""
    indent = max(map(len, groups)) + 2
    lines = []
    for name, values in groups.items():
        shown = {key: ",".join(value) if isinstance(value, tuple) else value for key, value in values.items()}
        text = "  ".join(f"{key}={value}" for key, value in shown.items())
        wrapped = textwrap.wrap(text, columns() - indent, break_on_hyphens=False, break_long_words=False)
        lines += [f"{name if i == 0 else '':{indent}}{line}" for i, line in enumerate(wrapped)]
    return "\n".join(lines)
