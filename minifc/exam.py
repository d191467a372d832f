"""Exams: the same questions put to a model before and after it was taught, and what came of them."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import torch
from tqdm import tqdm

from minifc import toy
from minifc.calling.score import Score, Verdict, judge
from minifc.gemma.generate import generate
from minifc.gemma.model import Gemma
from minifc.text.calls import Call, write_json
from minifc.text.template import SPEAKERS, Format, Message, render, stop_ids
from minifc.text.tokenizer import Tokenizer
from minifc.tuning.data import Conversation, make_examples, pack
from minifc.tuning.loss import batch_loss

BATCH = 16
MAX_NEW_TOKENS = 192


@dataclass(frozen=True)
class Answers:
    """What a model said to each case, and what that is worth."""

    texts: list[str]
    verdicts: list[Verdict]

    @property
    def score(self) -> Score:
        return Score.of(self.verdicts)


@dataclass
class ToyExam:
    """Requests of the embedded model's world, half of which no tool fits."""

    cases: Sequence[toy.Case]
    format: Format = "gemma"
    progress: bool = True
    sittings: dict[str, Answers] = field(default_factory=dict)

    def sit(self, name: str, model: Gemma, tokenizer: Tokenizer, worked: Sequence[toy.Case] = ()) -> Answers:
        """Ask for the first answer to each case, greedily; `worked` cases stand in the prompt as examples."""
        prompts = [prompt(case, tokenizer, self.format, worked) for case in self.cases]
        replies = reply(model, tokenizer, prompts, name if self.progress else None)
        expected = [expected_call(case) for case in self.cases]
        verdicts = [judge(ids, call, tokenizer) for ids, call in zip(replies, expected, strict=True)]
        self.sittings[name] = Answers([tokenizer.decode(ids) for ids in replies], verdicts)
        return self.sittings[name]

    def table(self) -> list[list[str]]:
        head = ["", "exact calls", "false refusals", "false calls", "readable calls"]
        scores = [(name, answers.score) for name, answers in self.sittings.items()]
        return [
            head,
            *([name, str(s.exact), str(s.false_refusals), str(s.false_calls), str(s.readable)] for name, s in scores),
        ]

    def samples(self, count: int = 2) -> list[list[tuple[str, str]]]:
        """A few cases with every sitting's answer: some that have a tool, some that have none, and failures."""
        last = list(self.sittings.values())[-1].verdicts
        fitting = [i for i, verdict in enumerate(last) if verdict.expected][:count]
        unfit = [i for i, verdict in enumerate(last) if not verdict.expected][:1]
        failed = [i for i, verdict in enumerate(last) if not verdict.right and i not in fitting + unfit][:1]
        samples = []
        for i in fitting + unfit + failed:
            case, call = self.cases[i], expected_call(self.cases[i])
            tools = ", ".join(tool["name"] for tool in case.tools)
            right = write_json(asdict(call)) if call else "no call"
            answers = [(name, answers.texts[i]) for name, answers in self.sittings.items()]
            samples.append([("tools", tools), ("user", case.requests[0].text), ("right", right), *answers])
        return samples


@dataclass
class DataExam:
    """Conversations of a data file, kept out of training."""

    conversations: Sequence[Conversation]
    length: int
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
        examples = make_examples(self.conversations, tokenizer, self.format, self.length).fitting
        nats, count = 0.0, 0
        with torch.no_grad():
            for batch in pack(examples, 1, self.length):
                nats += float(batch_loss(model, batch.to(next(model.parameters()).device)))
        for example in examples:
            learned = [id_ for id_, mask in zip(example.ids, example.mask, strict=True) if mask]
            count += len(tokenizer.decode(learned).encode())
        return nats / math.log(2) / count if count else math.nan

    def table(self) -> list[list[str]]:
        rows = [[name, "-" if math.isnan(loss) else f"{loss:.3f}"] for name, loss in self.losses.items()]
        return [["", "bits per byte of unseen model turns"], *rows]

    def samples(self) -> list[list[tuple[str, str]]]:
        samples = []
        for i, conversation in enumerate(self.conversations[: len(next(iter(self.replies.values())))]):
            last = conversation.messages[_first_reply(conversation) - 1]
            answers = [(name, replies[i]) for name, replies in self.replies.items()]
            samples.append([("user", str(last["content"])[-400:]), *answers])
        return samples


def _first_reply(conversation: Conversation) -> int:
    """The number of the first model turn."""
    return next(i for i, m in enumerate(conversation.messages) if SPEAKERS.get(m.get("role", "")) == "model")


def reply(model: Gemma, tokenizer: Tokenizer, prompts: Sequence[list[int]], name: str | None) -> list[list[int]]:
    """Each prompt's greedy answer; a progress bar called `name`."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # rows of one batch alike in length
    replies: list[list[int]] = [[] for _ in prompts]
    with tqdm(total=len(prompts), desc=name, unit="case", disable=name is None, dynamic_ncols=True) as bar:
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            new = generate(model, [prompts[i] for i in batch], MAX_NEW_TOKENS, stop_ids(tokenizer))
            for i, ids in zip(batch, new, strict=True):
                replies[i] = ids
            bar.update(len(batch))
    return replies


def prompt(case: toy.Case, tokenizer: Tokenizer, format: Format, worked: Sequence[toy.Case] = ()) -> list[int]:
    """The ids that ask for the case's first answer, after worked examples in turns of their own."""
    messages: list[Message] = []
    for example in worked:
        # Each with its own tools, so their turns are written out; their tags stay text, as for any model without them.
        turns = render(example.messages()[:2], tokenizer, example.tools, format).text.split("<start_of_turn>")[1:]
        contents = [turn.partition("\n")[2].partition("<end_of_turn>")[0] for turn in turns]
        messages += [{"role": "user", "content": contents[0]}, {"role": "model", "content": contents[1]}]
    before = render(messages, tokenizer, format=format).ids if messages else []
    asked = render(case.messages()[:1], tokenizer, case.tools, format, add_generation_prompt=True).ids
    return before + (asked[1:] if before else asked)  # one <bos>


def expected_call(case: toy.Case) -> Call | None:
    request = case.requests[0]
    return Call(request.task.name, request.details) if case.fits[0] else None


def worked_examples(seed: int) -> list[toy.Case]:
    """Three solved cases of the training side: two that call and one that declines."""
    cases = [case for case in toy.training_cases(200, seed) if len(case.requests) == 1 and len(case.tools) == 2]
    chosen = [case for case in cases if case.fits[0]][:2] + [case for case in cases if not case.fits[0]][:1]
    random.Random(seed).shuffle(chosen)
    return chosen
