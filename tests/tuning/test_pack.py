"""Packing: whole conversations, each once, in rows whose documents do not know of each other."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minifc.data import IGNORED, Batch, Example, pack
from minifc.gemma.model import Gemma
from minifc.tuning.loss import batch_loss

LENGTH, PAD = 12, 0
Make = Callable[..., list[Example]]
Near = Callable[..., bool]


@st.composite
def example_lists(draw: st.DrawFn) -> list[Example]:
    """Examples of 1 to LENGTH tokens, every token of every example a number of its own."""
    masks = draw(st.lists(st.lists(st.booleans(), min_size=1, max_size=LENGTH), max_size=20))
    starts = [1 + sum(map(len, masks[:number])) for number in range(len(masks))]
    return [
        Example(list(range(start, start + len(mask))), mask, f"example {number}")
        for number, (start, mask) in enumerate(zip(starts, masks, strict=True))
    ]


def documents_of(batch: Batch) -> list[tuple[list[int], list[int]]]:
    """(ids, targets) of each document of a batch."""
    found = []
    for ids, targets, documents in zip(batch.ids, batch.targets, batch.documents, strict=True):
        for document in range(int(documents.max()) + 1):
            found.append((ids[documents == document].tolist(), targets[documents == document].tolist()))
    return found


def following(example: Example) -> list[int]:
    """What each position of an example on its own learns."""
    learned = [id_ if mask else IGNORED for id_, mask in zip(example.ids, example.mask, strict=True)]
    return [*learned[1:], IGNORED]


packed = settings(deadline=None, max_examples=60)
look_aheads = st.sampled_from([1, 2, 5, 64])


@packed
@given(example_lists(), st.integers(1, 4), look_aheads)
def test_every_example_once_and_whole_and_its_targets_its_own(
    examples: list[Example], rows: int, look_ahead: int
) -> None:
    """The target after a document's last token is never the next document's first."""
    batches = pack(examples, rows, LENGTH, PAD, look_ahead)
    found = [document for batch in batches for document in documents_of(batch)]
    assert sorted(found) == [(example.ids, following(example)) for example in examples]


@packed
@given(example_lists(), st.integers(1, 4), st.sampled_from([0, 7]), look_aheads)
def test_shapes_and_padding(examples: list[Example], rows: int, pad_id: int, look_ahead: int) -> None:
    for batch in pack(examples, rows, LENGTH, pad_id, look_ahead):
        assert batch.ids.shape == batch.targets.shape == batch.documents.shape
        assert batch.ids.dtype == batch.targets.dtype == batch.documents.dtype == torch.int64
        assert 1 <= batch.ids.shape[0] <= rows
        assert batch.ids.shape[1] == LENGTH
        padding = batch.documents == -1
        assert (batch.ids[padding] == pad_id).all()
        assert (batch.targets[padding] == IGNORED).all()
        assert (~padding).any(dim=1).all()  # no empty rows
        assert (padding[:, 1:] >= padding[:, :-1]).all()  # all of it at the end


@packed
@given(example_lists(), st.integers(1, 4))
def test_supervised_counts_what_has_a_predecessor_and_is_learned_from(examples: list[Example], rows: int) -> None:
    total = sum(batch.supervised for batch in pack(examples, rows, LENGTH, PAD))
    assert total == sum(sum(example.mask[1:]) for example in examples)


@packed
@given(example_lists(), st.integers(1, 4))
def test_batches_keep_the_order_of_the_data(examples: list[Example], rows: int) -> None:
    """Without looking ahead rows of a batch are filled as it fits; no example overtakes another by a batch."""
    at = 0
    for batch in pack(examples, rows, LENGTH, PAD):
        texts = sorted(ids for ids, _ in documents_of(batch))
        assert texts == [example.ids for example in examples[at : at + len(texts)]]
        at += len(texts)


@packed
@given(example_lists(), st.integers(1, 4), look_aheads)
def test_nobody_waits_for_long_or_comes_much_too_early(examples: list[Example], rows: int, look_ahead: int) -> None:
    """Each batch has the first example that is left, and those that may be chosen are the next ones alone."""
    left = [example.ids for example in examples]
    for batch in pack(examples, rows, LENGTH, PAD, look_ahead):
        found = [ids for ids, _ in documents_of(batch)]
        assert left[0] in found
        assert all(left.index(ids) < look_ahead + len(found) - 1 for ids in found)
        left = [ids for ids in left if ids not in found]
    assert not left


def rows_of(batches: Iterable[Batch]) -> list[list[list[int]]]:
    """The sizes of the documents in each row of each batch."""
    return [
        [[row.tolist().count(document) for document in range(int(row.max()) + 1)] for row in batch.documents]
        for batch in batches
    ]


def test_examples_go_where_they_first_fit(make_examples: Make) -> None:
    assert rows_of(pack(make_examples([6, 7, 4, 3, 2]), 2, 10)) == [[[6, 4], [7, 3]], [[2]]]


def test_with_a_look_ahead_a_row_goes_on_with_the_longest_that_fits(make_examples: Make) -> None:
    batches = pack(make_examples([6, 2, 7, 4, 3, 1]), 2, 10, look_ahead=4)
    assert rows_of(batches) == [[[6, 4], [2, 7, 1]], [[3]]]


def test_with_a_look_ahead_hardly_any_room_is_left_over(make_examples: Make) -> None:
    """Lengths between a fifth and nine tenths of a row."""
    rng = random.Random(0)
    examples = make_examples([rng.randint(20, 90) for _ in range(400)])

    def filled(look_ahead: int) -> float:
        batches = list(pack(examples, 1, 100, look_ahead=look_ahead))
        return sum(len(example.ids) for example in examples) / (100 * len(batches))

    assert filled(1) < 0.8
    assert filled(64) > 0.9


def test_nothing_gives_no_batch() -> None:
    assert list(pack([], 3, LENGTH)) == []


def test_an_example_longer_than_a_row_is_named_not_cut(make_examples: Make) -> None:
    examples = make_examples([5, LENGTH, LENGTH + 1])
    with pytest.raises(ValueError, match=rf"example 2: {LENGTH + 1} tokens do not fit into a row of {LENGTH}"):
        list(pack(examples, 2, LENGTH))


# --- the model sees documents, not rows --------------------------------------------------------------------------


@pytest.fixture
def examples(make_examples: Make) -> list[Example]:
    """Two of them longer than the window of 5, so that windows reach over documents' borders too."""
    return make_examples([11, 3, 8, 1, 7], [5, 2, 7, 0, 1])


def test_a_packed_forward_equals_separate_ones(model: Gemma, examples: list[Example], near: Near) -> None:
    seen = 0
    for batch in pack(examples, 2, 20):
        logits = model(batch.ids, documents=batch.documents)
        for row, documents, ids in zip(logits, batch.documents, batch.ids, strict=True):
            for document in range(int(documents.max()) + 1):
                place = documents == document
                assert near(row[place], model(ids[place][None])[0])
                seen += 1
    assert seen == len(examples)


def test_a_packed_loss_is_the_sum_of_the_separate_ones(model: Gemma, examples: list[Example], near: Near) -> None:
    together = sum(batch_loss(model, batch) for batch in pack(examples, 2, 20))
    apart = sum(batch_loss(model, batch) for batch in pack(examples, 1, 11))
    plain = torch.zeros(())
    for example in examples:
        ids, targets = torch.tensor([example.ids]), torch.tensor(following(example))
        plain += F.cross_entropy(model(ids)[0], targets, ignore_index=IGNORED, reduction="sum")
    assert near(together, plain)
    assert near(apart, plain)


def gradients(model: Gemma, batches: Any) -> list[Tensor]:
    model.zero_grad()
    for batch in batches:
        batch_loss(model, batch).backward()
    return [parameter.grad for parameter in model.parameters()]


def test_padding_changes_nothing(model: Gemma, examples: list[Example], near: Near) -> None:
    """Neither what stands there nor how much of it there is."""
    expected = gradients(model, pack(examples, 1, 11, pad_id=0))
    other_id = gradients(model, pack(examples, 1, 11, pad_id=50))
    more = gradients(model, pack(examples, 1, 31, pad_id=0))
    assert all(torch.equal(a, b) for a, b in zip(other_id, expected, strict=True))
    assert all(near(a, b) for a, b in zip(more, expected, strict=True))
