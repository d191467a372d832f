"""Keys and values kept for decoding, so that each new token costs one token's work.

On a full layer, token n of a row lies in slot n. A sliding layer never looks back more than its window, so
its buffer is a ring: token n lies in slot n modulo the window, over the token that has just gone out of sight.
Each row of a batch has its own length: rows join, leave, and read as much as they like at a time. Padding, on
either side, has position -1, which no query sees; it is written into one slot more, behind all others.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minifc.errors import MinifcError
from minifc.gemma.config import FULL, SLIDING, GemmaConfig


class _Ring:
    """Slots for one kind of layer, and where the token in each slot stands."""

    def __init__(self, slots: int, batch_size: int) -> None:
        self.slots = slots
        self.positions = torch.full((batch_size, slots + 1), -1)  # [B, slots + 1]: the last slot is for padding
        self.filled = 0  # slots that any row uses
        self.joins = False  # whether queries look at old and new keys one behind the other
        self.before = 0  # slots that any row used before the new tokens
        self.rows = self.write = torch.empty(0, 0, dtype=torch.long)  # [B, 1] and [B, T]: where new tokens are written

    def grow(self, slots: int) -> None:
        """More slots, behind those there are: right as long as no token was overwritten."""
        self.positions = F.pad(self.positions, (0, slots - self.slots), value=-1)
        self.slots = slots

    def extend(self, positions: Tensor, length: int) -> Tensor:
        """Make room for tokens at positions [B, T]; the positions of all keys they may look at, [B, S].

        length: of the longest row, the new tokens included.
        """
        self.positions = self.positions.to(positions.device)
        B, T = positions.shape
        # Of several tokens for one slot, the last one stays.
        stays = (positions >= 0) & (positions > positions.amax(1, keepdim=True) - self.slots)
        self.rows = torch.arange(B, device=positions.device)[:, None]
        self.write = torch.where(stays, positions % self.slots, self.slots)
        # Several tokens that overwrite slots still need what was in them, and tokens without any before them need no
        # slots: then old and new are joined.
        self.before = self.filled
        self.joins = T > 1 and (length > self.slots or self.before == 0)
        joined = torch.cat((self.positions[:B, : self.before], positions), 1) if self.joins else None
        self.positions[:B].scatter_(1, self.write, torch.where(stays, positions, -1))
        self.filled = min(length, self.slots)
        return self.positions[:B, : self.seen(T)] if joined is None else joined

    def seen(self, T: int) -> int:
        """The slots that T new tokens look at. One that is empty is added where there would be T of them: as many keys
        as queries are keys in their order, to `Attention.spans`."""
        return self.filled + (1 < T == self.filled)

    def update(self, buffer: Tensor, new: Tensor) -> Tensor:
        """Write new [B, K, T, D] into buffer [B, K, slots + 1, D]; what the queries look at, [B, K, S, D]."""
        B, _, T, _ = new.shape
        joined = torch.cat((buffer[:B, :, : self.before], new), 2) if self.joins else None
        buffer[self.rows, :, self.write] = new.transpose(1, 2)
        return buffer[:B, :, : self.seen(T)] if joined is None else joined


class KVCache:
    """Room for `max_length` tokens in each of `batch_size` rows. `lengths` tells how many are in each.

    `model(ids, cache=cache)` reads it and adds ids to it; `grow` makes more room. Memory on a sliding
    layer is bounded by the window, however long the conversation grows.
    """

    def __init__(self, config: GemmaConfig, batch_size: int = 1, max_length: int = 512) -> None:
        self.config, self.batch_size, self.max_length = config, batch_size, max_length
        self._rings = {
            SLIDING: _Ring(min(config.sliding_window, max_length), batch_size),
            FULL: _Ring(max_length, batch_size),
        }  # a ring shorter than the window has room for all tokens: none was overwritten when it grows
        self._keys: dict[int, Tensor] = {}  # layer -> [B, K, slots + 1, D]
        self._values: dict[int, Tensor] = {}
        self.lengths = [0] * batch_size

    @property
    def length(self) -> int:
        """The tokens of the longest row."""
        return max(self.lengths, default=0)

    def grow(self, max_length: int) -> None:
        """Make room for `max_length` tokens in all, and for twice as many as before, so that it is seldom done."""
        if max_length <= self.max_length:
            return
        self.max_length = max(max_length, 2 * self.max_length)
        self._rings[SLIDING].grow(min(self.config.sliding_window, self.max_length))
        self._rings[FULL].grow(self.max_length)
        for buffers in (self._keys, self._values):
            for layer, buffer in buffers.items():
                more = self._ring(layer).slots + 1 - buffer.shape[2]
                buffers[layer] = F.pad(buffer, (0, 0, 0, more)) if more else buffer

    def next_positions(self, batch_size: int, device: torch.device) -> Tensor:
        """The position that comes next in each row, int64 [B]."""
        if batch_size != self.batch_size:
            raise MinifcError(f"the cache holds {self.batch_size} rows, the batch {batch_size}; make a cache for it")
        return torch.tensor(self.lengths, device=device)

    def extend(self, positions: Tensor) -> dict[str, Tensor]:
        """Take in tokens at `positions` [B, T]; for each kind of layer the key positions [B, S] to look at."""
        ends: list[int] = (positions.amax(1) + 1).tolist()
        lengths = [max(pair) for pair in zip(self.lengths, ends, strict=True)]
        if max(lengths) > self.max_length:
            raise MinifcError(
                f"the cache has room for {self.max_length} tokens and {max(lengths)} are needed; "
                "make it with a larger max_length, or call grow"
            )
        self.lengths = lengths
        return {kind: ring.extend(positions, self.length) for kind, ring in self._rings.items()}

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add one layer's k and v [B, K, T, D]; the keys and values to look at, [B, K, S, D]."""
        ring = self._ring(layer)
        if layer not in self._keys:  # the first tokens tell dtype and device
            self._keys[layer], self._values[layer] = self._buffer(ring, k), self._buffer(ring, v)
        return ring.update(self._keys[layer], k), ring.update(self._values[layer], v)

    def join(self, other: "KVCache") -> None:
        """Take in the rows of another cache, behind those there are. The other one stays as it is."""
        self._take(other, slice(0, other.batch_size))

    def _take(self, other: "KVCache", rows: slice) -> None:
        """Copy rows of another cache."""
        lengths = other.lengths[rows]
        before, self.batch_size = self.batch_size, self.batch_size + len(lengths)
        self.lengths = self.lengths + lengths
        self.grow(self.length)
        for kind, ring in self._rings.items():
            theirs = other._rings[kind]
            filled = min(max(lengths, default=0), theirs.slots)
            ring.filled = max(ring.filled, filled)
            ring.positions = _with_rows(ring.positions.to(theirs.positions.device), self.batch_size)
            ring.positions[before : self.batch_size] = -1
            ring.positions[before : self.batch_size, :filled] = theirs.positions[rows, :filled]
        for ours, given in ((self._keys, other._keys), (self._values, other._values)):
            for layer, buffer in given.items():
                filled = min(max(lengths, default=0), other._ring(layer).slots)
                old = ours[layer] if layer in ours else self._buffer(self._ring(layer), buffer)
                ours[layer] = _with_rows(old, self.batch_size)
                ours[layer][before : self.batch_size, :, :filled] = buffer[rows, :, :filled]

    def remove(self, row: int) -> None:
        """Forget a row. The last one takes its place."""
        last = self.batch_size = self.batch_size - 1
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        tensors = [ring.positions for ring in self._rings.values()]
        for tensor in (*tensors, *self._keys.values(), *self._values.values()):
            tensor[row] = tensor[last]
        for ring in self._rings.values():
            ring.filled = min(self.length, ring.slots)

    def row(self, row: int) -> "KVCache":
        """A cache of its own for one of the rows, without room for more."""
        other = KVCache(self.config, 0, max(1, self.lengths[row]))
        other._take(self, slice(row, row + 1))
        return other

    @property
    def nbytes(self) -> int:
        """The memory of keys and values."""
        return sum(tensor.nbytes for tensor in (*self._keys.values(), *self._values.values()))

    def _ring(self, layer: int) -> _Ring:
        return self._rings[self.config.layer_types[layer]]

    def _buffer(self, ring: _Ring, like: Tensor) -> Tensor:
        _, K, _, D = like.shape
        return like.new_zeros(self.batch_size, K, ring.slots + 1, D)


def _with_rows(tensor: Tensor, count: int) -> Tensor:
    """Room for `count` rows: for twice as many as before, if there was too little, so that it is seldom made."""
    if count <= len(tensor):
        return tensor
    more = max(count, 2 * len(tensor)) - len(tensor)
    return torch.cat((tensor, tensor.new_zeros(more, *tensor.shape[1:])))
