"""Examples to packed batches: whole conversations laid end to end in rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from minifc.data.examples import Example

IGNORED = -100  # the target of a position that nothing is learned from


@dataclass(frozen=True)
class Batch:
    """Whole conversations laid end to end in rows that do not see each other."""

    ids: Tensor  # int64 [B, T]
    targets: Tensor  # int64 [B, T]: the id that follows, or IGNORED
    documents: Tensor  # int64 [B, T]: which conversation of its row; -1 is padding

    @property
    def supervised(self) -> int:
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.ids.to(device), self.targets.to(device), self.documents.to(device))


def pack(examples: Iterable[Example], rows: int, length: int, pad_id: int = 0, look_ahead: int = 1) -> Iterator[Batch]:
    """Fill `rows` rows of `length` tokens with whole examples, each where it first fits.

    look_ahead: how many of the coming examples there are to choose from. An empty row takes the first of them, any
        other the longest that fits: so little room is left over, and no example waits for long.
    Every example appears exactly once and none is ever split, so each must fit into a row.
    """
    upcoming = iter(examples)
    waiting: list[Example] = []
    open_rows: list[list[Example]] = [[] for _ in range(rows)]
    room = [length] * rows
    while True:
        for example in islice(upcoming, look_ahead - len(waiting)):
            if len(example.ids) > length:
                raise ValueError(f"{example.source}: {len(example.ids)} tokens do not fit into a row of {length}")
            waiting.append(example)
        if not waiting:
            break
        shortest = min(len(example.ids) for example in waiting)
        row = next((row for row in range(rows) if room[row] >= shortest), None)
        if row is None:
            yield _batch(open_rows, length, pad_id)
            open_rows, room = [[] for _ in range(rows)], [length] * rows
            continue
        fitting = [example for example in waiting if len(example.ids) <= room[row]]
        chosen = max(fitting, key=lambda example: len(example.ids)) if open_rows[row] else waiting[0]
        waiting.remove(chosen)
        open_rows[row].append(chosen)
        room[row] -= len(chosen.ids)
    if any(open_rows):
        yield _batch([row for row in open_rows if row], length, pad_id)


def _batch(rows: list[list[Example]], length: int, pad_id: int) -> Batch:
    shape = (len(rows), length)
    ids = torch.full(shape, pad_id)
    targets = torch.full(shape, IGNORED)
    documents = torch.full(shape, -1)
    for number, row in enumerate(rows):
        at = 0
        for document, example in enumerate(row):
            end = at + len(example.ids)
            ids[number, at:end] = torch.tensor(example.ids)
            learned = [id_ if mask else IGNORED for id_, mask in zip(example.ids, example.mask, strict=True)]
            targets[number, at : end - 1] = torch.tensor(learned[1:])  # each position learns what follows it
            documents[number, at:end] = document
            at = end
    return Batch(ids, targets, documents)
