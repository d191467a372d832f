"""Keys and values kept for decoding, so that each new token costs one token's work.

A full layer needs every key; a sliding layer never looks back more than its window,
so its buffer is a ring: token n lies in slot n modulo the window, over the token that
has just gone out of sight. Rows of a batch advance together; shorter prompts are
padded on the left, and padding has position -1, which no query sees.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minifc.errors import MinifcError
from minifc.gemma.config import FULL, SLIDING, GemmaConfig


class _Ring:
    """Slots for one kind of layer: whose turn it is, and where the token in each slot stands."""

    def __init__(self, slots: int, batch_size: int) -> None:
        self.slots = slots
        self.positions = torch.full((batch_size, slots), -1)  # [B, slots]
        self.filled = 0
        self.wraps = False
        self.write = torch.empty(0, dtype=torch.long)

    def grow(self, slots: int) -> None:
        """More slots, behind those there are: right as long as no token was overwritten."""
        self.positions = F.pad(self.positions, (0, slots - self.slots), value=-1)
        self.slots = slots

    def extend(self, start: int, positions: Tensor) -> Tensor:
        """Make room for tokens start .. start + T; the positions of all keys they may look at, [B, S]."""
        self.positions = self.positions.to(positions.device)
        T = positions.shape[1]
        self.filled = min(start, self.slots)
        kept = min(T, self.slots)
        self.write = torch.arange(start + T - kept, start + T, device=positions.device) % self.slots
        # Several tokens that overwrite slots still need what was in them: then old and new are joined.
        self.wraps = T > 1 and start + T > self.slots
        old = self.positions[:, : self.filled]
        joined = torch.cat((old, positions), 1) if self.wraps else None
        self.positions[:, self.write] = positions[:, T - kept :]
        if joined is not None:
            return joined
        self.filled = min(start + T, self.slots)
        return self.positions[:, : self.filled]

    def update(self, buffer: Tensor, new: Tensor) -> Tensor:
        """Write new [B, K, T, D] into buffer [B, K, slots, D]; what the queries look at, [B, K, S, D]."""
        joined = torch.cat((buffer[:, :, : self.filled], new), 2) if self.wraps else None
        buffer[:, :, self.write] = new[:, :, new.shape[2] - len(self.write) :]
        return buffer[:, :, : self.filled] if joined is None else joined


class KVCache:
    """Room for `max_length` tokens in each of `batch_size` rows. `length` tokens are in it.

    `model(ids, cache=cache)` reads it and adds ids to it; `grow` makes more room. Memory on a sliding
    layer is bounded by the window, however long the conversation grows.
    """

    def __init__(self, config: GemmaConfig, batch_size: int = 1, max_length: int = 512) -> None:
        self.config, self.batch_size, self.max_length = config, batch_size, max_length
        self.length = 0
        self._rings = {
            SLIDING: _Ring(min(config.sliding_window, max_length), batch_size),
            FULL: _Ring(max_length, batch_size),
        }  # a ring shorter than the window has room for all tokens: none was overwritten when it grows
        self._keys: dict[int, Tensor] = {}  # layer -> [B, K, slots, D]
        self._values: dict[int, Tensor] = {}
        self._next = torch.zeros(batch_size, dtype=torch.long)  # [B]

    def grow(self, max_length: int) -> None:
        """Make room for `max_length` tokens in all, and for twice as many as before, so that it is seldom done."""
        if max_length <= self.max_length:
            return
        self.max_length = max(max_length, 2 * self.max_length)
        self._rings[SLIDING].grow(min(self.config.sliding_window, self.max_length))
        self._rings[FULL].grow(self.max_length)
        for buffers in (self._keys, self._values):
            for layer, buffer in buffers.items():
                more = self._rings[self.config.layer_types[layer]].slots - buffer.shape[2]
                buffers[layer] = F.pad(buffer, (0, 0, 0, more)) if more else buffer

    def next_positions(self, batch_size: int, device: torch.device) -> Tensor:
        """The position that comes next in each row, int64 [B]."""
        if batch_size != self.batch_size:
            raise MinifcError(f"the cache holds {self.batch_size} rows, the batch {batch_size}; make a cache for it")
        return self._next.to(device)

    def extend(self, positions: Tensor) -> dict[str, Tensor]:
        """Take in tokens at `positions` [B, T]; for each kind of layer the key positions [B, S] to look at."""
        T = positions.shape[1]
        if self.length + T > self.max_length:
            raise MinifcError(
                f"the cache has room for {self.max_length} tokens and {self.length + T} are needed; "
                "make it with a larger max_length, or call grow"
            )
        if T > 1 and bool(((positions[:, :-1] >= 0) & (positions[:, 1:] < 0)).any()):
            raise MinifcError("padding after real tokens would push them out of the cache; pad on the left")
        keys = {kind: ring.extend(self.length, positions) for kind, ring in self._rings.items()}
        self.length += T
        self._next = torch.maximum(self._next.to(positions.device), positions.amax(1) + 1)
        return keys

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add one layer's k and v [B, K, T, D]; the keys and values to look at, [B, K, S, D]."""
        ring = self._rings[self.config.layer_types[layer]]
        if layer not in self._keys:  # the first tokens tell dtype and device
            B, K, _, D = k.shape
            self._keys[layer] = k.new_zeros(B, K, ring.slots, D)
            self._values[layer] = v.new_zeros(B, K, ring.slots, D)
        return ring.update(self._keys[layer], k), ring.update(self._values[layer], v)
