"""Decoding with a cache gives the logits of reading the whole text at once, however it is cut."""

import random
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import pytest
import torch
from torch import Tensor

from minifc.errors import MinifcError
from minifc.gemma import cache as cache_module
from minifc.gemma.cache import KVCache
from minifc.gemma.config import FULL, SLIDING
from minifc.gemma.model import CHUNK, Gemma

pytestmark = pytest.mark.parametrize("generation", ["gemma2", "gemma3"], indirect=True, scope="session")

EQUAL = 1e-5  # of the largest logit
WRONG = 1e-3
W = 8  # the small model's window
T = 3 * CHUNK // 2


def pieces(length: int, sizes: tuple[int, ...]) -> Iterator[slice]:
    """Cut range(length) into pieces of these sizes, over and over."""
    start = 0
    for size in cycle(sizes):
        if start >= length:
            return
        yield slice(start, min(start + size, length))
        start += size


def decode(gemma: Gemma, ids: Tensor, sizes: tuple[int, ...], cache: KVCache, mask: Tensor | None = None) -> Tensor:
    """Logits [B, T, V] of ids [B, T] fed piece by piece."""
    out = [
        gemma(ids[:, piece], attention_mask=None if mask is None else mask[:, piece], cache=cache)
        for piece in pieces(ids.shape[1], sizes)
    ]
    return torch.cat(out, 1)


CUTS = [(1,), (2,), (3,), (W - 1,), (W,), (W + 1,), (20,), (CHUNK,), (CHUNK + 6, 1, 1, 1), (T,), (5, 1, 1, 13, 1, W)]


@pytest.mark.parametrize("sizes", CUTS, ids=str)
def test_any_cut_equals_the_whole(pair: Any, random_ids: Any, gap: Any, sizes: tuple[int, ...]) -> None:
    """At every position of a batch of 2, far past the window: transformers' logits and our own without a cache."""
    ids, gemma = random_ids(2, T), pair().ours
    logits = decode(gemma, ids, sizes, KVCache(gemma.config, 2, T))
    assert gap(logits, pair().expected(ids)) < EQUAL
    assert gap(logits, gemma(ids)) < EQUAL


@pytest.mark.parametrize("sizes", [(1,), (5, 1, 1, 13, 1, 8), (CHUNK + 6, 1, 1)], ids=str)
@pytest.mark.parametrize(
    "overrides",
    [
        {"sliding_window": 1},
        {"sliding_window": 2},
        {"sliding_window": CHUNK + 5},
        {"sliding_window": 4096},
        {"layer_types": [SLIDING] * 4},
        {"layer_types": [FULL, FULL, SLIDING, FULL]},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1},
    ],
    ids=str,
)
def test_any_config_equals_the_whole(
    pair: Any, random_ids: Any, gap: Any, overrides: dict[str, Any], sizes: tuple[int, ...]
) -> None:
    models, ids = pair(**overrides), random_ids(2, T)
    logits = decode(models.ours, ids, sizes, KVCache(models.ours.config, 2, T))
    assert gap(logits, models.expected(ids)) < EQUAL


@pytest.mark.parametrize("max_length", [3, W - 1, W, W + 1, 30])
def test_a_cache_can_be_filled_to_its_last_place(pair: Any, random_ids: Any, gap: Any, max_length: int) -> None:
    """Also one that is shorter than the window."""
    gemma, ids = pair().ours, random_ids(1, max_length)
    cache = KVCache(gemma.config, 1, max_length)
    assert gap(decode(gemma, ids, (2,), cache), pair().expected(ids)) < EQUAL
    assert cache.length == max_length


def test_places_that_are_left_over_change_nothing(pair: Any, random_ids: Any) -> None:
    gemma, ids = pair().ours, random_ids(1, 20)
    exact, roomy = (decode(gemma, ids, (7, 1), KVCache(gemma.config, 1, room)) for room in (20, 500))
    assert torch.equal(exact, roomy)


# Growing


@pytest.mark.parametrize("sizes", CUTS, ids=str)
@pytest.mark.parametrize("first", [1, 3, W, 20])
def test_a_cache_that_grows_equals_the_whole(
    pair: Any, random_ids: Any, gap: Any, first: int, sizes: tuple[int, ...]
) -> None:
    """It starts with fewer places than the window has, or with more, and grows when it is full."""
    ids, gemma, cache = random_ids(2, T), pair().ours, KVCache(pair().ours.config, 2, first)
    out = []
    for piece in pieces(T, sizes):
        cache.grow(piece.stop)
        out.append(gemma(ids[:, piece], cache=cache))
    assert gap(torch.cat(out, 1), pair().expected(ids)) < EQUAL


def test_growing_at_least_doubles_and_stops_at_the_window(pair: Any, random_ids: Any) -> None:
    gemma = pair().ours
    cache = KVCache(gemma.config, 1, 5)
    gemma(random_ids(1, 5), cache=cache)
    places = []
    for room in (4, 6, 11, 100):
        cache.grow(room)
        places.append((cache.max_length, [cache._keys[layer].shape[2] for layer in range(4)]))
    sliding = [kind == SLIDING for kind in gemma.config.layer_types]
    assert places == [(n, [1 + (min(n, W) if slides else n) for slides in sliding]) for n in (5, 10, 20, 100)]


# Padding


def left_padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [T] as ids and attention mask [B, T]."""
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=5, padding_side="left")
    lengths = torch.tensor([[len(row)] for row in rows])
    return ids, (torch.arange(ids.shape[1]) >= ids.shape[1] - lengths).long()


@pytest.mark.parametrize("sizes", [(1,), (3,), (W,), (T,), (20, 1, 1)], ids=str)
@pytest.mark.parametrize("lengths", [(20, 13, 1), (T, 70, 5)], ids=str)
def test_left_padded_rows_go_on_as_each_would_alone(
    pair: Any, random_ids: Any, gap: Any, lengths: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """Rows of unequal length are read in pieces, some of which are all padding, then 2 W more tokens one by one."""
    gemma, prompts, later = pair().ours, [random_ids(1, length)[0] for length in lengths], random_ids(3, 2 * W)
    ids, mask = left_padded(prompts)
    cache = KVCache(gemma.config, 3, max(lengths) + 2 * W)
    read = decode(gemma, ids, sizes, cache, mask)
    logits = torch.cat((read, decode(gemma, later, (1,), cache)), 1)
    for row, (prompt, more) in enumerate(zip(prompts, later, strict=True)):
        alone = torch.cat((prompt, more))
        assert gap(logits[row, -len(alone) :], pair().expected(alone[None])[0]) < EQUAL


@pytest.mark.parametrize("lengths", [(3, 13), (T, 1), (W, W + 1)], ids=str)
def test_right_padded_rows_go_on_as_each_would_alone(
    pair: Any, random_ids: Any, gap: Any, lengths: tuple[int, ...]
) -> None:
    gemma, prompts, later = pair().ours, [random_ids(1, length)[0] for length in lengths], random_ids(2, 2 * W)
    cache = KVCache(gemma.config, 2, max(lengths) + 2 * W)
    ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=5)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    gemma(ids, attention_mask=mask, cache=cache)
    assert cache.lengths == list(lengths)
    logits = decode(gemma, later, (1,), cache)
    for row, (prompt, more) in enumerate(zip(prompts, later, strict=True)):
        assert gap(logits[row], pair().expected(torch.cat((prompt, more))[None])[0, len(prompt) :]) < EQUAL


# Rows that come and go


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_join_and_leave_and_read_at_their_own_pace_equal_each_alone(
    pair: Any, random_ids: Any, gap: Any, seed: int
) -> None:
    """60 random events: a row joins with a text of its own, leaves, or each row reads 0 to 5 tokens, far past the
    window. After each reading the logits are those of reading the row's whole text at once."""
    gemma, rng = pair().ours, random.Random(seed)
    cache, texts = KVCache(gemma.config, 0, 3), list[Tensor]()
    largest = 0
    for _ in range(60):
        event = rng.choice(("join", "leave", "read", "read", "read"))
        if event == "join" and len(texts) < 5:
            text = random_ids(1, rng.randint(1, 3 * W))[0]
            other = KVCache(gemma.config, 1, rng.choice((len(text), 50)))
            gemma(text[None], cache=other)
            cache.join(other if rng.random() < 0.5 else other.row(0))
            texts.append(text)
        elif event == "leave" and texts:
            row = rng.randrange(len(texts))
            cache.remove(row)
            texts[row] = texts[-1]
            texts.pop()
        elif event == "read" and texts:
            counts = [rng.randint(0, 5) for _ in texts]
            if not any(counts):
                continue
            new = random_ids(len(texts), max(counts))
            mask = (torch.arange(max(counts)) < torch.tensor(counts)[:, None]).long()
            cache.grow(max(len(text) + count for text, count in zip(texts, counts, strict=True)))
            logits = gemma(new, attention_mask=mask, cache=cache)
            for row, count in enumerate(counts):
                texts[row] = torch.cat((texts[row], new[row, :count]))
                if count:
                    whole = pair().expected(texts[row][None])[0, -count:]
                    assert gap(logits[row, :count], whole) < EQUAL
            largest = max(largest, *map(len, texts))
        assert cache.lengths == list(map(len, texts))
    assert largest > 3 * W


def test_a_copy_of_a_row_goes_on_by_itself(pair: Any, random_ids: Any, gap: Any) -> None:
    gemma, begun, one, other = pair().ours, random_ids(1, 20), random_ids(1, 9), random_ids(1, 9)
    cache = KVCache(gemma.config, 1, 40)
    gemma(begun, cache=cache)
    copied = cache.row(0)
    copied.grow(40)
    for ids, kept in ((one, cache), (other, copied)):
        assert gap(decode(gemma, ids, (2, 1), kept), pair().expected(torch.cat((begun, ids), 1))[:, 20:]) < EQUAL


# Bounds


def test_memory_of_a_sliding_layer_is_bounded_by_the_window(pair: Any, random_ids: Any) -> None:
    gemma = pair().ours
    cache = KVCache(gemma.config, 2, 100)
    decode(gemma, random_ids(2, 60), (20, 1), cache)
    places = [cache._keys[layer].shape[2] for layer in range(4)]
    expected = [1 + (W if kind == SLIDING else 100) for kind in gemma.config.layer_types]  # one is for padding
    assert places == [cache._values[layer].shape[2] for layer in range(4)] == expected


@pytest.mark.parametrize("before", [0, 5, 10])
def test_more_tokens_than_there_is_room_for_are_refused(pair: Any, random_ids: Any, before: int) -> None:
    gemma, cache = pair().ours, KVCache(pair().ours.config, 1, 10)
    if before:
        gemma(random_ids(1, before), cache=cache)
    with pytest.raises(MinifcError, match="room for 10 tokens and 11 are needed; make it with a larger max_length"):
        gemma(random_ids(1, 11 - before), cache=cache)


def test_a_refused_call_leaves_the_cache_as_it_was(pair: Any, random_ids: Any, gap: Any) -> None:
    gemma, ids = pair().ours, random_ids(1, 12)
    cache = KVCache(gemma.config, 1, 12)
    first = gemma(ids[:, :10], cache=cache)
    with pytest.raises(MinifcError):
        gemma(ids[:, :3], cache=cache)
    logits = torch.cat((first, gemma(ids[:, 10:], cache=cache)), 1)
    assert gap(logits, pair().expected(ids)) < EQUAL


def test_a_batch_of_another_size_is_refused(pair: Any, random_ids: Any) -> None:
    gemma = pair().ours
    with pytest.raises(MinifcError, match="the cache holds 2 rows, the batch 3"):
        gemma(random_ids(3, 4), cache=KVCache(gemma.config, 2, 10))


def test_packed_documents_with_a_cache_are_refused(pair: Any, random_ids: Any) -> None:
    gemma, ids = pair().ours, random_ids(1, 4)
    with pytest.raises(ValueError, match="packed documents are for training"):
        gemma(ids, documents=torch.zeros_like(ids), cache=KVCache(gemma.config, 1, 10))


def test_two_caches_hold_two_conversations(pair: Any, random_ids: Any, gap: Any) -> None:
    gemma, texts = pair().ours, (random_ids(1, 20), random_ids(1, 20))
    caches = [KVCache(gemma.config, 1, 20) for _ in texts]
    steps = [
        [gemma(ids[:, piece], cache=cache) for ids, cache in zip(texts, caches, strict=True)]
        for piece in pieces(20, (3,))
    ]
    for ids, logits in zip(texts, zip(*steps, strict=True), strict=True):
        assert gap(torch.cat(logits, 1), pair().expected(ids)) < EQUAL


# Mutations: with the bookkeeping wrong in any way, logits differ


def a_slot_too_few(init: Any) -> Callable[..., None]:
    return lambda self, slots, batch_size: init(self, slots - 1 if slots == W else slots, batch_size)


def a_slot_aside(extend: Any) -> Callable[..., Tensor]:
    def mutated(self: Any, positions: Tensor, length: int) -> Tensor:
        keys = extend(self, positions, length)
        self.write = (self.write + 1) % self.slots
        return keys

    return mutated


def keys_in_order(extend: Any) -> Callable[..., Tensor]:
    """Take the ring's slots for a queue."""
    return lambda self, positions, length: extend(self, positions, length).sort(-1).values


def positions_from_zero(_: Any) -> Callable[..., Tensor]:
    return lambda self, batch_size, device: torch.zeros(batch_size, dtype=torch.long)


def values_turned_round(update: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    def mutated(self: Any, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = update(self, layer, k, v)
        return keys, values.flip(2)

    return mutated


@pytest.mark.parametrize(
    ("owner", "name", "mutate"),
    [
        ("_Ring", "__init__", a_slot_too_few),
        ("_Ring", "extend", a_slot_aside),
        ("_Ring", "extend", keys_in_order),
        ("KVCache", "next_positions", positions_from_zero),
        ("KVCache", "update", values_turned_round),
    ],
    ids=["a slot too few", "a slot aside", "keys in order", "positions from zero", "values turned round"],
)
def test_mutations_are_noticed(
    pair: Any,
    random_ids: Any,
    gap: Any,
    monkeypatch: pytest.MonkeyPatch,
    owner: str,
    name: str,
    mutate: Callable[..., Any],
) -> None:
    gemma, ids = pair().ours, random_ids(2, 40)
    holder = getattr(cache_module, owner)
    with monkeypatch.context() as patch:
        patch.setattr(holder, name, mutate(getattr(holder, name)))
        assert gap(decode(gemma, ids, (3, 1), KVCache(gemma.config, 2, 40)), pair().expected(ids)) > WRONG
    assert gap(decode(gemma, ids, (3, 1), KVCache(gemma.config, 2, 40)), pair().expected(ids)) < EQUAL
