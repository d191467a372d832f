# %% [markdown]
# # 19. Scale
#
# *What changes when the model has billions of parameters, and runs on a GPU, or on many?*
#
# The code does not. The forward pass of the embedded model is that of gemma-2-27b, with other numbers in its
# configuration. What changes is what one has to *count* before one begins: bytes, because a GPU has few of them, and
# operations, because they are the bill.
#
# A word about honesty. Nothing of this project has been run on a GPU yet. What follows is arithmetic, checked where it
# can be checked on a CPU; times are ranges that follow from data sheets and an assumption, and none of them was
# measured.

# %%
import math

import matplotlib.pyplot as plt
import torch
from lesson import CALLER, EMBEDDED, MODEL, show
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import minifc
from minifc.data import Batch, Conversation, make_examples, pack, toy
from minifc.gemma.config import FULL, SLIDING, GemmaConfig
from minifc.gemma.model import Gemma
from minifc.tuning import loss as package
from minifc.tuning.loop import recompute
from minifc.tuning.lora import LoraLinear

# %% [markdown]
# ## Three sizes
#
# A configuration is enough to build a model without weights: on torch's *meta* device (lesson 5) a tensor has a shape
# and a type, but no memory behind it. So we can count, and even "run", a model that would never fit here.

# %%
FIGURES = {  # layers, hidden, heads, key/value heads, head_dim, ffn, query_pre_attn_scalar
    "2b": (26, 2304, 8, 4, 256, 9216, 256),
    "9b": (42, 3584, 16, 8, 256, 14336, 256),
    "27b": (46, 4608, 32, 16, 128, 36864, 144),
}


def config_of(name: str) -> GemmaConfig:
    layers, hidden, heads, kv_heads, head_dim, ffn, scalar = FIGURES[name]
    return GemmaConfig(
        vocab_size=256_000,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        query_pre_attn_scalar=scalar,
        sliding_window=4096,
        layer_types=tuple(FULL if i % 2 else SLIDING for i in range(layers)),
    )


def weightless(config: GemmaConfig) -> Gemma:
    with torch.device("meta"):
        return Gemma(config).bfloat16()


counts = {}
for name in FIGURES:
    config, model = config_of(name), weightless(config_of(name))
    table = config.vocab_size * config.hidden_size
    counts[name] = sum(p.numel() for p in model.parameters())
    print(f"{name:>4}: {counts[name]:,} parameters, {table / counts[name]:.0%} of them in the table")
assert counts["2b"] == 2_614_341_888

# %% [markdown]
# ## Bytes, to hold it and to train it
#
# A weight in bf16 has 2 bytes. To *train* it with AdamW one needs beside it a gradient and the two running means of
# lesson 13, and a copy in fp32, because bf16 has too few digits to take up small steps:

# %%
print("1 + 0.003 in bf16 is", (torch.tensor(1.0).bfloat16() + 0.003).item())
assert torch.tensor(1.0).bfloat16() + 0.003 == 1

FULL_BYTES = 2 + 2 + 4 + 4 + 4  # bf16 weight and gradient; fp32 copy, m and v
LORA_BYTES = 4 + 4 + 4 + 4  # fp32 weight, gradient, m and v, but of the small matrices only


def lora_count(config: GemmaConfig, r: int = 16, new: int = 8) -> int:
    """Trained numbers: LoRA on the seven linear layers of each block, and the new rows."""
    with torch.device("meta"):
        block = Gemma(config).model.layers[0]
    linear = [m for m in block.modules() if isinstance(m, nn.Linear)]
    of_block = sum(r * (m.in_features + m.out_features) for m in linear)
    return config.num_hidden_layers * of_block + new * config.hidden_size


print("        bf16 weights   all trained   LoRA r 16 trained")
for name, count in counts.items():
    small = lora_count(config_of(name))
    whole, lora = FULL_BYTES * count, 2 * count + LORA_BYTES * small
    print(f"{name:>4}  {2 * count / 1e9:10.1f} GB {whole / 1e9:10.1f} GB {lora / 1e9:12.1f} GB ({small:,} numbers)")
assert lora_count(config_of("2b")) == 20_785_152  # as in lesson 11

# %% [markdown]
# That is the first reason for LoRA: what a weight costs beyond its own two bytes is paid only for the few that are
# trained. On top of it come **activations**: what PyTorch keeps of the way forward for the way back, as we saw at
# the loss. They grow with the number of tokens. We count them as in lesson 12, for the whole model; on the meta
# device that works for gemma-2-2b as well. First, on the embedded model, a check that the meta device counts truly.


# %%
def kept_bytes(model: Gemma, ids: torch.Tensor) -> int:
    """What is kept for the way back between ids and hidden states, beside the parameters, in bytes."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}  # the address that meta tensors have too
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = model.hidden(ids)
    total = sum(size for size, _ in kept.values())
    del states
    return total


def with_lora(model: Gemma) -> Gemma:
    minifc.add_lora(model, r=16, alpha=32)
    return model.train()


tiny = minifc.load_model(MODEL, dtype=torch.bfloat16)
truly = kept_bytes(with_lora(tiny), torch.randint(100, (1, 200)))
counted = kept_bytes(with_lora(weightless(tiny.config)), torch.zeros(1, 200, dtype=torch.long, device="meta"))
print(f"embedded model, 200 tokens: {truly:,} bytes kept, {counted:,} counted without weights")
assert truly == counted

# %%
TOKENS = 1500  # the course's row
row = torch.zeros(1, TOKENS, dtype=torch.long, device="meta")
two_b = with_lora(weightless(config_of("2b")))
activations = kept_bytes(two_b, row)
with recompute(two_b):
    checkpointed = kept_bytes(two_b, row)
logits = 2 * TOKENS * 256_008 * 4  # lesson 12: a plain loss keeps two copies
chunk = package.CHUNK_ELEMENTS * 4
print(f"2b with LoRA, one row of {TOKENS} tokens: activations {activations / 1e9:.1f} GB")
print(f"with gradient checkpointing {checkpointed / 1e9:.2f} GB")
print(f"logits {logits / 1e9:.1f} GB, in chunks {chunk / 1e9:.2f} GB")
assert checkpointed < activations / 10

# %% [markdown]
# **Gradient checkpointing** does for each block what lesson 12 did for each chunk of the loss: keep its input only, and
# run it again on the way back. (One block's worth is still needed at a time.) Put together, this is the budget of a
# row of the course on gemma-2-2b, and what each measure saves. The last one, four bits for each weight of the linear
# layers, comes below.

# %%
N, SMALL = counts["2b"], lora_count(config_of("2b"))
TABLE = 256_000 * 2304  # it stays in bf16
block = activations / 26
PLANS = {  # weights, gradients and optimiser, activations, logits
    "everything trained, plain loss": (2 * N, (FULL_BYTES - 2) * N, activations, logits),
    "LoRA": (2 * N, LORA_BYTES * SMALL, activations, logits),
    "+ loss in chunks": (2 * N, LORA_BYTES * SMALL, activations, chunk),
    "+ gradient checkpointing": (2 * N, LORA_BYTES * SMALL, checkpointed + block, chunk),
    "+ weights of 4 bits": (0.5625 * (N - TABLE) + 2 * TABLE, LORA_BYTES * SMALL, checkpointed + block, chunk),
}
PARTS = ("weights", "gradients and optimiser", "activations", "logits")
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red")

figure, axis = plt.subplots(figsize=(10, 3.4))
for place, sizes in enumerate(PLANS.values()):
    start = 0.0
    for part, size, colour in zip(PARTS, sizes, COLOURS, strict=True):
        axis.barh(place, size / 1e9, left=start, color=colour, label=part if place == 0 else None)
        start += size / 1e9
    axis.text(start + 0.4, place, f"{start:.1f}", va="center")
for size in (16, 24):  # GB that smaller GPUs have
    axis.axvline(size, color="tab:gray", linestyle="--", linewidth=1)
    axis.text(size + 0.2, 4.75, f"{size} GB", color="dimgray", fontsize=8)
axis.set_yticks(range(len(PLANS)), list(PLANS))
axis.invert_yaxis()
axis.set_ylim(4.9, -0.6)
axis.set_xlabel("GB, computed, for one row of 1500 tokens")
axis.legend(loc="center right")
show(
    figure,
    "19-memory",
    alt="Bars of memory for training gemma-2-2b: everything trained needs more than fifty gigabytes, LoRA less than "
    "twenty, and with chunks, checkpointing and four-bit weights it falls below four.",
)
for plan, sizes in PLANS.items():
    print(f"{plan:32} {sum(sizes) / 1e9:5.1f} GB")

# %% [markdown]
# A real run needs more than this: the library's own buffers, workspace for matrix products, memory that is free
# but in pieces too small. How much more we have not measured; leave room. And all of it is for bf16, which older GPUs
# do not have, Colab's T4 among them: there minifc computes in fp32, with weights twice as large.
#
# ## Operations, and from them a range of time
#
# For each token, each weight of a matrix is multiplied and added once: 2 operations, so a pass forward takes $2N$. The
# way back takes twice that, once for the gradient of the inputs and once for that of the weights: $6N$ in all. With
# LoRA the frozen weights need no gradient, only their inputs do: $4N$. Checkpointing runs everything forward
# a second time, $2N$ more. PyTorch can count what it does, so we look.


# %%
def operations(model: Gemma, tokens: int) -> int:
    """Floating-point operations of one pass forward and back, of all but the head."""
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter:
        states = model.hidden(torch.zeros(1, tokens, dtype=torch.long, device=device))
        states.float().sum().backward()
    return counter.get_total_flops()


def matrices(model: Gemma) -> int:
    """The numbers in linear layers."""
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))


LENGTH = 256
config = config_of("2b")
plain = weightless(config)
numbers = matrices(plain)
full = operations(plain, LENGTH) / (numbers * LENGTH)
lora = operations(with_lora(weightless(config)), LENGTH) / (numbers * LENGTH)
again = with_lora(weightless(config))
with recompute(again):
    lora_again = operations(again, LENGTH) / (numbers * LENGTH)
print(f"2b, per token and weight: all trained {full:.2f}, LoRA {lora:.2f}, LoRA with checkpointing {lora_again:.2f}")
assert 6 < full < 6.3
assert 4 < lora < 4.3
assert 6 < lora_again < 6.4

# %% [markdown]
# (The small surplus is attention, whose cost grows with the length of the row, and LoRA's own matrices.)
#
# The course's run has 389 steps of four rows of 1500 tokens. A GPU's data sheet names the operations per second that it
# can do at best; real training reaches a part of it. We assume 20% to 40%, and have not measured it; a row at a time
# may well do worse. The course learns from every token, so the table counts as a matrix, for the scores.

# %%
STEPS, ROWS = 389, 4
tokens = STEPS * ROWS * TOKENS
work = 6 * N * tokens  # LoRA with checkpointing
# operations a second, dense
PEAKS = {"T4 (fp32)": 8.1e12, "L4 (bf16)": 121e12, "A100 (bf16)": 312e12, "H100 (bf16)": 989e12}
print(f"{tokens:,} tokens, {work:.1e} operations. Arithmetic, not measured:")
for name, peak in PEAKS.items():
    fast, slow = (work / (peak * share) / 60 for share in (0.40, 0.20))
    print(f"  {name:12} {fast:5.1f} to {slow:5.1f} minutes")

# %% [markdown]
# *Decoding* is another matter. To write one token, every weight must be fetched from memory once, for very little work;
# so the bound is the memory's speed. Several rows at once share the fetching: that is why servers batch.

# %%
BANDWIDTHS = {"L4": 300e9, "A100": 2.0e12, "H100": 3.35e12}  # bytes a second
for name, speed in BANDWIDTHS.items():
    print(f"  {name:5} at most {speed / (2 * N):4.0f} tokens a second for one row of 2b in bf16 (arithmetic)")

# %% [markdown]
# ## The cache
#
# Decoding keeps keys and values (lesson 6). A full layer keeps them for every token, a sliding layer only for its
# window, in a ring. At 8,192 tokens, the longest that Gemma-2 was made for:

# %%
LONGEST = 8192
cache = minifc.KVCache(config, batch_size=1, max_length=LONGEST)
cache.extend(torch.arange(LONGEST - 1)[None])
seen = cache.extend(torch.tensor([[LONGEST - 1]]))  # what the last token may look at
slots = {kind: positions.shape[1] for kind, positions in seen.items()}
print("slots in use:", slots)
assert slots == {SLIDING: 4096, FULL: 8192}

for name in FIGURES:
    c = config_of(name)
    token = 2 * c.num_key_value_heads * c.head_dim * 2  # bytes of a token in a layer: keys and values, bf16
    size = sum(slots[kind] * token for kind in c.layer_types)
    without = len(c.layer_types) * LONGEST * token
    print(f"{name:>4}: {size / 1e6:,.0f} MB a row; if every layer kept everything {without / 1e6:,.0f} MB")
    assert size == 0.75 * without

# %% [markdown]
# ## Fewer bits
#
# Frozen weights need not be exact. In **QLoRA** ([Dettmers et al. 2023](https://arxiv.org/abs/2305.14314)) they are
# kept in four bits, a block of numbers sharing a scale, and LoRA beside them stays exact. The plainest form: blocks of
# 64, whole numbers from -7 to 7, and two bytes for each block's scale.


# %%
def in_four_bits(weight: torch.Tensor) -> torch.Tensor:
    """What is left of a weight after it went through 4 bits."""
    blocks = weight.reshape(-1, 64)
    scale = blocks.abs().amax(1, keepdim=True) / 7
    return ((blocks / scale).round().clamp(-7, 7) * scale).view_as(weight)


def taught() -> tuple[Gemma, object]:
    model, tokenizer = minifc.load_model(MODEL, dtype=torch.float32), minifc.load_tokenizer(MODEL)
    if EMBEDDED:
        minifc.load_adapter(model, tokenizer, CALLER)
    else:
        torch.manual_seed(0)  # the same LoRA each time
        with_lora(model).eval()
    return model, tokenizer


model, tokenizer = taught()
cases = toy.training_cases(6, seed=9)
examples = make_examples([Conversation(c.messages(), c.tools) for c in cases], tokenizer, "gemma", 2048).fitting


def mean_loss(model: Gemma) -> float:
    batches = list(pack(examples, rows=1, length=2048))
    with torch.no_grad():
        return sum(float(package.batch_loss(model, b)) for b in batches) / sum(b.supervised for b in batches)


exact = mean_loss(model)
errors = []
with torch.no_grad():
    for module in model.modules():
        if isinstance(module, LoraLinear):
            rough = in_four_bits(module.base_layer.weight)
            errors.append(float((rough - module.base_layer.weight).norm() / module.base_layer.weight.norm()))
            module.base_layer.weight.copy_(rough)
rough_loss = mean_loss(model)
print(f"a weight is off by {sum(errors) / len(errors):.0%}; loss {exact:.4f} -> {rough_loss:.4f}")
assert rough_loss > exact
four_bits = (4 / 8 + 2 / 64) * (N - TABLE) + 2 * TABLE
print(f"{4 / 8 + 2 / 64:.5f} bytes a weight, the table left as it is: 2b in {four_bits / 1e9:.2f} GB", end=" ")
print(f"instead of {2 * N / 1e9:.2f}")

# %% [markdown]
# So it costs something here. Our model is small, and LoRA was trained beside the exact weights. The paper, with
# better chosen steps than ours and LoRA trained beside the *rough* weights, reports results as good as with 16 bits.
# (The budget above counts a little more, 0.5625 bytes, for a scale to every 32 numbers.) To store weights in fewer bits
# is to *quantise* them. minifc has no quantised weights yet; its LoRA goes around any layer that has `in_features` and
# `out_features`, and refuses to merge into a rough one.
#
# ## Many
#
# **Data parallel**: each GPU holds the whole model and reads other rows; before each step they add up their gradients.
# It is gradient accumulation, side by side instead of one after the other, and the rule of lesson 12 holds again: each
# delivers a *sum*, and all divide by the supervised tokens of *all*. Two "devices" with an unequal share:

# %%
devices = [taught()[0], taught()[0]]
shares = [next(pack([example], 1, len(example.ids))) for example in sorted(examples, key=lambda e: sum(e.mask))[::5]]
total = sum(batch.supervised for batch in shares)


def gradient(model: Gemma, batch: Batch, divisor: int) -> torch.Tensor:
    model.zero_grad()
    (package.batch_loss(model, batch) / divisor).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


summed = sum(gradient(device, batch, total) for device, batch in zip(devices, shares, strict=True))
means = sum(gradient(device, b, b.supervised) / 2 for device, b in zip(devices, shares, strict=True))
length = max(len(e.ids) for e in examples)
(both,) = pack([e for e in examples if any(len(e.ids) == b.ids.shape[1] for b in shares)], 2, length)
alone = gradient(devices[0], both, total)
print([batch.supervised for batch in shares], "supervised tokens")
off = [float((other - alone).norm() / alone.norm()) for other in (summed, means)]
print(f"sums: off by {off[0]:.0e}; means of means: {off[1]:.0%}")
assert off[0] < 1e-3 < off[1]

print(f"to be exchanged in each step: {2 * N / 1e9:.1f} GB of bf16 gradients, or with LoRA {4 * SMALL / 1e6:.0f} MB")

# %% [markdown]
# With LoRA the exchange is next to nothing. But each GPU must hold the model. Where it does not fit, one *shards*: with
# **FSDP** ([Zhao et al. 2023](https://arxiv.org/abs/2304.11277)) each of $n$ GPUs keeps an $n$-th of weights, gradients
# and optimiser, and borrows a layer's weights from the others just before it needs them. Memory falls to an $n$-th, at
# the price of sending all weights around two or three times in each step.

# %%
for name, count in counts.items():
    whole, small = FULL_BYTES * count, 2 * count + LORA_BYTES * lora_count(config_of(name))
    need = [math.ceil(size / (0.7 * 80e9)) for size in (whole, small)]  # a part is left for activations
    print(f"{name:>4}: at least {need[0]} GPUs of 80 GB to train everything, {need[1]} for LoRA (arithmetic)")

# %% [markdown]
# minifc trains on one device, and says so. For the course's job one is enough; and what these systems add is *where*
# numbers lie and *when* they travel. What is computed is what you have built.
#
# **Exercises** (`lessons/exercises/19_scale.py`, then `python -m lessons.check 19`): count a model's parameters; the
# bytes of a cache; the bytes of a training.
#
# **Next:** nothing. You have built it all. Take a model and data of your own, and
# `python -m minifc.train --model FOLDER --data FILE`.
