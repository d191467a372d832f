# %% [markdown]
# # 12. The loss
#
# *How wrong is the model, and why does it take gigabytes to ask?*
#
# To improve a model one must first say, in one number, how wrong it is. This lesson takes that number apart: what it
# is for one token, which tokens count, how it is computed without filling the memory, and how it adds up over several
# batches. Each of these has a mistake that runs without an error message.

# %%
import math
from collections import Counter

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from lesson import CALLER, EMBEDDED, MODEL, show
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import minifc
from minifc.data import Conversation, make_examples, pack, toy
from minifc.text.calls import TAGS
from minifc.tuning import loss as package

torch.manual_seed(0)
model, tokenizer = minifc.load_model(MODEL, dtype=torch.float32), minifc.load_tokenizer(MODEL)
minifc.add_tokens(model, tokenizer, TAGS)
minifc.add_lora(model, r=4, alpha=8)
model.eval()  # no dropout: the same question, the same answer

conversations = [Conversation(case.messages(), case.tools) for case in toy.training_cases(12, seed=5)]
examples = make_examples(conversations, tokenizer, "gemma", 2048).fitting
row = examples[0]
print(f"{len(row.ids)} tokens, {sum(row.mask)} of them to learn from")
print(repr(tokenizer.decode([i for i, learned in zip(row.ids, row.mask, strict=True) if learned])))

# %% [markdown]
# ## One token
#
# After reading some tokens, the model gives a score to each id of the vocabulary. *Softmax* makes probabilities of
# them: raise $e$ to each, divide by the sum. The loss of the position is $-\log p$ of the id that really comes next:
# 0 if the model was certain of it, large if it thought it unlikely. That is the surprise of lesson 7, in *nats*, since
# the logarithm is the natural one. As a loss it is called **cross entropy**.

# %%
with torch.no_grad():
    hidden = model.hidden(torch.tensor([row.ids]))[0]  # [T, E]: what lesson 4 has before the head
    scores = model.model.embed_tokens.project(hidden)  # [T, V]: the plain products with the table
CAP = model.config.final_logit_softcapping


def squeeze(scores: Tensor) -> Tensor:
    """Gemma's last soft-cap: between -30 and 30."""
    return CAP * torch.tanh(scores / CAP)


at = row.mask.index(True) - 1  # the last token before the model's turn
target = row.ids[at + 1]
powers = squeeze(scores[at]).exp()
chances = powers / powers.sum()
print("it has read …", repr(tokenizer.decode(row.ids[at - 12 : at + 1])))
for id_ in dict.fromkeys([*chances.topk(4).indices.tolist(), target]):
    print(f"   {chances[id_]:.4f}  {tokenizer.decode([id_])!r}{'   <- this comes' if id_ == target else ''}")
print(f"loss {-chances[target].log():.4f}; a blind guess costs {math.log(len(chances)):.2f}")

# %% [markdown]
# A blind guess among $V$ ids costs $\log V$. A loss far above that, at the start of a training, says that something is
# wired wrongly.
#
# Raising $e$ to a score overflows when the score is large. As only differences between scores matter, one
# subtracts the largest first; then no power exceeds 1. Gemma's soft-cap keeps scores under 30 anyway, other models
# have none.

# %%
large = torch.tensor([1000.0, 999.0])
print("plainly:", large.exp() / large.exp().sum(), "  largest subtracted:", (large - large.max()).softmax(0))
assert CAP == 30


def losses(scores: Tensor, targets: Tensor) -> Tensor:
    """-log p(target) for each position."""
    capped = squeeze(scores)
    capped = capped - capped.max(-1, keepdim=True).values
    return capped.exp().sum(-1).log() - capped[torch.arange(len(targets)), targets]


assert torch.allclose(losses(scores[at : at + 1], torch.tensor([target])), -chances[target].log(), atol=1e-5)

# %% [markdown]
# ## The cap belongs to the loss
#
# The soft-cap is the last thing the model does, and the loss must see it. Without it the model would be trained as
# another model than the one that answers: the losses differ, and so do the gradients. With it, the slope of the loss
# towards a score is worth writing down, as we shall need it: $p$, less 1 at the target, times the slope of the cap,
# $1 - \tanh^2$.

# %%
targets = torch.tensor(row.ids[1:])
learned = torch.tensor(row.mask[1:])  # is the token that *follows* one to learn from?
free = scores[:-1][learned].clone().requires_grad_()
losses(free, targets[learned]).sum().backward()

with torch.no_grad():
    capped = squeeze(free)
    slope = capped.softmax(-1)
    slope[torch.arange(len(slope)), targets[learned]] -= 1
    slope *= 1 - (capped / CAP) ** 2
assert torch.allclose(slope, free.grad, atol=1e-6)

without = F.cross_entropy(free.detach(), targets[learned])
print(f"largest score {scores.abs().max():.1f}, capped {squeeze(scores).abs().max():.1f}")
print(f"mean loss with the cap {losses(free, targets[learned]).mean():.4f}, without {without:.4f}")
if EMBEDDED:
    assert abs(without - losses(free, targets[learned]).mean()) > 1e-3

# %% [markdown]
# ## Which positions count
#
# The loss of a conversation is the mean over positions. Two things decide which. Position $t$ is asked for token
# $t + 1$: the targets are *shifted* by one. And only what the model itself should say is learned from: **supervised**
# positions, by the mask of lesson 10. What a user types need not be predicted by anyone.

# %%
every = losses(scores[:-1], targets)
right = every[learned].mean()
unshifted = losses(scores[:-1], torch.tensor(row.ids[:-1])).mean()
print(f"supervised positions {right:.3f}; all positions {every.mean():.3f}; not shifted {unshifted:.2f}")
assert unshifted > math.log(len(chances))  # "say again what you have just read": worse than a blind guess
if EMBEDDED:
    assert right < every.mean()

# %% [markdown]
# A mean hides much. The same turn, token by token: where does it hurt?

# %%
loss, names = every[learned], [tokenizer.decode([id_]).replace("\n", "\\n") for id_ in targets[learned].tolist()]
worst = loss.topk(8)
print(f"{worst.values.sum() / loss.sum():.0%} of the loss of {len(loss)} tokens is at", end=" ")
print([names[i] for i in worst.indices])
figure, axis = plt.subplots(figsize=(11, 3.4))
axis.bar(range(len(loss)), loss, width=0.9, color="tab:orange", label="untaught")
for i in worst.indices.tolist():
    axis.text(i, loss[i] + 0.4, names[i], rotation=90, ha="center", fontsize=8)
if EMBEDDED:
    taught = minifc.load_model(MODEL, dtype=torch.float32)
    minifc.load_adapter(taught, minifc.load_tokenizer(MODEL), CALLER)
    with torch.no_grad():
        after = taught.model.embed_tokens.project(taught.hidden(torch.tensor([row.ids]))[0, :-1])
    after = losses(after, targets)[learned]
    axis.plot(range(len(loss)), after, color="tab:blue", label="taught (weights/tiny-caller)")
    print(f"mean loss of the taught model {after.mean():.4f}")
    assert after.mean() < loss.mean() / 10
axis.axhline(math.log(len(chances)), color="tab:gray", linestyle="--", linewidth=1, label="blind guess")
axis.set_ylim(0, 40)
axis.set_xlabel("supervised token of the row")
axis.set_ylabel("loss in nats")
axis.legend(loc="upper right", ncols=3)
show(
    figure,
    "12-tokens",
    alt="Loss over the supervised tokens of a row. The untaught model's is close to zero nearly everywhere and very "
    "high at a few places, most of them tags or beside tags. The taught model's stays close to zero.",
)

# %% [markdown]
# It is the picture of lesson 7, seen from the training: the untaught model can do most of this turn already, and what
# it lacks is the *form*. A fine-tune need not teach everything, only what is missing.
#
# ## What it costs
#
# The scores are a matrix of $T \times V$ numbers. Here that is nothing. For the course's rows it is not:

# %%
ROW, PIECES = 1500, 256_008  # the course's row, and gemma-2-2b's vocabulary with eight new tokens
copy = ROW * PIECES * 4
print(f"{ROW} x {PIECES:,} numbers in fp32: {copy:,} bytes, {copy / 1e9:.2f} GB; the bf16 model itself has 5.23 GB")
assert f"{copy / 1e9:.2f}" == "1.54"

# %% [markdown]
# And one copy is not all. PyTorch *keeps* what it will need for the gradients until the way back has come to it. How
# much, it can be asked: it lets us wrap each tensor that it keeps, and the wrapper notices when it is let go.

# %%
table = model.model.embed_tokens.table().detach()  # [V, E], new rows included
V = len(table)
held: Counter[tuple[int, int]] = Counter()  # (address, size) of what is kept now: one tensor may be kept twice
most = 0


class Kept:
    """A tensor that PyTorch keeps; those as wide as the vocabulary are counted, but for the table itself."""

    def __init__(self, tensor: Tensor) -> None:
        global most
        self.tensor, self.key = tensor, (tensor.data_ptr(), tensor.numel())
        self.counted = int(tensor.shape[-1:] == (V,) and tensor.data_ptr() != table.data_ptr())
        held[self.key] += self.counted
        most = max(most, numbers_held())

    def __del__(self) -> None:
        held[self.key] -= self.counted


def numbers_held() -> int:
    return sum(size for (_, size), times in held.items() if times)


def watched(compute) -> tuple[Tensor, int, int]:
    """What a computation returns; how many numbers are kept for it at its end; and the most during it."""
    global most
    held.clear()
    most = 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        return compute(), numbers_held(), most


def loss_of(hidden: Tensor, targets: Tensor) -> Tensor:
    """The sum over positions, plainly."""
    return F.cross_entropy(squeeze(F.linear(hidden, table)), targets, reduction="sum")


wanted = targets[learned]
states = hidden[:-1].requires_grad_()
_, everywhere, _ = watched(lambda: loss_of(states, targets))
states = states.detach()[learned].requires_grad_()
plain, only_learned, _ = watched(lambda: loss_of(states, wanted))
print(f"kept for all positions:        {everywhere:,} numbers, {everywhere / (len(targets) * V):.0f} x T x V")
print(f"kept for the supervised ones:  {only_learned:,} numbers")
print(f"at 2b, for all positions: {everywhere / (len(targets) * V) * copy / 1e9:.1f} GB, and gradients of that size")
assert everywhere == 2 * len(targets) * V
assert only_learned == 2 * len(wanted) * V
(plain_gradient,) = torch.autograd.grad(plain, states)

# %% [markdown]
# So the first saving is free: positions that are not learned from need no scores at all. The second is to go through
# the others in **chunks**, a few positions at a time. It looks as if that were enough. It is not:

# %%
CHUNK = 8


def in_chunks(hidden: Tensor, targets: Tensor) -> Tensor:
    return sum(loss_of(h, t) for h, t in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True))


chunked, kept, _ = watched(lambda: in_chunks(states, wanted))
assert torch.allclose(chunked, plain, rtol=1e-5)
print(f"chunks alone keep {kept:,} numbers, as many as before")
assert kept == only_learned

# %% [markdown]
# Each chunk's scores stay, waiting for the way back. They must be thrown away and computed a second time when they are
# needed. That is called **checkpointing** ([Chen et al. 2016](https://arxiv.org/abs/1604.06174)), which has nothing to
# do with the files of lesson 5: it pays time for memory.


# %%
def in_checkpointed_chunks(hidden: Tensor, targets: Tensor) -> Tensor:
    parts = zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True)
    return sum(checkpoint(loss_of, h, t, use_reentrant=False) for h, t in parts)


again, kept, _ = watched(lambda: in_checkpointed_chunks(states, wanted))
(gradient,) = torch.autograd.grad(again, states)
print(f"checkpointed chunks keep {kept:,} numbers")
assert kept == 0
assert torch.allclose(gradient, plain_gradient, atol=1e-5)

# %% [markdown]
# One can do better still. The loss is the last step, so what comes after it, a division, can change its gradient by a
# common factor only. Hence we can compute the gradient on the way *forward*, with the formula from above, while a
# chunk's scores are there, and nothing is computed twice. What is left over is one vector per position. If the table
# learns too (here the new tokens' rows do), it gets its part from each chunk.


# %%
def by_hand(hidden: Tensor, targets: Tensor, new: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, its gradient for the hidden states, and for the table's rows `new`."""
    loss, gradient = torch.zeros(()), torch.empty_like(hidden)
    rows = torch.zeros(len(new), hidden.shape[1])
    for start in range(0, len(hidden), CHUNK):
        part = slice(start, start + CHUNK)
        capped = squeeze(hidden[part] @ table.T)
        slope = capped.softmax(-1)
        own = torch.arange(len(slope)), targets[part]
        loss -= slope[own].log().sum()
        slope[own] -= 1
        slope *= 1 - (capped / CAP) ** 2
        gradient[part] = slope @ table
        rows += slope[:, new].T @ hidden[part]
    return loss, gradient, rows


vocabulary = model.model.embed_tokens
with torch.no_grad():
    loss, gradient, row_gradient = by_hand(states, wanted, list(vocabulary.ids))
assert torch.allclose(loss, plain, rtol=1e-5)
assert torch.allclose(gradient, plain_gradient, atol=1e-5)
rows_at_once = package.CHUNK_ELEMENTS // PIECES
print(f"the package holds {package.CHUNK_ELEMENTS:,} scores at once: at 2b {rows_at_once} positions instead of {ROW}")
print(f"{package.CHUNK_ELEMENTS * 4 / 1e6:.0f} MB instead of {copy / 1e6:,.0f}")

# %% [markdown]
# ## Many batches, one step
#
# A batch that does not fit is cut into *micro-batches*. Their gradients are added up, and then the optimiser makes
# one step: **gradient accumulation**. It should come to the same as the large batch. Take the two most unequal of
# our conversations, one with few supervised tokens and one with many, and compare two ways.

# %%
by_length = sorted(examples, key=lambda example: sum(example.mask))
pair = [by_length[0], by_length[-1]]
counts = [sum(example.mask) for example in pair]


def sum_of(example) -> Tensor:
    """The summed loss of a conversation, through the whole model."""
    follows, mask = torch.tensor(example.ids[1:]), torch.tensor(example.mask[1:])
    return F.cross_entropy(model(torch.tensor([example.ids]))[0, :-1][mask], follows[mask], reduction="sum")


def gradient_of(parts: list[Tensor]) -> Tensor:
    """The gradients of all trained numbers, end to end, added up over the parts."""
    model.zero_grad()
    for part in parts:
        part.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


large = gradient_of([(sum_of(pair[0]) + sum_of(pair[1])) / sum(counts)])  # both at once
naive = gradient_of([sum_of(example) / count / 2 for example, count in zip(pair, counts, strict=True)])
exact = gradient_of([sum_of(example) / sum(counts) for example in pair])


def off(gradient: Tensor) -> float:
    return float((gradient - large).norm() / large.norm())


print(f"{counts[0]} and {counts[1]} supervised tokens")
print(f"mean of the two means: off by {off(naive):.0%}; each sum divided by the whole number: off by {off(exact):.0e}")
assert off(exact) < 1e-4 < 0.1 < off(naive)

# %% [markdown]
# A mean of means weighs a token by the company it keeps: each token of the short conversation counted many times as
# much as one of the long. So a micro-batch must deliver its *sum*, and whoever makes the step divides by the number of
# all supervised tokens in it. It sounds like a detail; the most widely used training code had it wrong for years
# ([transformers #34191](https://github.com/huggingface/transformers/pull/34191)).
#
# ## The package's own
#
# [`minifc/tuning/loss.py`](../minifc/tuning/loss.py) takes each chunk's gradient on the way forward, as `by_hand` does,
# but lets PyTorch derive the formula, so that it stays right whatever the vocabulary is made of. We set its chunks as
# small as ours for a moment, for here it would never need more than one.

# %%
usual, package.CHUNK_ELEMENTS = package.CHUNK_ELEMENTS, CHUNK * V
theirs, kept, once = watched(lambda: package.cross_entropy(model, states, wanted))
gradients = torch.autograd.grad(theirs, [states, vocabulary.rows])
assert kept == 0 < once <= 2 * CHUNK * V
assert torch.allclose(theirs, plain, rtol=1e-5)
assert torch.allclose(gradients[0], plain_gradient, atol=1e-5)
assert torch.allclose(gradients[1], row_gradient, atol=1e-4)

batches = list(pack(pair, rows=1, length=len(pair[1].ids)))  # and through the whole model
packed = gradient_of([package.batch_loss(model, batch) / sum(counts) for batch in batches])
package.CHUNK_ELEMENTS = usual
print(f"kept at its end {kept}, at most {once:,} on the way; a plain loss {only_learned:,}")
print(
    f"loss {theirs / len(wanted):.4f} as ours; gradient of all {len(packed):,} trained numbers off by {off(packed):.0e}"
)
assert off(packed) < 1e-4

# %% [markdown]
# **Exercises** (`lessons/exercises/12_loss.py`, then `python -m lessons.check 12`): the loss of one position; the mean
# over the right positions; a step's gradient from micro-batches.
#
# **Next:** with a number to bring down, we train.
