# %% [markdown]
# # 13. Training
#
# *How does a model learn from examples, and how do we notice when it does not?*
#
# Everything is at hand: a model that can read and chat but has never seen a tool, eight new tokens, small matrices
# that may change, conversations with a mask, and a loss. What is missing is the loop that turns the loss into changes.
# We build it, try it on a single row first, and then teach the model in a hundred steps to call tools that it
# has never seen.

# %%
import math
import random

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from lesson import EMBEDDED, MODEL, show
from torch import Tensor, nn

import minifc
from minifc.data import IGNORED, Batch, Conversation, Example, make_examples, pack, toy
from minifc.errors import DataError
from minifc.text.calls import TAGS
from minifc.tuning import loop as package


def fresh(dropout: float = 0.05, seed: int = 0):
    """The untaught model, with new tokens (lesson 9) and LoRA (lesson 11), and its tokenizer."""
    model, tokenizer = minifc.load_model(MODEL, dtype=torch.float32), minifc.load_tokenizer(MODEL)
    minifc.add_tokens(model, tokenizer, TAGS)
    torch.manual_seed(seed)
    minifc.add_lora(model, r=16, alpha=32, dropout=dropout)
    return model, tokenizer


model, tokenizer = fresh()
trained = [p for p in model.parameters() if p.requires_grad]
print(f"{sum(p.numel() for p in trained):,} numbers to train, in {len(trained)} matrices")

# %% [markdown]
# ## One number, one step
#
# The **gradient** of the loss says for each number which way is uphill, and how steep it is. The plainest step goes
# downhill by the gradient times a small **learning rate**. Its trouble is that slopes differ by thousands between
# parts of a model, and one learning rate must serve all of them.
#
# **AdamW** ([Kingma and Ba 2014](https://arxiv.org/abs/1412.6980),
# [Loshchilov and Hutter 2017](https://arxiv.org/abs/1711.05101)) keeps two numbers for each trained one: a running
# mean $m$ of its gradients, and one $v$ of their squares. In each step $m$ keeps 0.9 of itself and $v$ 0.999, and the
# rest is new. It then steps by $m / \sqrt{v}$: where gradients agree, that is about 1 however steep it is; where they
# contradict each other, little. Both means start at zero, so in step $t$ they are too small, by $1 - 0.9^t$ and
# $1 - 0.999^t$; dividing makes up for it. *Weight decay* pulls each number towards zero, by itself and not through the
# gradient; that is the W.


# %%
class AdamW:
    """The optimiser, number by number."""

    def __init__(self, parameters: list[Tensor], decay: float = 0.0) -> None:
        self.parameters, self.decay, self.steps = parameters, decay, 0
        self.m = [torch.zeros_like(p) for p in parameters]
        self.v = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        self.steps += 1
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            m += 0.1 * (p.grad - m)
            v += 0.001 * (p.grad**2 - v)
            p -= rate * self.decay * p
            p -= rate * (m / (1 - 0.9**self.steps)) / ((v / (1 - 0.999**self.steps)).sqrt() + 1e-8)
            p.grad = None


for slope in (1000.0, 1.0, 0.001):
    p = torch.tensor(5.0, requires_grad=True)
    (slope * p).backward()
    AdamW([p]).step(rate=0.01)
    print(f"slope {slope:8}: the first step goes from 5 to {p.item():.4f}")
    assert abs(p.item() - 4.99) < 1e-4  # as far as the learning rate says

ours, theirs = torch.tensor([3.0, -2.0], requires_grad=True), torch.tensor([3.0, -2.0], requires_grad=True)
mine, torchs = AdamW([ours], decay=0.1), torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.1)
for _ in range(60):
    for p in (ours, theirs):
        (p**4).sum().backward()
    mine.step(0.05)
    torchs.step()
    torchs.zero_grad()
print("60 steps down p⁴, ours and torch's:", ours.tolist(), theirs.tolist())
assert torch.allclose(ours, theirs, atol=1e-5)

# %% [markdown]
# ## How fast
#
# The learning rate is not the same all the time. In the first steps $v$ rests on few gradients, so the rate rises from
# nearly 0: **warm-up**. At the end one wants to settle: it falls along a half **cosine**. And one odd batch with a huge
# gradient would fill $m$ for some ten steps and $v$ for a thousand. So a gradient that is too long is **clipped**: all
# of it is made shorter, to length 1, without changing its direction.


# %%
def schedule(step: int, steps: int) -> float:
    """The share of the learning rate in step 0 .. steps - 1: a tenth of them is warm-up."""
    warm = math.ceil(steps / 10)
    if step < warm:
        return (step + 1) / warm
    return (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def clip(parameters: list[Tensor], longest: float = 1.0) -> float:
    """Shorten the gradient, taken as one long vector. Returns how long it was."""
    length = math.sqrt(sum(float(p.grad.square().sum()) for p in parameters))
    for p in parameters:
        p.grad *= min(1.0, longest / (length + 1e-6))
    return length


assert all(abs(schedule(s, 80) - package.schedule(s, 80, 0.1)) < 1e-9 for s in range(80))
p, q = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
p.grad, q.grad = torch.tensor([3.0, 0.0, 4.0]), torch.tensor([3.0, 0.0, 4.0])
print("length", clip([p]), "->", p.grad.tolist())
nn.utils.clip_grad_norm_([q], 1.0)
assert torch.allclose(p.grad, q.grad)


# %% [markdown]
# ## The loop
#
# A step: the loss of each micro-batch, as a sum (lesson 12); backward; clip; move. That is all of it.


# %%
def sum_of_losses(model, batch: Batch) -> Tensor:
    states = model.hidden(batch.ids, documents=batch.documents)
    learned = batch.targets != IGNORED
    return F.cross_entropy(model.logits(states[learned]), batch.targets[learned], reduction="sum")


def train(model, groups: list[list[Batch]], rate: float) -> list[float]:
    """An optimiser step for each group of micro-batches. Returns the loss before each."""
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = AdamW(parameters), []
    for step, group in enumerate(groups):
        count = sum(batch.supervised for batch in group)
        loss = 0.0
        for batch in group:
            part = sum_of_losses(model, batch) / count
            part.backward()
            loss += part.item()
        clip(parameters)
        optimizer.step(rate * schedule(step, len(groups)))
        losses.append(loss)
    model.eval()
    return losses


# %% [markdown]
# ## First, one row
#
# Before hours of training, a minute of proof: can the model learn *one* row by heart? If it cannot, something is
# broken: the mask, the template, the learning rate. If it can, the loss goes to nearly zero and the model, asked the
# row's question, says the row's answer.

# %%
case = next(c for c in toy.training_cases(50, seed=0) if c.fits[0])
question, answer = case.messages()[:2]


def example_of(tokenizer) -> Example:
    (example,) = make_examples([Conversation([question, answer], case.tools)], tokenizer, "gemma", 2048).fitting
    return example


def says(model, tokenizer) -> str:
    prompt = minifc.render([question], tokenizer, case.tools, format="gemma", add_generation_prompt=True)
    (reply,) = minifc.generate(model, prompt.ids, max_new_tokens=150)
    return tokenizer.decode(reply)


example = example_of(tokenizer)
wanted = tokenizer.decode([i for i, learned in zip(example.ids, example.mask, strict=True) if learned])
wanted = wanted.removesuffix("<end_of_turn>")  # generate stops there and leaves it out
print("asked: ", question["content"])
print("before:", repr(says(model, tokenizer)))


def by_heart(example: Example, steps: int = 40, rate: float = 5e-3) -> tuple[list[float], str]:
    """Train a fresh model on one row alone: the losses, and what it then says."""
    model, tokenizer = fresh(dropout=0.0)
    (batch,) = pack([example], rows=1, length=len(example.ids))
    return train(model, [[batch]] * steps, rate), says(model, tokenizer)


losses, said = by_heart(example)
print("after: ", repr(said))
print(f"loss {losses[0]:.2f} -> {losses[-1]:.4f}")
if EMBEDDED:
    assert losses[-1] < 0.05
    assert said == wanted

# %% [markdown]
# ## What goes wrong
#
# The row by heart is also the place to see what the usual mistakes look like. First, a mask that is empty, because a
# template has changed or a conversation was cut: there is nothing to learn from, the sum is 0, its gradient is 0,
# and the mean is 0 divided by 0. Nothing complains, unless somebody looks. The package refuses such a row by name.

# %%
(empty,) = pack([Example(example.ids, [False] * len(example.ids))], rows=1, length=len(example.ids))
nothing = sum_of_losses(model, empty)
print(f"supervised {empty.supervised}, sum {nothing.item()}, mean {(nothing / empty.supervised).item()}")
assert nothing.item() == 0
try:
    make_examples([Conversation([question], source="my.jsonl, row 17")], tokenizer, "gemma", 2048)
except DataError as error:
    print("make_examples:", error)
else:
    raise AssertionError("a row with nothing to learn from went through")

# %% [markdown]
# Second, everything is learned but the end. The mask leaves out the last `<end_of_turn>`, or the padding has the same
# id as the end and is ignored with it. The loss looks as good as before. But the model has never been told to stop:

# %%
end = tokenizer.control["<end_of_turn>"]
mask = [learned and id_ != end for id_, learned in zip(example.ids, example.mask, strict=True)]
endless = Example(example.ids, mask)
losses, said = by_heart(endless)
print(f"loss {losses[-1]:.4f}; it says …{said[-90:]!r}")
if EMBEDDED:
    assert losses[-1] < 0.05
    assert said.startswith(wanted)
    assert len(said) > len(wanted)

# %% [markdown]
# Third, a learning rate that is too high. With AdamW each number moves by about the rate, whatever the slope, so a rate
# a hundred times too high throws all of them out of their range at once:

# %%
high, _ = by_heart(example, steps=8, rate=0.4)
print("loss at a rate of 0.4: ", " ".join(f"{loss:.2f}" for loss in high))
if EMBEDDED:
    assert high[-1] > high[0]

# %% [markdown]
# ## Then, train
#
# A hundred steps, each with a batch of one row of 448 tokens, into which whole conversations are packed; each batch is
# new. The order is drawn from a seed.

# %%
STEPS, LENGTH, RATE, SEED = 100, 448, 4e-3, 0
model, tokenizer = fresh(seed=SEED)
cases = [c for c in toy.training_cases(1500, seed=0) if len(c.requests) == 1]
rows = make_examples([Conversation(c.messages(), c.tools) for c in cases], tokenizer, "gemma", LENGTH).fitting
kept, rows = rows[:10], rows[10:]  # never trained on


def in_order(examples: list[Example], seed: int, steps: int, accumulation: int = 1) -> list[list[Batch]]:
    """The batches of each step: shuffled, packed, grouped."""
    order = list(range(len(examples)))
    random.Random(f"{seed} 0").shuffle(order)
    batches = list(pack((examples[i] for i in order), rows=1, length=LENGTH))
    return [batches[s * accumulation : (s + 1) * accumulation] for s in range(steps)]


def evaluate(model) -> float:
    """Mean loss per supervised token of the rows that were kept."""
    batches = list(pack(kept, rows=1, length=LENGTH))
    with torch.no_grad():
        return sum(float(sum_of_losses(model, b)) for b in batches) / sum(b.supervised for b in batches)


held_out = toy.held_out_cases(12, seed=13)  # tools and details made of words that no training text has


def render(messages, case, add_generation_prompt=False):
    return minifc.render(messages, tokenizer, case.tools, "gemma", add_generation_prompt)


def exam(model) -> list[tuple[str, str]]:
    """(what it should say, what it says) to each held-out request."""
    asked = [c.messages()[:1] for c in held_out]
    prompts = [render(m, c, add_generation_prompt=True).ids for m, c in zip(asked, held_out, strict=True)]
    whole = [render(c.messages()[:2], c) for c in held_out]
    right = [tokenizer.decode([i for i, m in zip(w.ids, w.mask, strict=True) if m][:-1]) for w in whole]
    return list(zip(right, map(tokenizer.decode, minifc.generate(model, prompts, max_new_tokens=256)), strict=True))


before, loss_before = exam(model), evaluate(model)
groups = in_order(rows, SEED, STEPS)
losses = train(model, groups, RATE)
after, loss_after = exam(model), evaluate(model)
print(f"{len(rows)} rows, {sum(batch.supervised for group in groups for batch in group):,} supervised tokens seen")
print(f"loss on kept rows {loss_before:.2f} -> {loss_after:.3f}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), width_ratios=(1, 2))
left.plot([RATE * schedule(s, STEPS) for s in range(STEPS)], color="tab:green")
left.set_xlabel("step")
left.set_ylabel("learning rate")
right.semilogy(losses, color="tab:orange", alpha=0.5, linewidth=1, label="of each step")
smooth = [sum(losses[max(0, s - 9) : s + 1]) / len(losses[max(0, s - 9) : s + 1]) for s in range(STEPS)]
right.semilogy(smooth, color="tab:orange", linewidth=2, label="mean of ten steps")
right.semilogy([0, STEPS], [loss_before, loss_after], "o", color="tab:blue", label="kept rows, before and after")
right.set_xlabel("step")
right.set_ylabel("loss in nats per token")
right.legend()
show(
    figure,
    "13-loss",
    alt="Left: the learning rate rises over ten steps and falls along a cosine. Right: the loss on a logarithmic "
    "scale falls from about two to a few hundredths, steeply in the first half; the kept rows end a little below.",
)

# %% [markdown]
# The loss of a step is the loss *before* the step, on rows that it has not seen yet, so here it is honest by itself.
# One pass over all rows is called an **epoch**. In a second one it would not be honest: there the kept rows show
# whether the model learns the skill or the rows.
#
# And the requests? Half of them have their tool: there we compare word for word with what the model should say, thought
# included, which is stricter than anybody needs. For the other half no tool fits, and it must not call. Lesson 17
# does all this properly.


# %%
def score(answers: list[tuple[str, str]]) -> tuple[int, int]:
    """Of the requests that have a tool, how many are answered word for word; of the others, how many are called."""
    halves = answers[: len(answers) // 2], answers[len(answers) // 2 :]
    return sum(right == said for right, said in halves[0]), sum("<tool_call>" in said for _, said in halves[1])


half = len(held_out) // 2
for name, answers in (("before", before), ("after", after)):
    right, wrong = score(answers)
    print(f"{name:6}: {right} of {half} calls right; {wrong} of {half} called where no tool fits")
for i in (0, half):
    print("\nasked: ", held_out[i].messages()[0]["content"], "\nbefore:", before[i][1][-150:], "\nafter: ", after[i][1])
if EMBEDDED:
    assert score(before) == (0, 0)
    assert score(after)[0] >= half / 2
    assert score(after)[1] <= 1
    assert loss_after < loss_before / 10

# %% [markdown]
# So a skill that was not there at all came with a hundred steps and a third of a million numbers: what the loss of
# lesson 12 was about, the form, is there. What is left are slips, in copying and in choosing. The trained adapter in
# `weights/tiny-caller` comes from more than three times as many steps, with four times as many tokens in each, on
# conversations of up to three requests; README tells how well it does.
#
# ## Twice the same
#
# Three things are random: where LoRA starts, the order of the rows, and dropout. All follow from the seed. So on one
# machine the same run gives the same losses, not nearly, but exactly; another seed gives others. Without that, one
# cannot tell whether a change of the code changed anything.


# %%
def short_run(seed: int) -> list[float]:
    model, _ = fresh(seed=seed)
    return train(model, in_order(rows, seed, 3), RATE)


first, second, other = short_run(1), short_run(1), short_run(2)
print("seed 1:", first, "\nagain: ", second, "\nseed 2:", other)
assert first == second
assert first != other

# %% [markdown]
# ## The package's own
#
# [`minifc/tuning/loop.py`](../minifc/tuning/loop.py) adds what long runs need: evaluation, logs, states saved so that
# an interrupted run goes on bit for bit, gradient checkpointing (lesson 19), 16-bit numbers where one asks for them; it
# stops at a loss that is not finite.
# On the same rows from the same seed it makes the same steps, with two micro-batches in each, as long as it fills rows
# as we do (`look_ahead`, lesson 10).

# %%
ours = fresh(seed=SEED)[0]
mine = train(ours, in_order(rows, SEED, 3, accumulation=2), RATE)

theirs = fresh(seed=SEED)[0]
records: list[dict] = []
config = package.LoopConfig(
    max_steps=3, rows=1, length=LENGTH, look_ahead=1, accumulation=2, learning_rate=RATE, seed=SEED
)
package.train(theirs, rows, config, log=records.append, progress=False)
packaged = [record["loss"] for record in records]
print("ours:     ", [round(loss, 5) for loss in mine])
print("package's:", [round(loss, 5) for loss in packaged])
assert max(abs(a - b) for a, b in zip(mine, packaged, strict=True)) < 1e-3

# %% [markdown]
# **Exercises** (`lessons/exercises/13_training.py`, then `python -m lessons.check 13`): a step of AdamW; the learning
# rate; clipping.
#
# **Next:** the model writes calls. Now somebody must read them.
