"""What people see of an evaluation and of a run: tables, samples, failures, a picture of the loss."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from minifc.evaluation.asking import Answers
from minifc.evaluation.judging import Score, Share
from minifc.evaluation.questions import Question
from minifc.terminal import Sample, Table, text_samples
from minifc.text.messages import Message

SHARES = {
    "right": "right answers",
    "exact": "exact calls",
    "right_tools": "right tools",
    "right_arguments": "right arguments",
    "false_refusals": "false refusals",
    "false_calls": "false calls",
    "unreadable": "unreadable calls",
    "ran_on": "ran to the limit",
}
CALIBRATION, TRUSTED = "calibration error", "99% right among"
BITS_PER_BYTE = "bits per byte of model turns"


def score_table(answers: Mapping[str, Answers]) -> list[list[str]]:
    """A row per share with its 95% interval, a column per model; where nothing was measured only the head."""
    rows = []
    if any(verdict for one in answers.values() for verdict in one.verdicts):
        scores = [one.score for one in answers.values()]
        rows = [[words, *(str(getattr(score, share)) for score in scores)] for share, words in SHARES.items()]
        sure = [one.calibration for one in answers.values()]
        rows.append([CALIBRATION, *("-" if math.isnan(one.error) else f"{one.error:.3f}" for one in sure)])
        rows.append([TRUSTED, *(str(one.trusted) for one in sure)])
    bits = [one.bits_per_byte for one in answers.values()]
    if any(value is not None for value in bits):
        shown = ["-" if value is None or math.isnan(value) else f"{value:.3f}" for value in bits]
        rows.append([BITS_PER_BYTE, *shown])
    return [["", *answers], *rows]


def as_json(answers: Answers) -> dict[str, Any]:
    """The counts of every share, their totals and 95% intervals; null where nothing was counted."""
    score = answers.score
    shares: dict[str, Share] = {field.name: getattr(score, field.name) for field in fields(Score)}
    record: dict[str, Any] = {
        name: {"count": share.count, "total": share.total, "interval": list(share.interval) if share.total else None}
        for name, share in shares.items()
    }
    sure, bits = answers.calibration, answers.bits_per_byte
    if sure.trusted.total:
        threshold = None if math.isinf(sure.threshold) else sure.threshold
        record["calibration"] = {"error": sure.error, "trusted": sure.trusted.count, "threshold": threshold}
    return record | ({} if bits is None else {"bits_per_byte": None if math.isnan(bits) else bits})


def samples(questions: Sequence[Question], answers: Mapping[str, Answers], count: int = 2) -> list[Sample]:
    """A few questions with every model's answer: some that have a tool, one that has none, and one failure."""
    verdicts = list(enumerate(_last(answers).verdicts))
    fitting = [i for i, verdict in verdicts if verdict and verdict.has_tool][:count]
    unfit = [i for i, verdict in verdicts if verdict and not verdict.has_tool][:1]
    shown = fitting + unfit
    failed = [i for i, verdict in verdicts if verdict and verdict.error and i not in shown][:1]
    unjudged = [i for i, verdict in verdicts if verdict is None]
    return [_sample(i, questions, answers) for i in shown + failed + unjudged]


def failures(questions: Sequence[Question], answers: Mapping[str, Answers], count: int) -> list[Sample]:
    """The first wrong answers of the last model, with what is wrong with them."""
    wrong = [(i, v.error) for i, v in enumerate(_last(answers).verdicts) if v and v.error][:count]
    return [[*_sample(i, questions, answers), ("wrong", error)] for i, error in wrong]


def _last(answers: Mapping[str, Answers]) -> Answers:
    return list(answers.values())[-1]


def _sample(i: int, questions: Sequence[Question], answers: Mapping[str, Answers]) -> list[tuple[str, str]]:
    question = questions[i]
    asked = [("tools", ", ".join(tool["name"] for tool in question.tools)), ("user", last_words(question.messages))]
    known = [*asked, ("right", question.right)] if question.rule else asked[1:]
    return [*known, *((name, one.texts[i]) for name, one in answers.items())]


def last_words(messages: Sequence[Message]) -> str:
    """The end of what was said last, for people; nothing where nobody has spoken."""
    return str(messages[-1].get("content") or "")[-400:] if messages else ""


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
