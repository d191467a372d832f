# %% [markdown]
# # 11. LoRA
#
# *How little of a model must change for it to learn something new?*
#
# We have data: conversations as ids, with a mask that says which tokens to learn from. Now the model must change. The
# obvious way is to let every weight change; that is called **full fine-tuning**. It works, and it is expensive: for
# each weight, training keeps a gradient besides, which says how the loss changes with it, and two numbers of the
# optimiser's, which makes the steps (both are for lesson 13). And what comes out is a second model as large as the
# first.
#
# **LoRA**, *low-rank adaptation* ([Hu et al. 2021](https://arxiv.org/abs/2106.09685)), rests on a guess: a model that
# knows a lot already needs only a *simple* change. In this lesson we first look at whether that is so, then build the
# small change by hand.

# %%
import math

import matplotlib.pyplot as plt
import torch
from lesson import CALLER, EMBEDDED, MODEL, show
from torch import Tensor, nn

import minifc
from minifc.data import Conversation, make_examples, pack, toy
from minifc.text.calls import TAGS
from minifc.tuning.lora import lora_layers, merge_lora, unmerge_lora
from minifc.tuning.loss import batch_loss

torch.manual_seed(0)


def fresh():
    """The untaught model with the eight new tokens of lesson 9, and its tokenizer."""
    model, tokenizer = minifc.load_model(MODEL, dtype=torch.float32), minifc.load_tokenizer(MODEL)
    minifc.add_tokens(model, tokenizer, TAGS)
    return model, tokenizer


model, tokenizer = fresh()
cases = [case for case in toy.training_cases(400, seed=0) if len(case.requests) == 1]
conversations = [Conversation(case.messages(), case.tools) for case in cases]
batches = list(pack(make_examples(conversations, tokenizer, "gemma", 448).fitting, rows=2, length=448))
learn, test = batches[:24], batches[-2:]
print(f"{len(learn)} batches to learn from, {len(test)} to test on")

# %% [markdown]
# ## Change whole matrices, and look at the change
#
# We give each linear layer of the model its freedom and take 24 steps. The measure of success is the *loss*: how
# surprised the model is, on average, by the right next token. The next lesson takes it apart, and the one after that
# the training; here both are only tools.


# %%
def loss_on(batches) -> float:
    """Mean loss per learned token."""
    with torch.no_grad():
        return sum(batch_loss(model, b).item() for b in batches) / sum(b.supervised for b in batches)


def take_steps(parameters: list[nn.Parameter], rate: float) -> None:
    """A step for each batch, the first three shorter, then ever shorter ones."""
    optimizer = torch.optim.AdamW(parameters, weight_decay=0)
    for step, batch in enumerate(learn):
        (batch_loss(model, batch) / batch.supervised).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 3) * (1 - step / len(learn))
        optimizer.step()
        optimizer.zero_grad()


linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
if not EMBEDDED:  # on a large model, the last block must do
    linear = dict(list(linear.items())[-7:])
start = {name: m.weight.detach().clone() for name, m in linear.items()}
model.requires_grad_(False)
free = [m.weight.requires_grad_() for m in linear.values()]

untaught = loss_on(test)
take_steps(free, rate=3e-4)
full = loss_on(test)
print(f"loss {untaught:.2f} before, {full:.2f} after {len(learn)} steps, {sum(p.numel() for p in free):,} numbers free")
assert full < untaught

# %% [markdown]
# The change of a matrix is a matrix too, $\Delta W = W_\text{after} - W_\text{before}$. Any matrix can be written as a
# sum of simple ones: a column times a row, times a number that says how much this pair contributes. With the pairs
# perpendicular to each other and in order of size, that is the *singular value decomposition*, and the numbers are the
# **singular values**. How many pairs it needs is the **rank** of the matrix. A sum of only the first $r$ pairs is
# the best copy that a matrix of rank $r$ can be.
#
# The squares of the singular values add up to the squares of all entries, so we can say what share of a change lies in
# its first pairs. A matrix of random numbers is there for comparison: its pairs grow smaller only slowly.


# %%
def share(values: Tensor, r: int) -> float:
    """How much of a matrix lies in its first r pairs, by the squares."""
    return float(values[:r].square().sum() / values.square().sum())


parts = {name: torch.linalg.svd(m.weight.detach() - start[name], full_matrices=False) for name, m in linear.items()}
shown = sorted(parts, key=lambda name: share(parts[name].S, 16))[len(parts) // 2]  # a middling one
values = parts[shown].S
noise = torch.linalg.svdvals(torch.randn_like(start[shown]))
noise = noise * values.norm() / noise.norm()  # as large a change, but with no order in it
for r in (1, 4, 16, 64):
    print(f"rank {r:3}: {share(values, r):.0%} of the change of {shown}, {share(noise, r):.0%} of a random one")
assert share(values, 16) > 2 * share(noise, 16)

# %% [markdown]
# The real change has a few directions that carry most of it. But does the *rest* matter? Ask the model: put back the
# old weights, add only the first $r$ pairs of each change, and measure the loss again.

# %%
RANKS = (0, 1, 2, 4, 8, 16, 32, 64)
kept = {}
with torch.no_grad():
    for r in RANKS:
        for name, (U, S, V) in parts.items():
            linear[name].weight.copy_(start[name] + (U[:, :r] * S[:r]) @ V[:r])
        kept[r] = loss_on(test)
gained = {r: (untaught - kept[r]) / (untaught - full) for r in RANKS}
print("  ".join(f"rank {r}: {loss:.2f} ({gained[r]:.0%})" for r, loss in kept.items()))
if EMBEDDED:
    assert gained[1] > 0.5  # one column times one row per matrix
    assert gained[16] > 0.9

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
left.semilogy(range(1, len(values) + 1), values, color="tab:blue", label="the change after training")
left.semilogy(range(1, len(noise) + 1), noise, color="tab:gray", linestyle="--", label="random, of equal size")
left.axvline(16, color="tab:red", linewidth=1)
left.text(18, float(values[0]) / 2, "LoRA's usual rank, 16", color="tab:red")
left.set_ylim(float(values[0]) / 500, float(values[0]) * 2)
left.set_xlabel("number of the pair")
left.set_ylabel("singular value")
left.set_title(shown.removeprefix("model."), fontsize=10)
left.legend(loc="lower left")
right.plot(range(len(RANKS)), list(kept.values()), "o-", color="tab:blue")
right.axhline(full, color="tab:green", linestyle="--", label="the whole change")
right.set_xticks(range(len(RANKS)), RANKS)
right.set_xlabel("pairs kept of each matrix's change")
right.set_ylabel("loss on unseen conversations")
right.set_title("what the first pairs are worth", fontsize=10)
right.legend()
show(
    figure,
    "11-rank",
    alt="Left: the singular values of a weight change fall steeply, to a quarter at the sixteenth, those of a random "
    "matrix slowly. Right: the loss falls from the untaught model's almost to that of the whole change as the first "
    "sixteen pairs are kept.",
)

# %% [markdown]
# So the guess holds here: one pair per matrix is worth more than half of what was learned, sixteen nearly all of it.
# (A short training on a narrow skill is a friendly case. The longer one trains, and on the more different things, the
# more pairs matter.)
#
# ## A change of rank r, from the start
#
# If a simple change is enough, why not learn one directly? Leave $W$ as it is and put beside it a product of two thin
# matrices, $A$ with $r$ rows and $B$ with $r$ columns:
#
# $$y = Wx + \frac{\alpha}{r}\,B A x$$
#
# $B A$ has the shape of $W$ but rank $r$ at most, and far fewer numbers: $r \cdot (\text{in} + \text{out})$ instead of
# $\text{in} \cdot \text{out}$. $A$ starts at random and $B$ at zero. The factor in front we come to in a moment, as to
# the *dropout*.


# %%
class Changed(nn.Module):
    """A linear layer that stays as it is, and a small change beside it."""

    def __init__(self, frozen: nn.Linear, r: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.frozen, self.scaling, self.dropout = frozen, alpha / r, dropout
        bound = 1 / math.sqrt(frozen.in_features)
        self.A = nn.Parameter(torch.empty(r, frozen.in_features).uniform_(-bound, bound))
        self.B = nn.Parameter(torch.zeros(frozen.out_features, r))

    def forward(self, x: Tensor) -> Tensor:
        y = self.frozen(x)
        if self.training and self.dropout:
            kept = torch.rand_like(x) >= self.dropout
            x = x * kept / (1 - self.dropout)
        return y + self.scaling * (x @ self.A.T @ self.B.T)


layer = Changed(nn.Linear(256, 768, bias=False), r=16, alpha=32)
small, large = layer.A.numel() + layer.B.numel(), layer.frozen.weight.numel()
print(f"A {list(layer.A.shape)}, B {list(layer.B.shape)}: {small:,} numbers beside {large:,}")
assert small == 16 * (256 + 768)

# %% [markdown]
# **Injecting** it is replacing an attribute: the model's code says `self.q_proj(x)` and does not ask what `q_proj` is.
# (The layers that get a change are called LoRA's *target modules*.)
# The forward pass of lesson 4 never learns that there is such a thing as LoRA. Then everything is **frozen**
# (`requires_grad=False`: no gradient, no optimiser) but $A$, $B$ and the rows of the new tokens.

# %%
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def inject(model: nn.Module, r: int, alpha: float, dropout: float = 0.0) -> None:
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if last in TARGETS:
            setattr(model.get_submodule(parent), last, Changed(module, r, alpha, dropout))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith((".A", ".B", ".rows")))


model, tokenizer = fresh()
ids = test[0].ids[:1, :200]
with torch.no_grad():
    before = model(ids)
torch.manual_seed(7)
inject(model, r=16, alpha=32)
with torch.no_grad():
    assert torch.equal(model(ids), before)  # not nearly: exactly
print("injected, and not one logit has moved")

# %% [markdown]
# That is what the zeros in $B$ are for: training starts from the model as it is, not from a disturbed one. But why is
# $A$ not zero too? Because of the gradients. The gradient of $B$ is made with $A$ in it, and that of $A$ with $B$. With
# both at zero, both gradients are zero, and the pair stands still for ever.


# %%
def gradients(model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    (batch_loss(model, learn[0]) / learn[0].supervised).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


grads = gradients(model)
A, B = (next(name for name in grads if name.endswith(end)) for end in (".A", ".B"))
print(f"B at 0:      |gradient of A| {grads[A].norm():.3f}   of B {grads[B].norm():.3f}")
assert grads[A].norm() == 0 < grads[B].norm()
assert not any("frozen" in name for name in grads)  # the old weights get none

number = model.get_parameter(A).detach().clone()
model.get_parameter(A).data.zero_()
grads = gradients(model)
print(f"both at 0:   |gradient of A| {grads[A].norm():.3f}   of B {grads[B].norm():.3f}")
assert grads[A].norm() == grads[B].norm() == 0
model.get_parameter(A).data.copy_(number)

# %% [markdown]
# Now the same 24 steps again, with only the small matrices and the new rows free. The learning rate, which says how far
# a step goes, may be higher: AdamW moves each number by about the rate (lesson 13), and what moves in $B$ reaches the
# weight only through $A$, whose numbers are small.

# %%
model.zero_grad()
free = [p for p in model.parameters() if p.requires_grad]
take_steps(free, rate=2e-3)
lora = loss_on(test)
count, whole = sum(p.numel() for p in free), sum(p.numel() for p in model.parameters())
print(f"all linear layers {full:.2f}; LoRA {lora:.2f}", end=", ")
print(f"with {count / (whole - count):.1%} as many numbers as the model has")
if EMBEDDED:
    assert lora < full

# %% [markdown]
# That it even comes out ahead says little: neither learning rate was chosen with care, and the rows of the new tokens
# learned here and stood still there. That it keeps up, with so few numbers, is the point.
#
# ## The factor in front
#
# $\alpha / r$ is there so that one can try another rank without choosing a new learning rate: a sum of more pairs
# is a larger change, and the division makes up for it. Does it? Take the gradient of one matrix, make the first step of
# $B$ from zero, and compute how far downhill it leads, for several ranks: once with a plain step along the gradient,
# once with a step as AdamW makes it at first, equally far for every number.

# %%
plain, _ = fresh()
weight = plain.model.layers[-1].mlp.up_proj.weight
gradient = torch.autograd.grad(batch_loss(plain, learn[0]) / learn[0].supervised, weight)[0]


def downhill(scale) -> dict[str, list[float]]:
    """What the first step is worth at ranks 4, 16 and 64, relative to rank 4."""
    worth: dict[str, list[float]] = {"plain": [], "AdamW": []}
    for r in (4, 16, 64):
        A = Changed(nn.Linear(weight.shape[1], weight.shape[0], bias=False), r, 1).A.detach()
        slope = scale(r) * gradient @ A.T  # the gradient of B
        worth["plain"].append(float((gradient * scale(r) * (slope @ A)).sum()))
        worth["AdamW"].append(float((gradient * scale(r) * (slope.sign() @ A)).sum()))
    return {way: [round(value / values[0], 2) for value in values] for way, values in worth.items()}


by_r, by_root = downhill(lambda r: 1 / r), downhill(lambda r: 1 / math.sqrt(r))
print("alpha / r:      ", by_r)
print("alpha / sqrt(r):", by_root)
assert by_r["plain"][-1] < 0.2 < 0.5 < by_root["plain"][-1] < 2
assert 0.5 < by_r["AdamW"][-1] < 2 < by_root["AdamW"][-1]

# %% [markdown]
# With plain steps, $\alpha / r$ punishes a high rank: its change hardly begins. $\alpha / \sqrt r$ keeps things nearly
# level, which is the argument of *rsLoRA* ([Kalajdzievski 2023](https://arxiv.org/abs/2312.03732); `--rslora` in
# training). With AdamW's first step it is the other way round. (One step does not tell how a long training goes: the
# paper trains for many and finds the root better at high ranks.) Whoever stays at one rank need not care, since there
# the two differ by a constant.
#
# **Dropout** (in `forward` above) sets a random few of the numbers that go into the change to zero, while training
# only, and makes the others larger, so that the sum stays the same on average. No single number can then be relied on
# too much. The frozen path always sees everything.

# %%
layer = Changed(nn.Linear(8, 8, bias=False), r=4, alpha=8, dropout=0.3).requires_grad_(False)
layer.B.normal_()
x = torch.randn(8)
often = torch.stack([layer.train()(x) for _ in range(20_000)])
print(f"one draw is off by {(often[0] - layer.eval()(x)).norm():.2f}, the mean of them by", end=" ")
print(f"{(often.mean(0) - layer(x)).norm():.3f}")
assert (often.mean(0) - layer(x)).norm() < 0.1 * (often[0] - layer(x)).norm()

# %% [markdown]
# ## Counting
#
# Here the counts of the embedded model, by the formula and by counting. Then those of gemma-2-2b, from the shapes of
# its layers. The course puts LoRA on the vocabulary's table as well, once for reading ids (`embed_tokens`) and once
# for writing them (`lm_head`), which makes nine kinds of layer.

# %%
shapes = [(m.in_features, m.out_features) for m in linear.values()]
if EMBEDDED:
    assert sum(16 * (i + o) for i, o in shapes) == sum(
        p.numel() for n, p in model.named_parameters() if n[-2:] in (".A", ".B")
    )
    print(f"embedded model: {sum(16 * (i + o) for i, o in shapes):,}")

LAYERS, HIDDEN, FFN, QUERIES, KEYS, VOCABULARY, NEW = 26, 2304, 9216, 8 * 256, 4 * 256, 256_000, 8
block = [(HIDDEN, QUERIES), (HIDDEN, KEYS), (HIDDEN, KEYS), (QUERIES, HIDDEN)]  # q, k, v, o
block += [(HIDDEN, FFN), (HIDDEN, FFN), (FFN, HIDDEN)]  # gate, up, down
seven = LAYERS * sum(16 * (i + o) for i, o in block)
nine = seven + 2 * 16 * (VOCABULARY + NEW + HIDDEN)
rows = NEW * HIDDEN
print(f"gemma-2-2b, r 16: seven kinds {seven:,}, with eight new rows {seven + rows:,}; the course's nine {nine:,}")
assert nine == 29_032_704

# %% [markdown]
# In fp32 the course's adapter should be a file of 116 MB. The published one has 2.48 GB. The difference is as large as
# two full copies of the table in bf16. That fits what PEFT does, the library that the course trains with: where LoRA
# goes around the table, the table itself is saved beside it, here once for reading and once for writing.

# %%
adapter = 4 * nine
tables = 2 * 2 * (VOCABULARY + NEW) * HIDDEN
print(f"{adapter / 1e6:.0f} MB of LoRA, {tables / 1e9:.2f} GB of tables: {(adapter + tables) / 1e9:.2f} GB")
assert f"{(adapter + tables) / 1e9:.2f}" == "2.48"

# %% [markdown]
# ## Merging
#
# $Wx + \frac{\alpha}{r} BAx = (W + \frac{\alpha}{r} BA)\,x$. So once trained, the change can be added to the
# weight, and the model is an ordinary one again that costs nothing extra. We do it to our trained layers by hand.

# %%
with torch.no_grad():
    beside = model(ids)
    for name, module in list(model.named_modules()):
        if isinstance(module, Changed):
            module.frozen.weight += module.scaling * module.B @ module.A
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.frozen)
    merged = model(ids)
print(f"largest logit {beside.abs().max():.1f}, largest difference {(merged - beside).abs().max():.1e}")
assert torch.allclose(merged, beside, atol=1e-4)

# %% [markdown]
# Two things to know. bf16 keeps only two to three digits, so add in fp32 and round once, at the end (lesson 18 measures
# what is lost). And subtracting the change again does *not* give the old weight back, because each sum was rounded;
# whoever wants to go on training must keep the old one. The trained adapter of the repository:

# %%
if EMBEDDED:
    taught, words = minifc.load_model(MODEL, dtype=torch.float32), minifc.load_tokenizer(MODEL)
    minifc.load_adapter(taught, words, CALLER)
    layer = dict(lora_layers(taught))["model.layers.0.mlp.up_proj"]
    W, (B, A) = layer.base_layer.weight.detach(), layer.factors()
    delta = layer.scaling * (B @ A).detach()
    assert torch.linalg.matrix_rank(delta) == layer.r == 16
    moved = ((W + delta) - delta != W).float().mean()
    print(f"weights that adding and subtracting leaves changed: {moved:.0%}")
    assert moved > 0

# %% [markdown]
# ## The package's own
#
# [`minifc/tuning/lora.py`](../minifc/tuning/lora.py) does what ours does, and also goes around the table; its names are
# PEFT's, so that adapters can be exchanged. From the same seed it draws the same $A$. With the same $B$ it gives the
# same logits and the same gradients; merged, the same again; unmerged, the old weights bit for bit.

# %%
ours, theirs = fresh()[0], fresh()[0]
torch.manual_seed(7)
inject(ours, r=16, alpha=32)
torch.manual_seed(7)
names = minifc.add_lora(theirs, r=16, alpha=32, dropout=0.0)
changed = {name: m for name, m in ours.named_modules() if isinstance(m, Changed)}
assert names == list(changed)
for name, packaged in lora_layers(theirs):
    assert torch.equal(packaged.lora_A.weight, changed[name].A)
    changed[name].B.data.normal_(std=0.01)
    packaged.lora_B.weight.data.copy_(changed[name].B)

trained = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (ours, theirs)]
assert trained[0] == trained[1]
with torch.no_grad():
    assert torch.allclose(ours(ids), theirs(ids), atol=1e-4)
grads, packaged_grads = gradients(ours), gradients(theirs)
for mine, own in ((".A", ".lora_A.weight"), (".B", ".lora_B.weight")):
    assert all(torch.allclose(grads[n + mine], packaged_grads[n + own], rtol=1e-3, atol=1e-5) for n in names)

with torch.no_grad():
    weights = {name: packaged.base_layer.weight.clone() for name, packaged in lora_layers(theirs)}
    merge_lora(theirs)
    assert torch.allclose(ours(ids), theirs(ids), atol=1e-4)
    unmerge_lora(theirs)
    assert all(torch.equal(packaged.base_layer.weight, weights[name]) for name, packaged in lora_layers(theirs))
    minifc.merge(theirs)  # for good, new rows included: an ordinary Gemma-2
    assert torch.allclose(ours(ids), theirs(ids), atol=1e-4)
    assert not list(lora_layers(theirs))
print(f"{len(names)} layers, {trained[0]:,} numbers to train: the same logits and gradients; merged, unmerged, folded")

# %% [markdown]
# **Exercises** (`lessons/exercises/11_lora.py`, then `python -m lessons.check 11`): what the change adds; the rank that
# a change needs; merging into bf16 with a single rounding.
#
# **Next:** the loss, and why asking for it plainly takes gigabytes.
