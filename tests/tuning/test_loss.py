"""The chunked loss: the numbers and gradients of a plain one, without ever holding a plain one's logits."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minifc.data import IGNORED, Batch, Example, pack
from minifc.gemma.model import Gemma
from minifc.tuning import loss as loss_module
from minifc.tuning.loop import LoopConfig, train
from minifc.tuning.lora import add_lora
from minifc.tuning.loss import batch_loss, cross_entropy
from minifc.tuning.vocab import extend

VOCABULARY, NEW = 97, [97, 98, 41]  # two appended, one reused
Near = Callable[..., bool]
Make = Callable[..., list[Example]]


@pytest.fixture
def extended(model: Gemma) -> Gemma:
    """Only LoRA and three rows are trainable."""
    extend(model, NEW, 0.3 * torch.randn(3, 32))
    add_lora(model, r=4, alpha=8, dropout=0.0)
    return model.train()


@pytest.fixture
def hidden() -> Tensor:
    return torch.randn(23, 32, requires_grad=True)


@pytest.fixture
def targets() -> Tensor:
    return torch.cat((torch.tensor(NEW), torch.randint(0, VOCABULARY, (20,))))


@pytest.fixture
def chunked(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """chunked(n): n rows of logits at once, of 99 each."""
    return lambda rows: monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", rows * 99)


def plain(model: Gemma, hidden: Tensor, targets: Tensor) -> Tensor:
    """All logits at once, from one ordinary table, with the soft-cap written out."""
    table = torch.cat((model.model.embed_tokens.base_layer.weight, torch.zeros(2, 32)))
    table = table.index_copy(0, torch.tensor(NEW), model.model.embed_tokens.rows)
    logits = 3.0 * torch.tanh(hidden @ table.T / 3.0)
    return F.cross_entropy(logits, targets, reduction="sum")


def plain_batch(model: Gemma, batch: Batch) -> Tensor:
    """The sum over all supervised positions of a batch, from the full logits."""
    logits = model(batch.ids, documents=batch.documents)
    return F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")


def gradients(model: Gemma) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("rows", [1, 2, 7, 22, 23, 24, 1000])
def test_value_and_gradients_equal_a_plain_loss(
    extended: Gemma, hidden: Tensor, targets: Tensor, chunked: Any, near: Near, rows: int
) -> None:
    chunked(rows)
    table = extended.model.embed_tokens.rows
    loss = cross_entropy(extended, hidden, targets)
    expected = plain(extended, hidden, targets)
    assert near(loss, expected)
    ours = torch.autograd.grad(0.37 * loss, [hidden, table])
    theirs = torch.autograd.grad(0.37 * expected, [hidden, table])
    assert near(ours[0], theirs[0])
    assert near(ours[1], theirs[1])


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_without_gradients_the_value_is_the_same(
    extended: Gemma, hidden: Tensor, targets: Tensor, chunked: Any, near: Near, rows: int
) -> None:
    chunked(rows)
    with torch.no_grad():
        loss = cross_entropy(extended, hidden, targets)
    assert not loss.requires_grad
    assert near(loss, plain(extended, hidden, targets))


def test_a_chunk_smaller_than_a_row_of_logits_still_takes_one(
    extended: Gemma, hidden: Tensor, targets: Tensor, near: Near, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 1)
    assert near(cross_entropy(extended, hidden, targets), plain(extended, hidden, targets))


def test_nothing_supervised_is_zero_with_zero_gradients(extended: Gemma, hidden: Tensor, targets: Tensor) -> None:
    loss = cross_entropy(extended, hidden[:0], targets[:0])
    assert loss.item() == 0.0
    loss.backward()
    assert hidden.grad.abs().sum() == 0
    assert extended.model.embed_tokens.rows.grad is None
    with torch.no_grad():
        assert cross_entropy(extended, hidden[:0], targets[:0]).item() == 0.0


def test_the_rows_gradient_counts_reading_and_writing(extended: Gemma, make_examples: Make, near: Near) -> None:
    """Through the whole model: the same rows are looked up below and projected on above."""
    example = make_examples([12])[0]
    example.ids[3:6] = NEW
    (batch,) = pack([example], 1, 14)
    batch_loss(extended, batch).backward()
    ours = gradients(extended)
    plain_batch(extended, batch).backward()
    theirs = gradients(extended)
    assert ours.keys() == theirs.keys()
    assert all(near(ours[name], theirs[name]) for name in ours)
    assert "model.embed_tokens.rows" in ours


def test_gradients_of_a_whole_model_equal_a_plain_loss(
    model: Gemma, make_examples: Make, chunked: Any, near: Near
) -> None:
    """Pretraining: the tied table itself is trained, in both its directions."""
    chunked(5)
    (batch,) = pack(make_examples([12, 9], [4, 8]), 2, 12)
    loss, expected = batch_loss(model, batch), plain_batch(model, batch)
    assert near(loss, expected)
    loss.backward()
    ours = gradients(model)
    expected.backward()
    theirs = gradients(model)
    assert set(ours) == set(theirs) == {name for name, _ in model.named_parameters()}
    assert all(near(ours[name], theirs[name], 2e-5) for name in ours)


def test_the_loss_of_a_bf16_model_is_fp32(model: Gemma, make_examples: Make, near: Near) -> None:
    extend(model, NEW, 0.3 * torch.randn(3, 32))
    model.to(torch.bfloat16)
    (batch,) = pack(make_examples([9]), 1, 9)
    loss = batch_loss(model, batch)
    assert loss.dtype == torch.float32
    assert near(loss, plain_batch(model, batch))


# --- memory ------------------------------------------------------------------------------------------------------


class WidestLogits(TorchDispatchMode):
    """The most rows of logits that any tensor held, in a forward or backward pass."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes, self.rows = sizes, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.ndim >= 2 and tensor.shape[-1] in self.sizes:
                self.rows = max(self.rows, tensor.numel() // tensor.shape[-1])
        return result


@pytest.mark.parametrize("grad", [True, False])
def test_full_logits_never_exist(extended: Gemma, make_examples: Make, chunked: Any, grad: bool) -> None:
    """Of 4 x 60 positions, 200 of them supervised, no more than 40 ever have logits (32 is the table, transposed)."""
    chunked(40)
    (batch,) = pack(make_examples([60, 60, 60, 60], [50, 50, 50, 50]), 4, 60)
    assert batch.supervised == 200
    with WidestLogits((VOCABULARY, VOCABULARY + 2)) as spy, torch.set_grad_enabled(grad):
        loss = batch_loss(extended, batch)
        if grad:
            loss.backward()
    assert spy.rows == 40


def test_the_spy_sees_a_plain_loss(extended: Gemma, make_examples: Make) -> None:
    (batch,) = pack(make_examples([60, 60, 60, 60], [50, 50, 50, 50]), 4, 60)
    with WidestLogits((VOCABULARY, VOCABULARY + 2)) as spy:
        plain_batch(extended, batch).backward()
    assert spy.rows == 240


def test_unsupervised_positions_are_never_projected(
    extended: Gemma, make_examples: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    projected = []
    logits = extended.logits
    monkeypatch.setattr(extended, "logits", lambda part: projected.append(len(part)) or logits(part))
    (batch,) = pack(make_examples([30, 30], [3, 8]), 1, 60)
    batch_loss(extended, batch)
    assert sum(projected) == batch.supervised == 11


# --- accumulation ------------------------------------------------------------------------------------------------


def test_micro_batches_over_the_total_equal_the_large_batch(extended: Gemma, make_examples: Make, near: Near) -> None:
    examples = make_examples([20, 20, 20, 20], [1, 19, 3, 7])
    (large,) = pack(examples, 4, 20)
    (batch_loss(extended, large) / large.supervised).backward()
    expected = gradients(extended)
    for small in pack(examples, 1, 20):
        (batch_loss(extended, small) / large.supervised).backward()
    ours = gradients(extended)
    assert all(near(ours[name], expected[name]) for name in expected)
    assert set(ours) == set(expected)


def descent(trainable: dict[str, nn.Parameter], config: LoopConfig) -> list[torch.optim.Optimizer]:
    return [torch.optim.SGD(trainable.values(), lr=config.learning_rate)]


def test_training_with_accumulation_equals_training_with_large_batches(
    fresh: Callable[..., Gemma], make_examples: Make, near: Near
) -> None:
    """A mean of means would weigh the one token of some examples as much as the 19 of others.

    With plain gradient descent: Adam blows up rounding noise wherever a gradient is nearly zero.
    """
    examples = make_examples([20] * 12, [1, 19, 3, 7, 2, 19, 1, 18, 1, 19, 2, 4])
    trained = []
    for rows, accumulation in ((4, 1), (1, 4), (2, 2)):
        torch.manual_seed(0)
        model = fresh()
        extend(model, NEW, torch.zeros(3, 32))
        add_lora(model, r=4, alpha=8, dropout=0.0)
        config = LoopConfig(epochs=2, rows=rows, accumulation=accumulation, length=20, learning_rate=0.3)
        train(model, examples, config, progress=False, make_optimizers=descent)
        trained.append({name: p.detach() for name, p in model.named_parameters() if p.requires_grad})
    for other in trained[1:]:
        assert all(near(other[name], trained[0][name]) for name in trained[0])
