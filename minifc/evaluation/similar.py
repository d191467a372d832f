"""Texts that are nearly the same, found without comparing each with each.

A text is the set of its runs of four words. How alike two texts are is the share of their runs that both have
(Jaccard). MinHash (Broder, On the resemblance and containment of documents, 1997) estimates it: under a random order of
all runs, the first one of two texts is the same with just that probability. A signature holds the first runs under 32
orders; texts that agree in a band of four of them are candidates, and are alike if most of the 32 agree.
"""

import zlib

import torch
from torch import Tensor

RUN = 4  # words
ORDERS, BAND = 32, 4
ALIKE = 26  # of the 32: about 80% of the runs of both
SHORT = 20  # runs: what is shorter differs by a word that matters
_PRIME = (1 << 31) - 1


class Similar:
    """The texts so far."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._factor = torch.randint(1, _PRIME, (ORDERS, 1), generator=generator)
        self._shift = torch.randint(0, _PRIME, (ORDERS, 1), generator=generator)
        self._first: dict[tuple[int, bytes], int] = {}  # by a band and what stands in it: the first such text
        self._signatures: list[Tensor] = []
        self._names: list[str] = []

    def add(self, text: str, name: str) -> str | None:
        """Remember a text, whose words have spaces between them, by a name. The name of an earlier one that is nearly
        the same, or None."""
        words = text.split()
        runs = {" ".join(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}
        if len(runs) < SHORT:
            return None
        signature = self._signature(runs)
        bands = [(number, signature[start : start + BAND].numpy().tobytes()) for number, start in _BANDS]
        candidates = {self._first[band] for band in bands if band in self._first}
        alike = [one for one in sorted(candidates) if int((self._signatures[one] == signature).sum()) >= ALIKE]
        for band in bands:
            self._first.setdefault(band, len(self._names))
        self._signatures.append(signature)
        self._names.append(name)
        return self._names[alike[0]] if alike else None

    def _signature(self, runs: set[str]) -> Tensor:
        numbers = torch.tensor([zlib.crc32(run.encode()) % _PRIME for run in runs])  # [runs]
        return ((self._factor * numbers + self._shift) % _PRIME).amin(dim=1)  # [ORDERS]


_BANDS = list(enumerate(range(0, ORDERS, BAND)))
