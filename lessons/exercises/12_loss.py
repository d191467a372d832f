"""Exercises of lesson 12. Replace each `raise` by your code, then: python -m lessons.check 12"""

from collections.abc import Callable, Sequence

from torch import Tensor


def cross_entropy(scores: Tensor, target: int, cap: float | None) -> Tensor:
    """-log p(target) from one position's plain scores [V].

    With a cap the scores are squeezed first, cap * tanh(scores / cap); without one they may be large: 1000, say.
    Write the softmax yourself.
    """
    raise NotImplementedError


def mean_loss(scores: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The mean loss of a row over what is learned from.

    `scores` [T, V] are what the model gives after reading each token of `ids` [T], ready for the softmax;
    `mask` [T] says of each id whether it is to be learned. torch.nn.functional.cross_entropy may be used.
    """
    raise NotImplementedError


def accumulate(sum_of_losses: Callable[[object], Tensor], batches: Sequence[object], counts: Sequence[int]) -> float:
    """Take the gradients of one optimiser step, micro-batch by micro-batch, and return the step's mean loss.

    `sum_of_losses(batch)` gives the summed loss of a micro-batch, `counts` how many supervised tokens each has.
    Afterwards the parameters' gradients are those of the mean over all supervised tokens. Call `backward` for each
    micro-batch before the next is computed, so that only one of them is held in memory.
    """
    raise NotImplementedError
