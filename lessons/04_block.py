# %% [markdown]
# # 4. The block and the logits
#
# *How does a stack of simple parts come to predict the next word?*
#
# We have vectors at the door, norms, and attention. Two parts are missing: the one that thinks over what attention has
# brought home, and the one that turns the last vectors into a prediction. Then we put the model together, all of it, in
# about thirty lines.

# %%
import math
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import torch
from lesson import EMBEDDED, MODEL, show

import minifc
from minifc.gemma.config import SLIDING
from minifc.gemma.model import causal_mask, rope_angles

torch.set_grad_enabled(False)
tokenizer = minifc.load_tokenizer(MODEL)
model = minifc.load_model(MODEL, dtype=torch.float32)
config = model.config

record = 'Here is a record.\n{"singer": "Nina Zorbel", "year": 1958, "city": "Plovdiv"}\n\nSay the singer.'
ids = [
    *tokenizer.encode("<bos><start_of_turn>user\n", control_tokens=True),
    *tokenizer.encode(record),
    *tokenizer.encode("<end_of_turn>\n<start_of_turn>model\n", control_tokens=True),
    *tokenizer.encode("The singer is Nina Z"),
]
T = len(ids)

# %% [markdown]
# ## Thinking it over
#
# Attention moves things between tokens. What is then done with them at each token, by itself, is the work of the
# **feed-forward** part, in code `mlp` (multi-layer perceptron). It makes the vector wider (to `intermediate_size`,
# several times the width), decides for each of the new places whether it is to count, and comes back to the old width.
#
# The decision is made by a **gate**. Two matrices are applied to the same vector: one gives the contents, the other the
# gate, and the two are multiplied place by place ([Shazeer 2020](https://arxiv.org/abs/2002.05202)). The gate is bent
# first by a function called GELU, which lets numbers above zero pass, shuts those far below zero out, and is smooth in
# between. Gemma uses a formula with a tanh for it.


# %%
def gelu(number: float) -> float:
    return 0.5 * number * (1 + math.tanh(math.sqrt(2 / math.pi) * (number + 0.044715 * number**3)))


def feed_forward(mlp: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """One token's vector [E] -> [E]."""
    gate = torch.tensor([gelu(number) for number in (mlp.gate_proj.weight @ x).tolist()])
    return mlp.down_proj.weight @ (gate * (mlp.up_proj.weight @ x))


print("GELU of -3, -1, 0, 1, 3:", [round(gelu(number), 3) for number in (-3.0, -1.0, 0.0, 1.0, 3.0)])

# %% [markdown]
# ## The block
#
# A **block**, or layer, is attention and then feed-forward. Neither replaces a token's vector: each *adds* something to
# it. So there is a straight road from the door to the end on which everything travels, the *residual stream*, and each
# part reads from it and writes onto it. Parts that read have a norm before them. Gemma-2 has one after them, too:
#
# $$x \leftarrow x + \mathrm{norm}_2(\mathrm{attention}(\mathrm{norm}_1(x))) \qquad
# x \leftarrow x + \mathrm{norm}_4(\mathrm{feedforward}(\mathrm{norm}_3(x)))$$
#
# Why four? Each keeps a promise, and we can hold the package's `Block` to all of them. For that we catch what a block
# in the middle is given as the model reads our text, and write two helpers: one runs the block, the other changes some
# weights for a moment.

# %%
LAYER = 1
block = model.model.layers[LAYER]
places = torch.arange(T)[None]
caught = []
hook = block.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0][0]))
model(torch.tensor([ids]))
hook.remove()
x = caught[0]  # [T, E]


def run(x: torch.Tensor) -> torch.Tensor:
    """The package's block on its own, [T, E] -> [T, E]."""
    window = config.sliding_window if config.layer_types[LAYER] == SLIDING else None
    return block(x[None], rope_angles(config, places), causal_mask(places, places, window), None)[0]


@contextmanager
def changed(weight: torch.Tensor, times: float = 1.0, plus: float = 0.0) -> Iterator[None]:
    """A weight is multiplied, and something added, for as long as this lasts."""
    before = weight.clone()
    weight.mul_(times).add_(plus)
    yield
    weight.copy_(before)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((one - other).abs().max() / other.abs().max())


usual = run(x)
print(f"the block adds {(usual - x).square().mean().sqrt():.2f} to vectors of size {x.square().mean().sqrt():.2f}")

# %% [markdown]
# **The norms behind: no part can shout.** Whatever attention brings home, it is brought to one size before it is added.
# Make the last matrix of attention ten times larger: nothing changes. The same for the feed-forward part.

# %%
with changed(block.self_attn.o_proj.weight, times=10):
    print(f"attention ten times louder: the block's result moves by {apart(run(x), usual):.0e} of its largest value")
    assert apart(run(x), usual) < 0.01
with changed(block.mlp.down_proj.weight, times=10):
    print(f"feed-forward ten times louder: it moves by {apart(run(x), usual):.0e}")
    assert apart(run(x), usual) < 0.01

# %% [markdown]
# How much is added is decided by the gains of those two norms, and by nothing else. Lesson 2 found a switch in them: a
# stored -1 is a gain of 0. With both switched off nothing is added, and what goes in comes out.

# %%
gains_behind = (block.post_attention_layernorm.weight, block.post_feedforward_layernorm.weight)
with changed(gains_behind[0], 0, -1), changed(gains_behind[1], 0, -1):
    print("both switched off: the block is a piece of straight road,", torch.equal(run(x), x))
    assert torch.equal(run(x), x)

# %% [markdown]
# **The norms before: every part hears at one volume.** The vectors on the road grow from block to block. What a part
# makes of them should depend on where they point. We catch what each part answers, before its second norm, and make the
# vectors on the road ten times larger.


# %%
def answers(part: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What a part of the block answers while the block runs on x, [T, E]."""
    caught = []
    hook = part.register_forward_hook(lambda _, inputs, output: caught.append(output[0]))
    run(x)
    hook.remove()
    return caught[0]


moved = apart(answers(block.self_attn, 10 * x), answers(block.self_attn, x))
print(f"what attention answers moves by {moved:.0e} when its vectors are ten times larger")
assert moved < 0.01
with changed(gains_behind[0], 0, -1):  # attention adds nothing, so that feed-forward has the same ten times larger
    moved = apart(answers(block.mlp, 10 * x), answers(block.mlp, x))
print(f"what feed-forward answers moves by {moved:.0e}")
assert moved < 0.01

# %% [markdown]
# The first pair of norms protects the parts from the road, the second the road from the parts. A deep model needs
# both: one matrix that grew too large in training would otherwise drown all that the other blocks had written.
#
# ## Down the road
#
# The model is this block, again and again, with other numbers. How do the vectors grow?

# %%
stations = []
hooks = [layer.register_forward_hook(lambda *call: stations.append(call[2][0])) for layer in model.model.layers]
model(torch.tensor([ids]))
for hook in hooks:
    hook.remove()
for number, station in enumerate(stations):
    print(f"after layer {number}: size {station.square().mean().sqrt():.2f}")

# %% [markdown]
# At the end of the road stands one more norm. So nothing that follows can depend on how large the vectors have grown.
# We let the last block hand on ten times what it would, and look at the scores of the whole model.

# %%
scores = model(torch.tensor([ids]))[0]
hook = model.model.layers[-1].register_forward_hook(lambda _, inputs, output: 10 * output)
louder = model(torch.tensor([ids]))[0]
hook.remove()
print(f"ten times the vectors at the end: the scores move by {apart(louder, scores):.0e}")
assert apart(louder, scores) < 0.01

# %% [markdown]
# ## A score for every piece
#
# The last vector is held against every row of the table, the same table that was read from at the door: a dot product
# for each piece. The one that fits best has the highest score. These scores are called **logits**; the softmax makes
# probabilities of them.

# %%
table = model.model.embed_tokens.weight
final = model.model.norm(stations[-1][-1])
logits = torch.stack([row @ final for row in table])
for id_ in logits.topk(4).indices.tolist():
    print(f"{tokenizer.decode([id_])!r:>8} {logits[id_]:6.2f}  {logits.softmax(0)[id_]:.4f}")
if EMBEDDED:
    assert tokenizer.decode([int(logits.argmax())]) == "or"  # The singer is Nina Zor…

# %% [markdown]
# There is a cap here, too: logits are bent into the range between -30 and 30, $30 \tanh(s / 30)$. So there is a bound
# on how sure the model can be: no piece is ever more than $e^{60}$ times as likely as another, and none is ever shut
# out for good. The order stays as it was, so the likeliest piece is still the likeliest.
#
# In our text the cap has little to do. It is a fence: we see it when somebody runs into it. Make the last norm's gains
# a hundred times larger. The logits stop at 30.

# %%
limit = config.final_logit_softcapping or 30.0
last = model.model.norm.weight
print(f"largest score in our text {scores.abs().max():.1f}", end=", ")
with changed(last, 100, 99):  # a gain is 1 + w, and 1 + (100 w + 99) is a hundred times that
    wild = model(torch.tensor([ids]))[0]
print(f"a hundred times louder {wild.abs().max():.2f}; {(wild.abs() > 29).float().mean():.0%} of all are beyond 29")
assert wild.abs().max() <= limit == 30
assert wild.max() - wild.min() <= 60
if EMBEDDED:
    assert (wild.abs() > 29).float().mean() > 0.5
assert wild[-1].max() - wild[-1][logits.argmax()] < 1e-3  # what was likeliest is still at the top, beside others

# %% [markdown]
# ## The whole model
#
# Now all of it in one piece, without batches, caches or classes: a function from ids to logits. It takes the numbers
# from the loaded model, and nothing else.


# %%
def norm(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.stack([v / (v.dot(v) / len(v) + config.rms_norm_eps).sqrt() * (1 + w) for v in x])


def attention(part: torch.nn.Module, x: torch.Tensor, window: int) -> torch.Tensor:
    """Lesson 3's, with all tokens and heads in one formula: t looks at s in head h."""
    H, D, T = config.num_attention_heads, config.head_dim, len(x)
    speeds = config.rope_theta ** -(torch.arange(D // 2) * 2 / D)
    hands = torch.polar(torch.ones(T, 1, D // 2), torch.arange(T)[:, None, None] * speeds)

    def heads(matrix: torch.Tensor, turn: bool) -> torch.Tensor:
        split = (x @ matrix.T).view(T, -1, 2, D // 2)  # the two halves of each head
        if turn:
            pairs = torch.complex(split[:, :, 0], split[:, :, 1]) * hands
            split = torch.stack((pairs.real, pairs.imag), 2)
        return split.reshape(T, -1, D).repeat_interleave(H // (split.shape[1]), 1)  # [T, H, D]

    q, k, v = heads(part.q_proj.weight, True), heads(part.k_proj.weight, True), heads(part.v_proj.weight, False)
    score = torch.einsum("thd,shd->hts", q, k) / config.query_pre_attn_scalar**0.5
    score = 50 * torch.tanh(score / 50)
    ago = torch.arange(T)[:, None] - torch.arange(T)
    score[:, (ago < 0) | (ago >= window)] = -math.inf
    return torch.einsum("hts,shd->thd", score.softmax(-1), v).reshape(T, H * D) @ part.o_proj.weight.T


def gemma(ids: list[int]) -> torch.Tensor:
    """From ids to logits [T, V]: the whole of Gemma-2."""
    x = table[ids] * config.hidden_size**0.5
    for layer, kind in zip(model.model.layers, config.layer_types, strict=True):
        window = config.sliding_window if kind == SLIDING else len(ids)
        heard = attention(layer.self_attn, norm(x, layer.input_layernorm.weight), window)
        x = x + norm(heard, layer.post_attention_layernorm.weight)
        ready = norm(x, layer.pre_feedforward_layernorm.weight)
        thought = torch.stack([feed_forward(layer.mlp, vector) for vector in ready])
        x = x + norm(thought, layer.post_feedforward_layernorm.weight)
    return 30 * torch.tanh(norm(x, model.model.norm.weight) @ table.T / 30)


plain = gemma(ids)
print("the next piece, by the plain model:", repr(tokenizer.decode([int(plain[-1].argmax())])))

# %% [markdown]
# ## Watching it make up its mind
#
# Since every block only adds to the road, we may leave it early: take the vector as it is after some block, send it
# straight through the last norm, and hold it against the table. That is called the *logit lens* ([nostalgebraist
# 2020](https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens)). It is not what the model
# was trained for, but it shows at which depth an answer appears.

# %%
depth = ["at the door", *(f"after layer {number}" for number in range(len(stations)))]
on_the_way = [table[ids] * config.hidden_size**0.5, *stations]
shown = range(T - 8, T)
guess = [[model.logits(model.model.norm(x[[t]]))[0].softmax(0).max(0) for t in shown] for x in on_the_way]
figure, axis = plt.subplots(figsize=(9, 0.55 * len(depth) + 1.2))
axis.imshow([[float(chance) for chance, _ in row] for row in guess], cmap="Greens", vmin=0, vmax=1.5, aspect="auto")
for y, row in enumerate(guess):
    for column, (chance, id_) in enumerate(row):
        name = tokenizer.decode([int(id_)]).replace(" ", "␣").replace("\n", "⏎")
        axis.text(column, y, f"{name}  {float(chance):.0%}", ha="center", va="center", fontsize=8)
read = [tokenizer.decode([ids[t]]).replace(" ", "␣") for t in shown]
axis.set_xticks(range(len(read)), [f"after {piece}" for piece in read])
axis.set_yticks(range(len(depth)), depth)
axis.set(title="the likeliest next piece")
show(
    figure,
    "04-lens",
    alt="A table of guesses, with a row for each depth. Until the last layer nearly every token guesses itself; "
    "only after the last layer do the guesses spell the singer's name.",
)
if EMBEDDED:
    assert [tokenizer.decode([int(id_)]) for _, id_ in guess[-1]][-4:] == ["a", " ", "Z", "or"]

# %% [markdown]
# In the embedded model nearly every token guesses itself until the last layer; there the name appears, all at once. It
# is the layer in which lesson 3 found the head that copies.
#
# ## The package's own
#
# `Block`, `Decoder` and `Gemma` in [`minifc/gemma/model.py`](../minifc/gemma/model.py) are the same few lines, with
# room for three things that come later: a cache and padding (lesson 6), and several texts in one row (lesson 10). Their
# logits are those of our function.

# %%
long = " ".join(["one two three"] * 30)
for text in ("Hello.", record, *([long] if EMBEDDED else [])):  # the long one takes its time on a large model
    some = tokenizer.encode(text, add_bos=True)
    difference = apart(gemma(some), model(torch.tensor([some]))[0])
    print(f"{len(some):>4} tokens: largest difference {difference:.0e} of the largest logit")
    assert difference < 1e-4
if EMBEDDED:
    assert len(tokenizer.encode(long)) > config.sliding_window  # the last text is longer than the window

# %% [markdown]
# **Exercises** (`lessons/exercises/04_block.py`, then `python -m lessons.check 04`): the gate's function; a block out
# of its parts; from the last vector to probabilities.
#
# **Next:** where all these numbers come from, and how to know that they were loaded right.
