"""Solutions of lesson 12, and mistakes that its checks must find."""

import torch
import torch.nn.functional as F


def cross_entropy(scores, target, cap):
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    scores = scores - scores.max()
    return scores.exp().sum().log() - scores[target]


def cross_entropy__forgets_the_cap(scores, target, cap):
    scores = scores - scores.max()
    return scores.exp().sum().log() - scores[target]


def cross_entropy__overflows(scores, target, cap):
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    powers = scores.exp()
    return -(powers[target] / powers.sum()).log()


def cross_entropy__caps_what_is_left_after_subtracting(scores, target, cap):
    scores = scores - scores.max()
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    return scores.exp().sum().log() - scores[target]


def mean_loss(scores, ids, mask):
    learned = mask[1:]
    return F.cross_entropy(scores[:-1][learned], ids[1:][learned])


def mean_loss__does_not_shift(scores, ids, mask):
    return F.cross_entropy(scores[mask], ids[mask])


def mean_loss__shifts_the_ids_but_not_the_mask(scores, ids, mask):
    learned = mask[:-1]
    return F.cross_entropy(scores[:-1][learned], ids[1:][learned])


def mean_loss__divides_by_all_positions(scores, ids, mask):
    learned = mask[1:]
    return F.cross_entropy(scores[:-1][learned], ids[1:][learned], reduction="sum") / (len(ids) - 1)


def accumulate(sum_of_losses, batches, counts):
    loss = 0.0
    for batch in batches:
        part = sum_of_losses(batch) / sum(counts)
        part.backward()
        loss += part.item()
    return loss


def accumulate__takes_the_mean_of_means(sum_of_losses, batches, counts):
    loss = 0.0
    for batch, count in zip(batches, counts, strict=True):
        part = sum_of_losses(batch) / count / len(batches)
        part.backward()
        loss += part.item()
    return loss


def accumulate__adds_the_means(sum_of_losses, batches, counts):
    loss = 0.0
    for batch, count in zip(batches, counts, strict=True):
        part = sum_of_losses(batch) / count
        part.backward()
        loss += part.item()
    return loss


def accumulate__holds_all_batches(sum_of_losses, batches, counts):
    loss = sum(sum_of_losses(batch) for batch in batches) / sum(counts)
    loss.backward()
    return loss.item()
