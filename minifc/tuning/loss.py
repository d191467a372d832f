"""Cross entropy over the tokens that are learned from, without ever holding all their logits.

1500 tokens times 256,008 logits in fp32 are 1.5 GB, and a plain loss keeps several copies. Here
only supervised positions are projected, a few at a time, and the gradient of each chunk is
taken while its logits exist. What remains is one gradient [n, E] for the hidden states.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minifc.data import IGNORED, Batch
from minifc.gemma.model import Gemma

CHUNK_ELEMENTS = 2**24  # logits held at once: 64 MB in fp32


def batch_loss(model: Gemma, batch: Batch) -> Tensor:
    """The *sum* of the cross entropy over a batch's supervised tokens, fp32 scalar.

    A sum, because only the caller knows how many tokens the whole optimiser step learns from: a mean of the batches'
    means would give a token of a small batch more weight.
    """
    states = model.hidden(batch.ids, documents=batch.documents)  # [B, T, E]
    learned = batch.targets != IGNORED
    return cross_entropy(model, states[learned], batch.targets[learned])


def cross_entropy(model: Gemma, hidden: Tensor, targets: Tensor) -> Tensor:
    """Sum of -log p(target) for hidden [n, E] and targets int64 [n]."""
    vocabulary = model.model.embed_tokens
    chunk = max(1, CHUNK_ELEMENTS // int(vocabulary.size))

    def chunk_loss(part: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(model.logits(part), target, reduction="sum")

    if not torch.is_grad_enabled():
        parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
        return sum((chunk_loss(*part) for part in parts), hidden.new_zeros((), dtype=torch.float32))
    rows = [parameter for parameter in vocabulary.parameters() if parameter.requires_grad]
    loss: Tensor = _ChunkedLoss.apply(chunk_loss, chunk, hidden, targets, *rows)
    return loss


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradients on the way forward, and only scales them on the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        chunk_loss: Callable[[Tensor, Tensor], Tensor],
        chunk: int,
        hidden: Tensor,
        targets: Tensor,
        *rows: Tensor,
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        hidden_grad = torch.zeros_like(hidden)
        row_grads: list[Tensor | None] = [None] * len(rows)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            with torch.enable_grad():
                leaf = hidden[part].detach().requires_grad_()
                loss = chunk_loss(leaf, targets[part])
            grads = torch.autograd.grad(loss, [leaf, *rows], allow_unused=True)  # some only serve lookup
            hidden_grad[part] = grads[0]
            for i, (sum_, grad) in enumerate(zip(row_grads, grads[1:], strict=True)):
                if grad is not None:
                    row_grads[i] = grad if sum_ is None else sum_ + grad
            total += loss.detach()
        ctx.save_for_backward(hidden_grad, *row_grads)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (None if grad is None else grad * grad_outputs[0].to(grad.dtype) for grad in ctx.saved_tensors)
        hidden_grad, *row_grads = scaled
        return None, None, hidden_grad, None, *row_grads
