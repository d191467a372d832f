"""Exams: the same questions put to a model before and after it was taught, and what came of them."""

import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import torch
from tqdm import tqdm

from minifc.calling.grammar import Grammar, check_tools
from minifc.data import Conversation, make_examples, pack, toy
from minifc.errors import CallError, DataError, SchemaError, TemplateError
from minifc.evaluation.bfcl import Entry, find_error
from minifc.evaluation.judging import Rule, Score, Verdict, exactly, judge
from minifc.gemma.generate import generate
from minifc.gemma.model import Gemma
from minifc.terminal import printable
from minifc.text.calls import Call, read_tools, spelled_calls, write_json
from minifc.text.messages import Message, is_assistant, message_calls
from minifc.text.template import Format, render, stop_ids
from minifc.text.tokenizer import END_OF_TURN, START_OF_TURN, Tokenizer
from minifc.tuning.loss import batch_loss

BATCH = 16
MAX_NEW_TOKENS = 256
SHARES = {
    "right": "right answers",
    "exact": "exact calls",
    "names": "right tools",
    "arguments": "right arguments",
    "false_refusals": "false refusals",
    "false_calls": "false calls",
    "readable": "readable calls",
}
Worked = tuple[Sequence[Message], Sequence[dict[str, Any]]]  # a user's and a model's turn, and the tools


@dataclass(frozen=True)
class Question:
    """A conversation up to a model's turn, and what this turn should call."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]]
    expected: tuple[str, ...] | None  # the names of the tools; () where no tool fits, None where any is right
    rule: Rule
    right: str  # for people
    verbatim: bool = False


def toy_question(case: toy.Case) -> Question:
    """The first request of a case."""
    request = case.requests[0]
    calls = [Call(request.task.name, request.details)] if case.fits[0] else []
    return question_of(case.messages()[:1], case.tools, calls)


def question_of(
    messages: Sequence[Message], tools: Sequence[dict[str, Any]], calls: Sequence[Call], verbatim: bool = False
) -> Question:
    """The question whose answer is exactly these calls."""
    right = "\n".join(write_json(asdict(call)) for call in calls) or "no call"
    return Question(messages, tools, tuple(call.name for call in calls), exactly(calls), right, verbatim)


def data_questions(conversations: Sequence[Conversation]) -> list[Question]:
    """A question for each model turn of conversations that have tools. Raises DataError naming a row."""
    questions = []
    for conversation in conversations:
        try:
            tools = {tool["name"]: tool for tool in conversation.tools}
            for number, message in enumerate(conversation.messages):
                content = str(message.get("content") or "")
                if not is_assistant(message):
                    tools |= {tool["name"]: tool for tool in read_tools(content)} if conversation.verbatim else {}
                elif tools:
                    calls = spelled_calls(content) if conversation.verbatim else message_calls(message)
                    # Verbatim messages hold the tools in their text; they are given once.
                    shown = [] if conversation.verbatim else list(tools.values())
                    before = conversation.messages[:number]
                    questions.append(question_of(before, shown, calls, conversation.verbatim))
        except (CallError, TemplateError) as error:
            raise DataError(f"{conversation.source}: {error}") from None
    return questions


def bfcl_question(entry: Entry) -> Question:
    """An entry of the leaderboard, judged by its rules."""
    names = tuple(name for answer in entry.answers or () for name in answer)
    expected = None if entry.category == "live_relevance" else names
    right = write_json(entry.answers) if entry.answers else "a call" if expected is None else "no call"
    return Question(entry.messages, entry.tools, expected, lambda calls: find_error(calls, entry), right)


@dataclass(frozen=True)
class Answers:
    """What a model said to each question, and what that is worth."""

    texts: list[str]
    verdicts: list[Verdict]

    @property
    def score(self) -> Score:
        return Score.of(self.verdicts)


@dataclass
class CallExam:
    """Questions about calls, and what came of them at each sitting."""

    questions: Sequence[Question]
    format: Format = "gemma"
    progress: bool = True
    most_tokens: int = MAX_NEW_TOKENS
    sittings: dict[str, Answers] = field(default_factory=dict)

    def sit(
        self, name: str, model: Gemma, tokenizer: Tokenizer, worked: Sequence[Worked] = (), constrained: bool = False
    ) -> Answers:
        """Ask every question, greedily.

        worked: solved examples, to stand in the prompt. constrained: hold calls to the tools' schemas.
        """
        examples = example_turns(worked, tokenizer, self.format)
        prompts = [prompt(question, tokenizer, self.format, examples) for question in self.questions]
        grammars = self.grammars(tokenizer) if constrained else lambda i: None
        progress = name if self.progress else None
        replies = reply(model, tokenizer, prompts, progress, self.most_tokens, grammars)
        judged = zip(self.questions, replies, strict=True)
        verdicts = [judge(ids, question.expected, question.rule, tokenizer) for question, ids in judged]
        self.sittings[name] = Answers([tokenizer.decode(ids) for ids in replies], verdicts)
        return self.sittings[name]

    def grammars(self, tokenizer: Tokenizer) -> Callable[[int], Grammar | None]:
        """Each question's, made when it is asked for; None, and a note, where a tool's schema cannot be followed."""
        refused: dict[int, str] = {}
        for number, question in enumerate(self.questions):
            try:
                check_tools(question.tools)
            except SchemaError as error:
                refused[number] = str(error)
        if refused:
            why = printable(next(iter(refused.values())))
            counts = f"{len(refused)} of {len(self.questions)} questions"
            print(f"asked without constraint: {counts}; {why}", file=sys.stderr)

        @lru_cache(2 * BATCH)  # equal tools share one; thousands of others must not fill the memory
        def grammar(tools: str) -> Grammar:
            return Grammar(json.loads(tools), tokenizer)

        return lambda number: None if number in refused else grammar(json.dumps(self.questions[number].tools))

    def table(self) -> list[list[str]]:
        """A column per sitting."""
        scores = [answers.score for answers in self.sittings.values()]
        rows = [[words, *(str(getattr(score, share)) for score in scores)] for share, words in SHARES.items()]
        return [["", *self.sittings], *rows]

    def samples(self, count: int = 2) -> list[list[tuple[str, str]]]:
        """A few questions with every sitting's answer: some that have a tool, some that have none, and failures."""
        last = list(self.sittings.values())[-1].verdicts
        fitting = [i for i, verdict in enumerate(last) if verdict.fits][:count]
        unfit = [i for i, verdict in enumerate(last) if not verdict.fits][:1]
        failed = [i for i, verdict in enumerate(last) if verdict.error and i not in fitting + unfit][:1]
        return [self.sample(i) for i in fitting + unfit + failed]

    def failures(self, count: int) -> list[list[tuple[str, str]]]:
        """The first wrong answers of the last sitting, with what is wrong with them."""
        last = list(self.sittings.values())[-1].verdicts
        wrong = [(i, verdict.error) for i, verdict in enumerate(last) if verdict.error][:count]
        return [[*self.sample(i), ("wrong", fault)] for i, fault in wrong]

    def sample(self, i: int) -> list[tuple[str, str]]:
        question = self.questions[i]
        tools = ", ".join(tool["name"] for tool in question.tools)
        answers = [(name, answers.texts[i]) for name, answers in self.sittings.items()]
        return [("tools", tools), ("user", last_words(question.messages)), ("right", question.right), *answers]


@dataclass
class DataExam:
    """Conversations of a data file, kept out of training."""

    conversations: Sequence[Conversation]
    format: Format = "gemma"
    progress: bool = True
    losses: dict[str, float] = field(default_factory=dict)
    replies: dict[str, list[str]] = field(default_factory=dict)

    def sit(self, name: str, model: Gemma, tokenizer: Tokenizer) -> None:
        """Measure the loss on the model's turns, and let it answer the first few conversations itself."""
        self.losses[name] = self._bits_per_byte(model, tokenizer)
        asked = [
            render(
                c.messages[: _first_reply(c)],
                tokenizer,
                c.tools,
                self.format,
                add_generation_prompt=True,
                verbatim=c.verbatim,
            )
            for c in self.conversations[:3]
        ]
        prompts = [rendered.ids for rendered in asked]
        replies = reply(model, tokenizer, prompts, name if self.progress else None)
        self.replies[name] = [tokenizer.decode(ids) for ids in replies]

    def _bits_per_byte(self, model: Gemma, tokenizer: Tokenizer) -> float:
        """Of the model's turns: comparable between vocabularies, as a loss per token is not."""
        nats, count = 0.0, 0
        # However long they are with these tokens: before and after are measured on the same conversations.
        for example in make_examples(self.conversations, tokenizer, self.format, sys.maxsize).fitting:
            (batch,) = pack([example], 1, len(example.ids))
            with torch.no_grad():
                nats += float(batch_loss(model, batch.to(next(model.parameters()).device)))
            learned = [id_ for id_, mask in zip(example.ids, example.mask, strict=True) if mask]
            count += len(tokenizer.decode(learned).encode())
        return nats / math.log(2) / count if count else math.nan

    def table(self) -> list[list[str]]:
        rows = [[name, "-" if math.isnan(loss) else f"{loss:.3f}"] for name, loss in self.losses.items()]
        return [["", "bits per byte of unseen model turns"], *rows]

    def samples(self) -> list[list[tuple[str, str]]]:
        samples = []
        for i, conversation in enumerate(self.conversations[: len(next(iter(self.replies.values())))]):
            asked = last_words(conversation.messages[: _first_reply(conversation)])
            answers = [(name, replies[i]) for name, replies in self.replies.items()]
            samples.append([("user", asked), *answers])
        return samples


def last_words(messages: Sequence[Message]) -> str:
    """The end of what was said last, for people; nothing where nobody has spoken."""
    return str(messages[-1].get("content") or "")[-400:] if messages else ""


def _first_reply(conversation: Conversation) -> int:
    """The number of the first model turn."""
    return next(i for i, m in enumerate(conversation.messages) if is_assistant(m))


def reply(
    model: Gemma,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    name: str | None,
    most_tokens: int = MAX_NEW_TOKENS,
    grammars: Callable[[int], Grammar | None] = lambda number: None,
) -> list[list[int]]:
    """Each prompt's greedy answer; a progress bar called `name`."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # rows of one batch alike in length
    replies: list[list[int]] = [[] for _ in prompts]
    with tqdm(total=len(prompts), desc=name, unit="case", disable=name is None, dynamic_ncols=True) as bar:
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            constraints = [grammar.fresh() if (grammar := grammars(i)) else None for i in batch]
            asked = [prompts[i] for i in batch]
            new = generate(model, asked, most_tokens, stop_ids(tokenizer), constraints=constraints)
            for i, ids in zip(batch, new, strict=True):
                replies[i] = ids
            bar.update(len(batch))
    return replies


def prompt(question: Question, tokenizer: Tokenizer, format: Format, examples: Sequence[Message] = ()) -> list[int]:
    """The ids that ask a question, after worked examples in turns of their own."""
    before = render(examples, tokenizer, format=format).ids if examples else []
    asked = render(
        question.messages, tokenizer, question.tools, format, add_generation_prompt=True, verbatim=question.verbatim
    ).ids
    return before + (asked[1:] if before else asked)  # one <bos>


def example_turns(worked: Sequence[Worked], tokenizer: Tokenizer, format: Format) -> list[Message]:
    """Solved examples as plain turns: each has tools of its own, so its turns are written out.

    Their tags stay text, as for any model that has no tokens for them.
    """
    messages: list[Message] = []
    for turns, tools in worked:
        rendered = render(turns, tokenizer, tools, format).text.split(START_OF_TURN)[1:]
        contents = [turn.partition("\n")[2].partition(END_OF_TURN)[0] for turn in rendered]
        messages += [{"role": "user", "content": contents[0]}, {"role": "model", "content": contents[1]}]
    return messages


def toy_examples(seed: int) -> list[Worked]:
    """Three solved cases of the training side: two that call and one that declines."""
    cases = [case for case in toy.training_cases(200, seed) if len(case.requests) == 1 and len(case.tools) == 2]
    chosen = [case for case in cases if case.fits[0]][:2] + [case for case in cases if not case.fits[0]][:1]
    random.Random(seed).shuffle(chosen)
    return [(case.messages()[:2], case.tools) for case in chosen]
