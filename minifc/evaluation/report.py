"""What a run leaves to look at: tables, samples and a picture for report.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minifc.terminal import Sample, Table, text_samples


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
