"""Solutions of lesson 11, and mistakes that its checks must find."""

import torch


def with_change(x, W, A, B, alpha):
    return x @ W.T + alpha / len(A) * (x @ A.T @ B.T)


def with_change__forgets_to_divide_by_the_rank(x, W, A, B, alpha):
    return x @ W.T + alpha * (x @ A.T @ B.T)


def with_change__divides_by_the_inputs(x, W, A, B, alpha):
    return x @ W.T + alpha / A.shape[1] * (x @ A.T @ B.T)


def with_change__makes_the_large_matrix(x, W, A, B, alpha):
    return x @ (W + alpha / len(A) * (B @ A)).T


def with_change__takes_one_row_of_inputs_only(x, W, A, B, alpha):
    return (W @ x.T + alpha / len(A) * (B @ (A @ x.T))).T


def rank_needed(change, share):
    squares = torch.linalg.svdvals(change).square()
    held = squares.cumsum(0) / squares.sum()
    return int((held < share).sum()) + 1


def rank_needed__counts_without_squaring(change, share):
    values = torch.linalg.svdvals(change)
    return int((values.cumsum(0) / values.sum() < share).sum()) + 1


def rank_needed__is_one_too_low(change, share):
    squares = torch.linalg.svdvals(change).square()
    return int((squares.cumsum(0) / squares.sum() < share).sum())


def merged(W, A, B, scaling):
    return (W.float() + scaling * (B @ A)).to(W.dtype)


def merged__adds_in_bf16(W, A, B, scaling):
    return W + (scaling * (B @ A)).to(W.dtype)


def merged__multiplies_in_bf16(W, A, B, scaling):
    return (W.float() + (scaling * (B.to(W.dtype) @ A.to(W.dtype))).float()).to(W.dtype)


def merged__writes_into_the_weight(W, A, B, scaling):
    W.copy_((W.float() + scaling * (B @ A)).to(W.dtype))
    return W
