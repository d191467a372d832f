"""What prompts have in common is read once: kept caches of the beginnings of texts.

Agents send the same system message and tools with each request, and each turn of a conversation repeats all turns
before it. Two kinds of beginnings are kept: a whole text that was read and written, since its conversation may go on,
and what a prompt shares with one before it, from the second time on.
"""

from collections import deque
from collections.abc import Sequence

from minifc.gemma.cache import KVCache

WORTH_KEEPING = 32  # tokens that reading them again costs more than looking for them
RECENT = 64  # prompts that a new one is compared with


class Prefixes:
    """The least recently used are forgotten where all together are larger than `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._caches: dict[tuple[int, ...], KVCache] = {}  # the most recently used last
        self._prompts: deque[list[int]] = deque(maxlen=RECENT)

    def longest(self, prompt: Sequence[int]) -> KVCache | None:
        """A copy of the cache of the longest kept text that a prompt begins with and goes on from."""
        found = [ids for ids in self._caches if len(ids) < len(prompt) and tuple(prompt[: len(ids)]) == ids]
        if not found:
            return None
        ids = max(found, key=len)
        cache = self._caches[ids] = self._caches.pop(ids)
        return cache.row(0)

    def shared(self, prompt: list[int]) -> int:
        """How many tokens a prompt has in common with a recent one, at its beginning; it is a recent one from now on.

        Less than all of them: the last token is always read, since the first new one depends on it.
        """
        longest = max((_common(prompt, other) for other in self._prompts), default=0)
        self._prompts.append(prompt)
        return min(longest, len(prompt) - 1)

    def keep(self, ids: Sequence[int], cache: KVCache) -> None:
        """cache: of one row, whose first tokens `ids` are; it must not change any more."""
        if cache.length < WORTH_KEEPING:
            return
        key = tuple(ids[: cache.length])
        self._caches.pop(key, None)
        self._caches[key] = cache
        while self._caches and sum(kept.nbytes for kept in self._caches.values()) > self.most_bytes:
            del self._caches[next(iter(self._caches))]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens with which both begin."""
    for count, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return count
    return min(len(one), len(other))
