"""The decoding loop: prompts in, new ids out.

Rows of a batch are padded on the left, so that all of them end, and go on, together.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from minifc.errors import OptionError, ParameterError
from minifc.gemma.cache import KVCache
from minifc.gemma.model import Gemma


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
    constraints: one, or None, for each row. What they force is written without asking the model.
    """
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty, seed)
    rows: list[list[int]] = [[] for _ in _as_rows(ids)]
    for step in stream(model, ids, max_new_tokens, stop_ids, sampling, constraints):
        for row, new in zip(rows, step, strict=True):
            if new is not None:
                row.append(new)
    return rows


@torch.inference_mode()
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

    cache: holds the first `cache.length` ids of each prompt; the model reads only the rest. The prompts must be equally
        long. The cache grows as needed and takes in the new ids too, except the last ones, which the model was not
        given any more: `cache.length` tells how many ids it holds.
    """
    sampling = sampling or Sampling()
    stop_ids = model.config.eos_token_id if stop_ids is None else stop_ids
    rows = _as_rows(ids)
    if not rows or not all(rows):
        raise OptionError("every prompt needs at least one token")
    if max_new_tokens < 1:
        return
    size = model.model.embed_tokens.size
    if bad := [id_ for row in rows for id_ in row if not 0 <= id_ < size]:
        raise OptionError(f"id {bad[0]} in a prompt; the model's vocabulary has {size}")
    device = next(model.parameters()).device
    draw = torch.Generator().manual_seed(sampling.seed) if sampling.seed is not None else None
    longest = max(map(len, rows))
    if cache is None:
        cache = KVCache(model.config, len(rows), longest + max_new_tokens)
    elif any(len(row) != longest for row in rows) or cache.length >= longest:
        raise OptionError(f"the cache holds {cache.length} tokens; the prompts must be longer, and all of one length")
    histories = [set(row) for row in rows]
    stopped = [False] * len(rows)

    constraints = constraints or [None] * len(rows)
    forced = [constraint.forced(max_new_tokens) if constraint else [] for constraint in constraints]
    # What the model has yet to read, int64 [B, T]: first the prompts, then what was written since it was last asked.
    unread = torch.tensor([([0] * (longest - len(row)) + row)[cache.length :] for row in rows], device=device)
    padding: Tensor | None = torch.tensor(
        [([0] * (longest - len(row)) + [1] * len(row))[cache.length :] for row in rows], device=device
    )
    for left in range(max_new_tokens - 1, -1, -1):
        if any(not (ids or done) for ids, done in zip(forced, stopped, strict=True)):  # somebody has a choice
            cache.grow(cache.length + unread.shape[1])
            hidden = model.hidden(unread, attention_mask=padding, cache=cache)
            unread, padding = unread[:, :0], None
            logits = model.logits(hidden[:, -1].contiguous())  # [B, V]
            for scores, constraint, done in zip(logits, constraints, stopped, strict=True):
                if constraint and not done:  # a call in which the row stopped may have no room left to be completed
                    keep_allowed(constraint.allowed(left + 1), scores)
            new = _pick(logits, sampling, histories, draw)
        else:
            new = [0] * len(rows)
        new = [ids.pop(0) if ids else id_ for ids, id_ in zip(forced, new, strict=True)]
        for row, id_ in enumerate(new):
            stopped[row] = stopped[row] or id_ in stop_ids
            histories[row].add(id_)
            if (constraint := constraints[row]) and not stopped[row]:
                constraint.advance(id_)
                forced[row] = forced[row] or constraint.forced(left)
        yield [None if done else id_ for done, id_ in zip(stopped, new, strict=True)]
        if all(stopped):
            return
        unread = torch.cat((unread, torch.tensor(new, device=device)[:, None]), 1)
        if padding is not None:  # the model was not asked yet: what is forced lies behind the prompts
            padding = torch.cat((padding, torch.ones_like(unread[:, :1])), 1)


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
