"""The decoding loop: prompts in, new ids out.

Rows are answers that are written side by side. Each has its own prompt, sampling, constraint and length, so that they
can join a batch and leave it at any step.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from minifc.errors import OptionError, ParameterError
from minifc.gemma.cache import KVCache
from minifc.gemma.model import Gemma

READ = 16  # tokens, padding included, that a step reads at once: as many hardly take longer than one


@dataclass(frozen=True)
class Sampling:
    """How the next id is picked from logits. The defaults are greedy."""

    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # only the k likeliest; 0 is all
    top_p: float = 1.0  # only the likeliest that together reach this probability
    repetition_penalty: float = 1.0  # above 1 makes ids that have occurred less likely (arXiv:1909.05858)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ParameterError("temperature", self.temperature, "must be 0 (greedy) or more")
        if not isinstance(self.top_k, int) or self.top_k < 0:
            raise ParameterError("top_k", self.top_k, "must be 0 (off) or more")
        if not 0 < self.top_p <= 1:
            raise ParameterError("top_p", self.top_p, "must be above 0 and at most 1")
        if not 0 < self.repetition_penalty < math.inf:
            raise ParameterError("repetition_penalty", self.repetition_penalty, "must be above 0, and 1 is off")


class Constraint(Protocol):
    """What steers a row: which ids may come next, and which must. A grammar is one."""

    def allowed(self, budget: int, /) -> Tensor:
        """bool [V], on the CPU; at least one id. Ids past the end of this mask are disallowed.

        budget: the number of ids left to write, the next one included.
        """
        ...

    def forced(self, budget: int, /) -> list[int]:
        """The ids that come next whatever the model says; [] where it has a choice. budget: as for `allowed`."""
        ...

    def advance(self, id_: int) -> None:
        """Take the next id."""
        ...


@dataclass(frozen=True)
class Choice:
    """An id that was written, and how likely it was among the ids that were allowed."""

    id: int
    logprob: float = 0.0  # at temperature 1; of a forced id 0
    likeliest: tuple[tuple[int, float], ...] = ()  # ids with their logprobs, the likeliest first
    forced: bool = False  # written without asking the model


@dataclass(eq=False)
class Row:
    """One answer: what it is to be, and what is written of it."""

    prompt: list[int]
    max_new_tokens: int
    stop_ids: Sequence[int]
    sampling: Sampling = field(default_factory=Sampling)
    constraint: Constraint | None = None
    likeliest: int | None = None  # how many ids to compare with each that is written; None is not even that one
    choices: list[Choice] = field(default_factory=list)
    end: Literal["stop", "length"] | None = None  # why it ended: by a stop id, or at the limit
    unread: list[int] = field(default_factory=list)  # what the model has not read yet

    def __post_init__(self) -> None:
        seed = self.sampling.seed
        self._draw = torch.Generator().manual_seed(seed) if seed is not None else None
        self._history = set(self.prompt) if self.sampling.repetition_penalty != 1 else set[int]()
        self.unread = list(self.prompt)
        self._follow()

    @property
    def ids(self) -> list[int]:
        """What is written, without the stop id."""
        return [choice.id for choice in self.choices]

    @property
    def left(self) -> int:
        return self.max_new_tokens - len(self.choices)

    def choose(self, logits: Tensor) -> None:
        """Write the next id, by logits fp32 [V], and what follows from it without a choice."""
        if self.constraint:
            keep_allowed(self.constraint.allowed(self.left), logits)
        (id_,) = _pick(logits[None], self.sampling, [self._history], self._draw)
        self._write(self._choice(id_, logits))
        self._follow()

    def _choice(self, id_: int, logits: Tensor) -> Choice:
        if self.likeliest is None:
            return Choice(id_)
        logprobs = logits.log_softmax(-1)
        top = logprobs.topk(min(self.likeliest, len(logprobs)))
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return Choice(id_, float(logprobs[id_]), tuple((i, value) for i, value in pairs if value > -math.inf))

    def _write(self, choice: Choice) -> None:
        if choice.id in self.stop_ids:
            self.end = "stop"
            return
        self.choices.append(choice)
        self.unread.append(choice.id)
        if self.sampling.repetition_penalty != 1:
            self._history.add(choice.id)
        if self.constraint:
            self.constraint.advance(choice.id)
        if not self.left:
            self.end = "length"

    def _follow(self) -> None:
        """Write the ids that the constraint forces."""
        while self.constraint and not self.end and (forced := self.constraint.forced(self.left)):
            for id_ in forced:
                if not self.end:
                    self._write(Choice(id_, forced=True))


class Batch:
    """Rows that are written side by side, with one cache. Their order may change when one leaves."""

    def __init__(self, model: Gemma) -> None:
        self.model = model
        self.rows: list[Row] = []
        self.cache = KVCache(model.config, 0)

    @torch.inference_mode()
    def join(self, rows: Sequence[Row], cache: KVCache | None = None) -> None:
        """Read the rest of the prompts and choose the first ids.

        cache: holds the beginning of each row's prompt; it is copied, or used itself where the batch is empty.
        """
        if cache is None:
            longest = max(len(row.unread) + row.max_new_tokens for row in rows)
            cache = KVCache(self.model.config, len(rows), longest)
        for row, length in zip(rows, cache.lengths, strict=True):
            del row.unread[:length]
        self._read(rows, cache, max(len(row.unread) for row in rows))
        if self.rows:
            self.cache.join(cache)
        else:
            self.cache = cache
        self.rows += rows

    def step(self) -> None:
        """Read some of what was written, and choose an id for each row of which all was read."""
        longest = max(len(row.unread) for row in self.rows)
        self._read(self.rows, self.cache, longest if len(self.rows) == 1 else min(longest, READ // len(self.rows) or 1))

    @torch.inference_mode()
    def leave(self, row: Row) -> None:
        place = self.rows.index(row)
        self.cache.remove(place)
        self.rows[place] = self.rows[-1]
        self.rows.pop()

    @torch.inference_mode()
    def _read(self, rows: Sequence[Row], cache: KVCache, T: int) -> None:
        """Read at most T ids of each row; rows that have ended read none."""
        read = [[] if row.end else row.unread[:T] for row in rows]
        longest = max(map(len, read))
        device = next(self.model.parameters()).device
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in read], device=device)  # [B, T]
        padded = any(len(row) < longest for row in read)
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in read] if padded else None
        cache.grow(max(length + len(row) for length, row in zip(cache.lengths, read, strict=True)))
        hidden = self.model.hidden(ids, attention_mask=torch.tensor(mask, device=device) if mask else None, cache=cache)
        for row, ids_read in zip(rows, read, strict=True):
            del row.unread[: len(ids_read)]
        asked = [place for place, ids_read in enumerate(read) if ids_read and not rows[place].unread]
        if asked:
            logits = self.model.logits(torch.stack([hidden[place, len(read[place]) - 1] for place in asked]))  # [n, V]
            for place, scores in zip(asked, logits, strict=True):
                rows[place].choose(scores)


Prompts = Tensor | Sequence[int] | Sequence[Sequence[int]]


def generate(
    model: Gemma,
    ids: Prompts,
    max_new_tokens: int = 64,
    stop_ids: Sequence[int] | None = None,
    *,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    constraints: Sequence[Constraint | None] | None = None,
) -> list[list[int]]:
    """The new ids of each row, without the stop id. Greedy unless temperature > 0.

    ids: int64 [B, T], or a list of prompts of any lengths, or one prompt.
    stop_ids: by default the config's eos_token_id, for gemma-2-*-it (1, 107): eos and end of turn.
    seed: of the first row; each further one has the next number.
    constraints: one, or None, for each row. What they force is written without asking the model.
    """
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    rows: list[list[int]] = [[] for _ in _as_rows(ids)]
    for step in stream(model, ids, max_new_tokens, stop_ids, sampling, constraints):
        for row, new in zip(rows, step, strict=True):
            if new is not None:
                row.append(new)
    return rows


def stream(
    model: Gemma,
    ids: Prompts,
    max_new_tokens: int = 64,
    stop_ids: Sequence[int] | None = None,
    sampling: Sampling | None = None,
    constraints: Sequence[Constraint | None] | None = None,
    cache: KVCache | None = None,
) -> Iterator[list[int | None]]:
    """As `generate`, a step at a time: for each row its next id, or None once it has stopped.

    cache: holds the first `cache.lengths` ids of the prompts; the model reads only the rest. The cache grows as needed
        and takes in the new ids too, except the last ones, which the model was not given any more.
    """
    prompts = _as_rows(ids)
    if not prompts or not all(prompts):
        raise OptionError("every prompt needs at least one token")
    if max_new_tokens < 1:
        return
    size = model.model.embed_tokens.size
    if bad := [id_ for prompt in prompts for id_ in prompt if not 0 <= id_ < size]:
        raise OptionError(f"id {bad[0]} in a prompt; the model's vocabulary has {size}")
    held = cache.lengths if cache else [0] * len(prompts)
    if len(held) != len(prompts):
        raise OptionError(f"the cache holds {len(held)} rows, and there are {len(prompts)} prompts")
    for prompt, length in zip(prompts, held, strict=True):
        if len(prompt) <= length:
            raise OptionError(f"the cache holds {length} tokens of a prompt of {len(prompt)}; it must be longer")
    stop_ids = model.config.eos_token_id if stop_ids is None else stop_ids
    sampling = sampling or Sampling()
    rows = [
        Row(prompt, max_new_tokens, stop_ids, _for_row(sampling, number), constraint)
        for number, (prompt, constraint) in enumerate(zip(prompts, constraints or [None] * len(prompts), strict=True))
    ]
    steps, count = decode(model, rows, cache), 0  # count: of the steps that are told
    while not all(row.end and len(row.choices) <= count for row in rows):
        # What is forced comes in runs: some rows are ahead of the others.
        if all(row.end or len(row.choices) > count for row in rows):
            yield [row.choices[count].id if len(row.choices) > count else None for row in rows]
            count += 1
        else:
            next(steps)


def decode(model: Gemma, rows: Sequence[Row], cache: KVCache | None = None) -> Iterator[None]:
    """Write rows to their ends, a step at a time; `choices` of each tell how far it is.

    cache: holds the first `cache.lengths` ids of their prompts, as for `stream`.
    """
    batch = Batch(model)
    while not all(row.end for row in rows):
        if not batch.rows:
            batch.join(rows, cache)
        else:
            batch.step()
        if cache is None:
            for row in [row for row in batch.rows if row.end]:
                batch.leave(row)
        yield


def _for_row(sampling: Sampling, number: int) -> Sampling:
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + number)


def keep_allowed(allowed: Tensor, scores: Tensor) -> None:
    """Leave of logits fp32 [V], in place, only what a constraint allows."""
    size = len(allowed)  # a table of embeddings is often padded: it may have rows that are no token
    if size > len(scores):
        raise OptionError(f"the tokenizer has {size} tokens, the model {len(scores)}; minifc.add_tokens extends both")
    scores[size:] = -torch.inf
    known = scores[:size]
    torch.where(allowed.to(scores.device), known, known.new_full((), -torch.inf), out=known)


def _pick(logits: Tensor, sampling: Sampling, histories: list[set[int]], draw: torch.Generator | None) -> list[int]:
    """One id for each row of logits fp32 [B, V]."""
    if sampling.repetition_penalty != 1:
        for row, history in zip(logits, histories, strict=True):
            seen = torch.tensor(sorted(history), device=logits.device)
            scores = row[seen]
            penalty = sampling.repetition_penalty
            row[seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
    if sampling.temperature == 0:
        return [int(id_) for id_ in logits.argmax(-1)]
    logits = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature  # at most 0: cannot overflow upwards
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # probability of everything likelier
        drop = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before >= sampling.top_p)
        logits = logits.masked_fill(drop, -torch.inf)
    chances = logits.softmax(-1).cpu()  # drawn on the CPU: the same seed gives the same text on every device
    return [int(id_) for id_ in torch.multinomial(chances, 1, generator=draw)[:, 0]]


def _as_rows(ids: Prompts) -> list[list[int]]:
    rows: list[Any] = ids.tolist() if isinstance(ids, Tensor) else list(ids)
    return [rows] if rows and isinstance(rows[0], int) else [list(row) for row in rows]
