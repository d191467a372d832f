"""One thread that decodes for everybody: requests join the batch when they come and leave it when they end."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from minifc.errors import MinifcError
from minifc.gemma.cache import KVCache
from minifc.gemma.generate import Batch, Choice, Row
from minifc.gemma.model import Gemma
from minifc.serving.prefixes import WORTH_KEEPING, Prefixes

CHUNK = 256  # tokens of a prompt that are read between two steps of the others
PREFIX_BYTES = 2**30


class Full(MinifcError):
    """As many requests wait as may."""


@dataclass(frozen=True)
class News:
    """What has happened to an answer since the last news of it."""

    choices: Sequence[Choice] = ()
    end: Literal["stop", "length"] | None = None  # of a finished answer
    error: str | None = None  # why there will be no more
    cached: int = 0  # tokens of the prompt that need not be read


@dataclass(eq=False)
class GuardedRow(Row):
    """A row whose failure is its own, and ends no others."""

    error: str | None = None

    def choose(self, logits: Tensor) -> None:
        try:
            super().choose(logits)
        except Exception as error:
            self.error, self.end = f"{type(error).__name__}: {error}", "stop"


@dataclass(eq=False)
class Job:
    """An answer that somebody waits for. `tell` is called in the engine's thread."""

    row: GuardedRow
    tell: Callable[[News], None]
    told: int = 0
    gone: bool = False  # nobody waits any more


@dataclass(eq=False)
class _Reading:
    """A prompt that is read, piece by piece."""

    job: Job
    cache: KVCache
    keep: int  # tokens at its beginning whose cache is to be kept, since another prompt had them too; 0 is none


class Engine:
    """Decodes until it is closed."""

    def __init__(self, model: Gemma, most_rows: int = 16, most_waiting: int = 64) -> None:
        """most_rows: answers that are written side by side. most_waiting: requests beside those; more are refused."""
        self.model, self.most_rows, self.most_waiting = model, most_rows, most_waiting
        self.batch, self.prefixes = Batch(model), Prefixes(PREFIX_BYTES)
        self._waiting: deque[Job] = deque()
        self._jobs: dict[Row, Job] = {}  # of the rows in the batch
        self._reading: _Reading | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="decoding", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Raises Full."""
        with self._changed:
            if len(self._waiting) >= self.most_waiting:
                raise Full(f"{self.most_waiting} requests wait already; ask again later")
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Nobody waits for it any more: its place is free for others."""
        job.gone = True

    @property
    def load(self) -> dict[str, int]:
        """How many answers are written, and how many requests wait."""
        return {"running": len(self._jobs) + (self._reading is not None), "waiting": len(self._waiting)}

    def close(self) -> None:
        """Stop. Answers that are not finished end with an error."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._waiting or self._jobs or self._reading)
                    if self._closed:
                        self._fail("the server is closing")
                        return
                try:
                    self._work()
                except Exception as error:  # whatever it is, the others that come are to be served
                    self._fail(f"{type(error).__name__}: {error}")
                    self.batch, self._jobs, self._reading = Batch(self.model), {}, None

    def _work(self) -> None:
        """A piece of a prompt, and a step of the answers."""
        for row, job in list(self._jobs.items()):
            if job.gone:
                self._leave(row)
        if self._reading is None and self._waiting and len(self._jobs) < self.most_rows:
            self._begin(self._waiting.popleft())
        if self._reading:
            self._read(self._reading)
            self._tell()
        if self.batch.rows:
            self.batch.step()
            self._tell()

    def _begin(self, job: Job) -> None:
        if job.gone:
            return
        prompt = job.row.prompt
        cache = self.prefixes.longest(prompt) or KVCache(self.model.config, 1, len(prompt))
        job.tell(News(cached=cache.length))
        shared = self.prefixes.shared(prompt)
        self._reading = _Reading(job, cache, shared if shared - cache.length >= WORTH_KEEPING else 0)

    def _read(self, reading: _Reading) -> None:
        """Up to where the next prompt may go on otherwise, and at last to the end, where the answer begins."""
        job, cache, start = reading.job, reading.cache, reading.cache.length
        if job.gone:
            self._reading = None
            return
        prompt = job.row.prompt
        if start >= reading.keep and len(prompt) - start <= CHUNK:
            self._reading = None
            self.batch.join([job.row], cache)
            self._jobs[job.row] = job
            return
        end = min(start + CHUNK, reading.keep if start < reading.keep else len(prompt) - 1)
        device = next(self.model.parameters()).device
        cache.grow(end)
        self.model.hidden(torch.tensor([prompt[start:end]], device=device), cache=cache)
        if end == reading.keep:
            self.prefixes.keep(prompt, cache.row(0))

    def _tell(self) -> None:
        for row, job in list(self._jobs.items()):
            if len(row.choices) > job.told or row.end:
                job.tell(News(row.choices[job.told :], row.end, job.row.error))
                job.told = len(row.choices)
            if row.end:
                self._leave(row)

    def _leave(self, row: Row) -> None:
        del self._jobs[row]
        self.prefixes.keep(row.prompt + row.ids, self.batch.cache.row(self.batch.rows.index(row)))
        self.batch.leave(row)
        if not self.batch.rows:
            self.batch = Batch(self.model)  # its cache may have grown large

    def _fail(self, why: str) -> None:
        waiting = [self._reading.job] if self._reading else []
        waiting += self._jobs.values()
        with self._changed:
            if self._closed:
                waiting += self._waiting
        for job in waiting:
            job.tell(News(error=why))
