# %% [markdown]
# # 2. Embedding, norms and positions
#
# *How does an id become something that a model can compute with?*
#
# An id is a name, not a quantity: piece 14 is not twice piece 7. Before anything can be computed, each id is exchanged
# for a **vector**, a row of numbers that was learned. The vectors then pass through a stack of layers, each of which
# changes them a little (lesson 4 builds one). This lesson follows a sentence up to the door of the first. It meets
# three small parts of the model: the table of vectors, the norm that keeps vectors at one size, and the rotation that
# tells them where they stand.

# %%
import math

import matplotlib.pyplot as plt
import torch
from lesson import EMBEDDED, MODEL, show

import minifc
from minifc.gemma.model import RMSNorm, rope_angles, rotate

torch.set_grad_enabled(False)  # nothing is trained here
torch.manual_seed(0)
tokenizer = minifc.load_tokenizer(MODEL)
model = minifc.load_model(MODEL, dtype=torch.float32)
config = model.config

sentence = "Please find a song with singer Nina."
ids = tokenizer.encode(sentence, add_bos=True)  # <bos>, the control token with which every text begins
print(ids)

# %% [markdown]
# ## A row for each piece
#
# The **embedding** is a table with a row for each id of the vocabulary. To read an id is to take its row. The length of
# a row is the width of the model, called `hidden_size` in its configuration. In shapes we shall write $V$ for the
# number of ids, $E$ for the width and $T$ for the number of tokens in a text: the table is `[V, E]`, a text `[T, E]`.

# %%
table = model.model.embed_tokens.weight
print(f"a table of {table.shape[0]:,} rows, each of {table.shape[1]} numbers")
print(
    "the row of",
    repr(tokenizer.decode([ids[1]])),
    "begins",
    [round(number, 3) for number in table[ids[1]][:5].tolist()],
)

OFFICIAL_VOCABULARY, OFFICIAL_WIDTH, OFFICIAL_PARAMETERS = 256_000, 2_304, 2_614_341_888
share = OFFICIAL_VOCABULARY * OFFICIAL_WIDTH / OFFICIAL_PARAMETERS
print(f"gemma-2-2b: {OFFICIAL_VOCABULARY * OFFICIAL_WIDTH:,} numbers in the table, {share:.1%} of the model")

# %% [markdown]
# In gemma-2-2b the table alone is 22.6% of the model. Remember that for the lesson in which we add tokens to it.
#
# Nobody wrote these numbers. Training moved them, and rows that are used alike were moved alike. We can ask which rows
# point in nearly the same direction: the cosine of the angle between two rows is 1 if they do, and 0 if they have
# nothing to do with each other.


# %%
def neighbours(piece: str, count: int = 5) -> list[str]:
    """The pieces whose rows point most nearly where this one's row points."""
    (id_,) = tokenizer.encode(piece)
    likeness = torch.cosine_similarity(table, table[id_][None])
    return [tokenizer.decode([other]) for other in likeness.topk(count + 1).indices.tolist() if other != id_]


for piece in ("7", "Tell"):
    print(repr(piece), "is near", neighbours(piece))
if EMBEDDED:
    assert all(near.isdigit() for near in neighbours("7"))

# %% [markdown]
# The embedded model has found out by itself that digits are of one kind, and nearest to `Tell` it has put other words
# that begin a question.
#
# ## How large is a vector?
#
# From here on we shall often ask how large the numbers in a vector are. The measure is the **root mean square**: square
# them, take the mean, take the root. A vector of ones, or of ones and minus ones, has a root mean square of 1.


# %%
def size(vector: torch.Tensor) -> torch.Tensor:
    """The root mean square of each vector [..., E]."""
    return (vector * vector).mean(-1).sqrt()


rows = table[ids]
E = config.hidden_size
print("sizes of the rows of our sentence:", [round(number, 2) for number in size(rows).tolist()])

# %% [markdown]
# ## A norm
#
# As vectors pass through the layers they grow. A layer that has learned to work with vectors of size 1 would stumble
# over vectors of size 7, so before each piece of work the vector is brought back to size 1. That is the **RMS norm**
# ([Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)): divide by the root mean square. Then each of the $E$
# places is multiplied by a number of its own, its **gain**, which is learned, so that a layer can listen to some places
# more than to others.
#
# $$y_i = \frac{x_i}{\sqrt{\frac{1}{E}\sum_j x_j^2 + \varepsilon}} \cdot (1 + w_i)$$
#
# The tiny $\varepsilon$ is there so that for a vector of zeros we do not divide by zero. And the file does not hold the
# gain, but $w$, its distance from 1.


# %%
def norm(x: list[float], w: list[float], eps: float = 1e-6) -> list[float]:
    """One vector, brought to size 1 and then weighed."""
    mean_square = sum(number * number for number in x) / len(x)
    return [number / math.sqrt(mean_square + eps) * (1 + gain) for number, gain in zip(x, w, strict=True)]


print("size 1:   ", [round(number, 3) for number in norm([3.0, -4.0, 0.0, 0.0], [0.0] * 4)])
print("weighed:  ", [round(number, 3) for number in norm([3.0, -4.0, 0.0, 0.0], [1.0, -0.5, 0.0, 0.0])])

# %% [markdown]
# Three things follow from the formula. We ask the package's own
# [`RMSNorm`](../minifc/gemma/model.py) whether they hold.
#
# **It forgets how large a vector was** and keeps its direction. The same vector a thousand times larger gives the same.

# %%
x = torch.randn(5, E)
trained = model.model.layers[0].input_layernorm
assert torch.allclose(trained(1000 * x), trained(x), atol=1e-4)
print("sizes before", [round(number) for number in size(1000 * x).tolist()], "and after", end=" ")
print([round(number, 2) for number in size(trained(1000 * x)).tolist()])

# %% [markdown]
# **A fresh norm lets everything through.** Its weights begin at 0, which means a gain of 1: size 1, the direction as it
# was. That speaks for storing the distance from 1. Training often pulls weights gently towards 0 (lesson 13); pulled
# to 0, this norm ends where it began, at a gain of 1, and not at silence.

# %%
fresh = RMSNorm(E, config.rms_norm_eps)
assert not fresh.weight.any()
assert torch.allclose(size(fresh(x)), torch.tensor(1.0), atol=1e-4)
assert torch.allclose(torch.cosine_similarity(fresh(x), x), torch.tensor(1.0), atol=1e-5)
print("sizes after a fresh norm:", [round(number, 3) for number in size(fresh(x)).tolist()])

# %% [markdown]
# **Silence is at -1.** There the gain is 0, and nothing comes through. We shall use that in lesson 4 as a switch.

# %%
silent = RMSNorm(E, config.rms_norm_eps)
silent.weight.fill_(-1.0)
assert not silent(x).any()
w = trained.weight
print(f"the first norm of the loaded model stores {w.min():.2f} to {w.max():.2f}", end=", ")
print(f"which means gains from {1 + w.min():.2f} to {1 + w.max():.2f}")

# %% [markdown]
# ## Louder at the door
#
# The rows of our sentence were small, and there is a reason. Gemma uses the table twice: at the door, to read, and at
# the end, to write, where each row is held against a vector to give its piece a score as the next one (lesson 4). Such
# a score is a sum over the whole width, so rows must be small to keep it in bounds. But a row that was read has to
# hold its own beside what the layers will add to it, and for that it should be large. Gemma keeps the rows small and
# multiplies what it reads by the root of the width, $\sqrt{E}$.
#
# Let us see that at the door of the loaded model. PyTorch lets us look in with a *hook*, a function that is called just
# before a module runs, with what the module is given; or, as further below, just after, with its result as well.


# %%
def at_the_door(ids: list[int]) -> torch.Tensor:
    """What the first layer of the loaded model is given for these ids, [T, E]."""
    kept = []
    hook = model.model.layers[0].register_forward_pre_hook(lambda layer, inputs: kept.append(inputs[0][0]))
    model(torch.tensor([ids]))
    hook.remove()
    return kept[0]


louder = size(at_the_door(ids)) / size(rows)
print(f"each vector at the door is {louder.mean():.3f} times its row; the root of {E} is {math.sqrt(E):.3f}")
assert torch.allclose(louder, torch.tensor(math.sqrt(E)), rtol=1e-3)

# %% [markdown]
# What is that good for? The first layer looks around in the sentence and adds what it found to each vector. Afterwards
# the vector must still say which piece it was. We measure the angle again, now between a vector that has been through
# the first layer and the row that it came from.

# %%
kept = []
hook = model.model.layers[0].register_forward_hook(lambda layer, inputs, output: kept.append(output[0]))
model(torch.tensor([ids]))
hook.remove()
after = torch.cosine_similarity(kept[0], rows)
added = kept[0] - at_the_door(ids)
print(f"rows {size(rows).mean():.2f}, at the door {size(at_the_door(ids)).mean():.2f}, added {size(added).mean():.2f}")
print(f"likeness to the own row after the first layer: {after.mean():.2f}, at least {after.min():.2f}")
unscaled = torch.cosine_similarity(rows + added, rows)
print(f"had the same been added to the bare row: {unscaled.mean():.2f}")
if EMBEDDED:
    assert after.min() > 0.6  # the piece can still be told
    assert unscaled.mean() < 0.3  # it would have been drowned

# %% [markdown]
# A detail that has cost people an afternoon: the model was trained in bfloat16, a number format of 16 bits with about
# three digits, and the factor is rounded to it. For the width 3,584 of gemma-2-9b that matters.

# %%
WIDTH_9B = 3_584
rounded = torch.tensor(math.sqrt(WIDTH_9B), dtype=torch.bfloat16).item()
print(f"the root of {WIDTH_9B:,} is {math.sqrt(WIDTH_9B):.3f}, in bfloat16 {rounded}")
assert rounded == 59.75

# %% [markdown]
# ## Where a token stands
#
# So far a token's vector is the same wherever the token stands. But *Nina called Tom* is not *Tom called Nina*. What
# Gemma does about it is called **rotary positions**, RoPE for short ([Su et al.
# 2021](https://arxiv.org/abs/2104.09864)). It takes the numbers of a vector in pairs. A pair is a point in the plane;
# turn it about the origin, by an angle that grows with the position. Like hands of a clock, each pair turns at its own
# speed: the first by one radian per token, the last so slowly that it has not gone round once in the longest text. Read
# all the hands and you know where you are.
#
# The vectors that are turned are not those at the door but shorter ones, of `head_dim` numbers ($D$ for short), which
# lesson 3 makes out of them. The number at $i$ is paired with the one at $i + D/2$. How fast the pairs turn follows
# from one number of the configuration, `rope_theta`, the base of the rotation.

# %%
D = config.head_dim


def speed(pair: int) -> float:
    """By how many radians a pair turns from one token to the next."""
    return config.rope_theta ** (-2 * pair / D)


def turn(x: list[float], position: int) -> list[float]:
    """A vector as it looks at a position: every pair is turned."""
    turned = [0.0] * D
    for i in range(D // 2):
        a, b = x[i], x[i + D // 2]
        angle = position * speed(i)
        turned[i] = a * math.cos(angle) - b * math.sin(angle)
        turned[i + D // 2] = a * math.sin(angle) + b * math.cos(angle)
    return turned


for pair in (0, 1, D // 4, D // 2 - 1):
    print(f"pair {pair:>3} turns by {speed(pair):.5f}: once round in {2 * math.pi / speed(pair):,.0f} tokens")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), gridspec_kw={"width_ratios": [1.5, 1]})
angles = [[math.cos(position * speed(pair)) for position in range(128)] for pair in range(D // 2)]
image = axes[0].imshow(angles, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
axes[0].set(xlabel="position", ylabel="pair", title="cosine of the angle")
figure.colorbar(image, ax=axes[0])
ones = [1.0] * D
alike = [sum(a * b for a, b in zip(ones, turn(ones, n), strict=True)) / D for n in range(128)]
axes[1].plot(alike, color="tab:blue")
axes[1].axhline(0, color="grey", linewidth=0.6)
axes[1].set(
    xlabel="distance in tokens", ylabel="likeness", title="a vector and itself, some tokens on", ylim=(-0.1, 1.05)
)
show(
    figure,
    "02-angles",
    alt="Left: stripes, narrow for the first pairs, which turn fast, ever wider further down, until the last pairs "
    "hardly change over 128 positions. Right: a vector is less and less like its turned self with distance, in waves.",
)

# %% [markdown]
# Each column on the left is what one position looks like; no two are the same.
#
# Why turn, and not simply add a number? Because of what happens when two turned vectors are held against each other,
# which is all that attention will do with them (their products, summed: the *dot product*). If both are turned by the
# same angle, nothing changes between them. Only the *difference* of their angles counts, and so only their distance.
# Again we ask the package's functions, `rope_angles` and `rotate`.


# %%
def turned(x: torch.Tensor, position: int) -> torch.Tensor:
    """One vector [D], turned by the package."""
    return rotate(x[None, None, None], *rope_angles(config, torch.tensor([[position]])))[0, 0, 0]


q = k = torch.randn(D)  # for once the same, so that we can say what we expect: most likeness where they stand close
products = {(m, n): float(turned(q, m) @ turned(k, n)) for m, n in [(5, 3), (105, 103), (1005, 1003), (5, 4), (5, 0)]}
for (m, n), product in products.items():
    print(f"standing at {m} and {n}, distance {m - n}: {product:.3f}")
assert math.isclose(products[5, 3], products[105, 103], abs_tol=1e-2)
assert math.isclose(products[5, 3], products[1005, 1003], abs_tol=1e-2)
assert products[5, 4] - products[5, 3] > 0.1  # further apart, less alike
assert products[5, 3] - products[5, 0] > 0.1
assert torch.allclose(turned(q, 0), q)  # at position 0 nothing is turned
assert torch.allclose(turned(q, 77).norm(), q.norm(), rtol=1e-5)  # and turning never makes longer

# %% [markdown]
# If that is so, the whole model cannot know by which number we begin to count, only how far tokens stand from one
# another. We can try. `positions` lets us say where the tokens stand. Moved together by 500, they give the same scores
# for the next token. Pulled apart, to every second place, they give others.

# %%
T = len(ids)
places = torch.arange(T)[None]
scores = model(torch.tensor([ids]), positions=places)
moved = model(torch.tensor([ids]), positions=places + 500)
apart = model(torch.tensor([ids]), positions=places * 2)
print(f"moved together: scores change by {(moved - scores).abs().max():.4f} of {scores.abs().max():.1f}")
print(f"pulled apart:   scores change by {(apart - scores).abs().max():.4f}")
assert (moved - scores).abs().max() < 0.01 * scores.abs().max()
assert (apart - scores).abs().max() > 0.1 * scores.abs().max()

# %% [markdown]
# ## The package's own
#
# In [`minifc/gemma/model.py`](../minifc/gemma/model.py) these are `Vocabulary.lookup`, `RMSNorm`, `rope_angles` and
# `rotate`. They work on whole batches at once, in 32 bits where 16 would lose digits. Number by number they give what
# our loops give.

# %%
door = at_the_door(ids)
for here, id_ in enumerate(ids):
    ours = [number * math.sqrt(E) for number in table[id_].tolist()]
    assert torch.allclose(torch.tensor(ours), door[here], rtol=1e-3)

for layer in model.model.layers:
    for theirs in (layer.input_layernorm, layer.post_feedforward_layernorm):
        ours = [norm(vector, theirs.weight.tolist(), config.rms_norm_eps) for vector in door.tolist()]
        assert torch.allclose(torch.tensor(ours), theirs(door), atol=1e-4)

many = torch.randn(1, 2, 200, D)  # two heads, 200 positions
theirs = rotate(many, *rope_angles(config, torch.arange(200)[None]))
ours = [[turn(many[0, head, position].tolist(), position) for position in range(200)] for head in range(2)]
assert torch.allclose(torch.tensor(ours), theirs[0], atol=1e-3)
print(f"{len(ids)} vectors at the door, {2 * len(model.model.layers)} norms and 400 rotations: the same")

# %% [markdown]
# **Exercises** (`lessons/exercises/02_embedding.py`, then `python -m lessons.check 02`): bring ids to the door; write
# the norm so that it stays right in 16 bits; turn a vector.
#
# **Next:** the tokens look at each other.
