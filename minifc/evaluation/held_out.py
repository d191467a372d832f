"""A run's held-out conversations, kept in its folder, so that its questions can be asked again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minifc.data import Conversation, read_conversation, read_rows, toy
from minifc.errors import CheckpointError, DataError
from minifc.evaluation.questions import QuestionSet, held_out_questions, toy_questions
from minifc.files import read_json, write_text

HELD_OUT = "held_out.jsonl"  # the file's name in a run folder


def write_conversations(conversations: Sequence[Conversation], path: Path) -> None:
    """A data file in OpenAI's shape; rows whose text holds the tags are marked as verbatim."""
    lines = []
    for one in conversations:
        tools = [{"type": "function", "function": tool} for tool in (*one.tools, *one.listed)]
        messages = [{**m, "weight": 0} if number in one.unlearned else m for number, m in enumerate(one.messages)]
        row = {"messages": messages, "tools": tools, "verbatim": one.verbatim, "source": one.source}
        lines.append(json.dumps(row) + "\n")
    write_text(path, "".join(lines))


def read_held_out(path: Path) -> list[Conversation]:
    """What `write_conversations` wrote. Raises DataError naming file and row."""
    return [
        read_conversation(row, source, verbatim=isinstance(row, dict) and row.get("verbatim") is True)
        for source, row in read_rows(path)
    ]


def run_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings that a run folder's config.json holds, by groups. Raises CheckpointError."""
    path = folder / "config.json"
    settings = read_json(path, CheckpointError)
    groups = ("run", "lora", "loop", "commits")
    if not isinstance(settings, dict) or not all(isinstance(settings.get(group), dict) for group in groups):
        raise CheckpointError(f"{path}: not the settings of a training run; put a whole copy in its place")
    return settings


def run_questions(
    folder: Path, count: int | None = None, seed: int | None = None, sentences: toy.Sentences = "known"
) -> QuestionSet:
    """What a run asked at its end: the same questions in the same order, or the first `count` of them.

    seed, sentences: draw other requests, where the run asked about the toy world.
    """
    run = run_settings(folder)["run"]
    count = run.get("cases") if count is None else count
    seed = run.get("test_seed") if seed is None else seed
    if type(count) is not int or type(seed) is not int or min(count, seed) < 0:
        raise CheckpointError(f"{folder / 'config.json'}: cases and test_seed are not numbers; put a whole copy there")
    if not run.get("data"):
        return toy_questions(count, seed, sentences)
    if not (folder / HELD_OUT).is_file():
        raise DataError(f"{folder / HELD_OUT}: not found; it holds the conversations that the run did not train on")
    return held_out_questions(str(folder), read_held_out(folder / HELD_OUT)).first(count)
