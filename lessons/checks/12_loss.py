"""Checks of lesson 12: each calls what you wrote, and says what is wrong with it."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def cross_entropy(candidate):
    even = float(candidate(torch.zeros(8), 3, None))
    assert abs(even - math.log(8)) < 1e-5, f"eight ids with equal scores: log 8, about 2.08, not {even:.2f}"
    large = float(candidate(torch.tensor([1000.0, 999.0]), 0, None))
    assert abs(large - 0.3133) < 1e-3, f"scores 1000 and 999 give {large:.3f}, not 0.313; subtract the largest first"
    scores = torch.tensor([60.0, 20.0, -5.0])
    right = float(F.cross_entropy(30 * torch.tanh(scores / 30), torch.tensor(1)))
    found = float(candidate(scores, 1, 30.0))
    assert abs(found - right) < 1e-3, f"with a cap of 30 it is {right:.2f}, not {found:.2f}; squeeze the plain scores"


def mean_loss(candidate):
    torch.manual_seed(0)
    ids = torch.tensor([1, 4, 2, 0, 3, 2])
    mask = torch.tensor([False, False, False, True, True, False])
    scores = 10 * F.one_hot(torch.tensor([4, 2, 0, 3, 2, 0]), 5).float()  # each knows what comes next
    knows = float(candidate(scores, ids, mask))
    assert knows < 0.01, f"the model knows every next token, and the loss is {knows:.2f}: is each asked for the next?"
    scores = torch.randn(6, 5)
    each = F.cross_entropy(scores[:-1], ids[1:], reduction="none")
    right, found = float(each[[2, 3]].mean()), float(candidate(scores, ids, mask))
    share = float(each[[2, 3]].sum() / 5)
    assert abs(found - share) > 1e-5, "the sum over learned positions was divided by all positions"
    assert abs(found - right) < 1e-5, "ids 3 and 4 are learned: the losses of positions 2 and 3 count, and no others"


def accumulate(candidate):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    batches = [(torch.randn(n, 6), torch.randint(0, 4, (n,))) for n in (1, 7, 2)]
    open_graphs = []

    def sum_of_losses(batch):
        assert not open_graphs, "a micro-batch was computed before the last one's backward"
        x, y = batch
        loss = F.cross_entropy(layer(x), y, reduction="sum")
        open_graphs.append(loss)
        loss.register_hook(lambda gradient: open_graphs.clear())
        return loss

    found = candidate(sum_of_losses, batches, [1, 7, 2])
    ours = layer.weight.grad
    assert ours is not None, "the parameters have no gradient; call backward"
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    mean = F.cross_entropy(layer(x), y)
    (right,) = torch.autograd.grad(mean, layer.weight)
    off = float((ours - right).norm() / right.norm())
    assert off < 1e-4, f"the gradient is off by {off:.0%}; divide each sum by the number of all supervised tokens"
    assert abs(found - mean.item()) < 1e-4, f"it returns {found:.3f}; the mean loss is {mean.item():.3f}"
