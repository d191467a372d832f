"""Questions put to a model, in batches, and its answers judged."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from minifc.calling.confidence import LIKELIEST, confidence
from minifc.calling.grammar import Grammar, check_tools
from minifc.data import Conversation
from minifc.errors import SchemaError
from minifc.evaluation.calibration import Calibration
from minifc.evaluation.judging import Score, Verdict, judge
from minifc.evaluation.likelihood import bits_per_byte
from minifc.evaluation.questions import Demonstration, Question
from minifc.gemma.generate import Row, decode
from minifc.gemma.model import Gemma
from minifc.terminal import printable, progress
from minifc.text.dialects import dialect_of
from minifc.text.messages import ROLES, Message
from minifc.text.template import Format, render, stop_ids
from minifc.text.tokenizer import END_OF_TURN, START_OF_TURN, Tokenizer
from minifc.tuning.lora import merge_lora

BATCH = 16
MAX_NEW_TOKENS = 256
Grammars = Callable[[int], Grammar | None]  # the grammar of the question of that number


@dataclass(frozen=True)
class Answers:
    """What a model said to each question, and what that is worth."""

    texts: list[str]
    verdicts: list[Verdict | None]  # None where the question has no rule
    confidences: list[float]  # the probability of each, of a call with all of its arguments
    bits_per_byte: float | None = None  # of the conversations beside the questions

    @property
    def score(self) -> Score:
        return Score.of([verdict for verdict in self.verdicts if verdict])

    @property
    def calibration(self) -> Calibration:
        judged = zip(self.confidences, self.verdicts, strict=True)
        return Calibration.of([(sure, verdict.error is None) for sure, verdict in judged if verdict])


def ask(
    model: Gemma,
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    format: Format = "gemma",
    *,
    name: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    demonstrations: Sequence[Demonstration] = (),
    constrained: bool = False,
    conversations: Sequence[Conversation] = (),
) -> Answers:
    """Ask every question, greedily, and judge the answers.

    name: of the progress bar; None for no bar. demonstrations: solved examples, to stand in the prompt.
    constrained: hold calls to the tools' schemas. conversations: measure the likelihood of their model turns, too.
    """
    shown = demonstration_turns(demonstrations, tokenizer, format)
    prompts = [prompt(question, tokenizer, format, shown) for question in questions]
    grammars = question_grammars(questions, tokenizer, format) if constrained else _no_grammar
    replies, confidences = answer(model, tokenizer, prompts, max_new_tokens, format, grammars, name)
    verdicts = [
        judge(ids, question.expected, question.rule, tokenizer, format, len(ids) == max_new_tokens)
        if question.rule
        else None
        for question, ids in zip(questions, replies, strict=True)
    ]
    bits = bits_per_byte(model, tokenizer, conversations, format) if conversations else None
    return Answers([tokenizer.decode(ids) for ids in replies], verdicts, confidences, bits)


def answer(
    model: Gemma,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    format: Format,
    grammars: Grammars,
    name: str | None,
) -> tuple[list[list[int]], list[float]]:
    """The ids of each prompt's greedy answer, without the stop id, and its probability. An answer that is cut at the
    limit has max_new_tokens ids."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # rows of one batch alike in length
    replies: list[list[int]] = [[] for _ in prompts]
    confidences = [0.0 for _ in prompts]
    stops = stop_ids(tokenizer, format)
    with progress(len(prompts), name, "question", show=name is not None and bool(prompts)) as bar:
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            constraints = [grammar.fresh() if (grammar := grammars(i)) else None for i in batch]
            rows = [
                Row(prompts[i], max_new_tokens, stops, constraint=constraint, likeliest=LIKELIEST)
                for i, constraint in zip(batch, constraints, strict=True)
            ]
            for _ in decode(model, rows):
                pass
            for i, row in zip(batch, rows, strict=True):
                replies[i], confidences[i] = row.ids, confidence(row.choices, tokenizer, format).whole
            bar.update(len(batch))
    return replies, confidences


def prompt(question: Question, tokenizer: Tokenizer, format: Format, demonstrations: Sequence[Message]) -> list[int]:
    """The ids that ask a question, after demonstrations in turns of their own."""
    tools = () if question.listed else question.tools
    ids = render(
        question.messages, tokenizer, tools, format, add_generation_prompt=True, verbatim=question.verbatim
    ).ids
    before = render(demonstrations, tokenizer, format=format).ids if demonstrations else []
    return before + (ids[1:] if before else ids)  # one <bos>


def demonstration_turns(demonstrations: Sequence[Demonstration], tokenizer: Tokenizer, format: Format) -> list[Message]:
    """Solved examples as plain turns: each has tools of its own, so its turns are written out.

    Their tags stay text, as for any model that has no tokens for them.
    """
    messages: list[Message] = []
    for turns, tools in demonstrations:
        for turn in render(turns, tokenizer, tools, format).text.split(START_OF_TURN)[1:]:
            role, _, content = turn.partition("\n")
            messages.append({"role": ROLES[role], "content": content.partition(END_OF_TURN)[0]})
    return messages


def question_grammars(questions: Sequence[Question], tokenizer: Tokenizer, format: Format = "gemma") -> Grammars:
    """Each question's grammar, made when it is asked for; None, and a note, where a schema cannot be followed."""
    refused: dict[int, str] = {}
    dialect = dialect_of(format, tokenizer)
    for number, question in enumerate(questions):
        try:
            check_tools(question.tools, dialect)
        except SchemaError as error:
            refused[number] = str(error)
    if refused:
        why = printable(next(iter(refused.values())))
        print(f"asked without constraint: {len(refused)} of {len(questions)} questions; {why}", file=sys.stderr)

    @lru_cache(2 * BATCH)  # equal tools share one; thousands of others must not fill the memory
    def grammar(tools: str) -> Grammar:
        return Grammar(json.loads(tools), tokenizer, format)

    return lambda number: None if number in refused else grammar(json.dumps(questions[number].tools))


def _no_grammar(number: int) -> None:
    return None


def merge_for_asking(model: Gemma) -> None:
    """Merge LoRA to save time, in fp32; in a narrower dtype the rounded sum would be another model."""
    if next(model.parameters()).dtype == torch.float32:
        merge_lora(model)
