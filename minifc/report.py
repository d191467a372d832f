"""What a run leaves to look at: tables, samples, a picture, report.md."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minifc.cli import visible

Table = Sequence[Sequence[str]]
Sample = Sequence[tuple[str, str]]  # (whose words, the words)


def text_table(table: Table) -> str:
    """Aligned columns for a terminal. The first row is the head."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def text_samples(samples: Sequence[Sample], width: int = 100) -> str:
    """Cases one below the other, each voice in its own paragraph."""
    blocks = []
    for sample in samples:
        indent = max(len(name) for name, _ in sample) + 2
        lines = []
        for name, words in sample:
            paragraphs = visible(words).split("\n")
            wrapped = [line for part in paragraphs for line in textwrap.wrap(part, width - indent) or [""]]
            lines += [f"{name if i == 0 else '':>{indent - 2}}  {line}".rstrip() for i, line in enumerate(wrapped)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def text_settings(groups: Mapping[str, Mapping[str, Any]], width: int = 100) -> str:
    """Every option with its value, a paragraph per group."""
    lines = []
    for name, values in groups.items():
        shown = {key: ",".join(value) if isinstance(value, tuple) else value for key, value in values.items()}
        text = "  ".join(f"{key}={value}" for key, value in shown.items())
        wrapped = textwrap.wrap(text, width - 6, break_on_hyphens=False, break_long_words=False)
        lines += [f"{name if i == 0 else '':4}  {line}" for i, line in enumerate(wrapped)]
    return "\n".join(lines)


def markdown_table(table: Table) -> str:
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([rows[0], "|" + " --- |" * len(table[0]), *rows[1:]])


def markdown_samples(samples: Sequence[Sample]) -> str:
    return "\n\n".join(f"```\n{text_samples([sample])}\n```" for sample in samples)


def draw_loss(records: Sequence[dict[str, Any]], path: Path) -> bool:
    """The loss curve as a picture; False where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    steps = [record for record in records if "loss" in record]
    evaluated = [record for record in records if "eval_loss" in record]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [r["step"] for r in steps], [r["loss"] for r in steps], color="0.75", linewidth=1, label="training, each step"
    )
    axes.plot([r["step"] for r in steps], _smooth([r["loss"] for r in steps]), color="C0", label="training, smoothed")
    if evaluated:
        axes.plot(
            [r["step"] for r in evaluated], [r["eval_loss"] for r in evaluated], "o-", color="C3", label="evaluation"
        )
    axes.set(xlabel="optimiser step", ylabel="cross entropy per learned token (nats)", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)
    return True


def _smooth(values: Sequence[float], keep: float = 0.9) -> list[float]:
    smoothed: list[float] = []
    for value in values:
        smoothed.append(value if not smoothed else keep * smoothed[-1] + (1 - keep) * value)
    return smoothed
