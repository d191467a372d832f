# %% [markdown]
# # 3. Attention
#
# *How does a token find out about the others?*
#
# At the door each vector knows its own piece and nothing else. **Attention** is the one place in the model where tokens
# meet. Each token looks back over those before it, decides how much each concerns it, and takes home a mixture of what
# they have to say. Gemma-2 does it with two savings, shared keys and a window, and one precaution, the soft-cap.
#
# We shall follow it where it does something that one can see. The embedded model answers questions about a record, and
# so it has to copy a name that it has never met: both its words were kept out of every text of the training.

# %%
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
from lesson import EMBEDDED, MODEL, show

import minifc
from minifc.gemma.config import FULL, SLIDING
from minifc.gemma.model import Attention, Gemma, attend, causal_mask, rope_angles

torch.set_grad_enabled(False)
torch.manual_seed(0)
tokenizer = minifc.load_tokenizer(MODEL)
model = minifc.load_model(MODEL, dtype=torch.float32)
config = model.config

record = 'Here is a record.\n{"singer": "Nina Zorbel", "year": 1958, "city": "Plovdiv"}\n\nSay the singer.'
ids = [
    *tokenizer.encode("<bos><start_of_turn>user\n", control_tokens=True),
    *tokenizer.encode(record),
    *tokenizer.encode("<end_of_turn>\n<start_of_turn>model\n", control_tokens=True),
]
answer = tokenizer.encode("The singer is Nina Zorbel.")  # this is what it writes; at the end we ask it to

# %% [markdown]
# From here on the text is question and answer together. We catch what the attention of each layer is given as the model
# reads it: a vector for each token, which has already been through a norm. Then we look at one layer.

# %%
ids = ids + answer
T = len(ids)
pieces = [tokenizer.decode([id_]) for id_ in ids]


def given_to_attention() -> list[torch.Tensor]:
    """What the attention of each layer is given as the model reads the text, [T, E] each."""
    caught: list[torch.Tensor] = []
    hooks = [
        block.self_attn.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0][0]))
        for block in model.model.layers
    ]
    model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return caught


given = given_to_attention()
LAYER, HEAD = (2, 1) if EMBEDDED else (0, 0)
x = given[LAYER]
print(f"{T} tokens, {x.shape[1]} numbers each")

# %% [markdown]
# ## Ask, offer, take
#
# Three matrices make three shorter vectors out of each token's vector. The **query** says what the token is looking
# for. The **key** says what there is to find at the token. The **value** is what one takes home. All three have
# `head_dim` numbers, $D$. A layer does this several times side by side, with other matrices; each is called a **head**.

# %%
H, K, D = config.num_attention_heads, config.num_key_value_heads, config.head_dim
attention = model.model.layers[LAYER].self_attn


def part(matrix: torch.Tensor, head: int) -> torch.Tensor:
    """The rows that belong to one head, [D, E]: the matrix holds those of all heads, one below the other."""
    return matrix[head * D : (head + 1) * D]


query = part(attention.q_proj.weight, HEAD) @ x[-1]  # of the last token
keys = [part(attention.k_proj.weight, HEAD // (H // K)) @ vector for vector in x]  # this number: see below
print("a query:", [round(number, 2) for number in query[:5].tolist()], "…")
print("a key:  ", [round(number, 2) for number in keys[-2][:5].tolist()], "…")

# %% [markdown]
# Query and keys are turned as lesson 2 said. A shorter way to write it: take a pair of numbers for one complex number;
# then to multiply by $e^{i\varphi}$ is to turn by $\varphi$.


# %%
def turned(vector: torch.Tensor, position: int) -> torch.Tensor:
    """A query or a key [D] as it looks at its position."""
    speeds = config.rope_theta ** -(torch.arange(D // 2) * 2 / D)
    hands = torch.polar(torch.ones(D // 2), position * speeds)
    pairs = torch.complex(vector[: D // 2], vector[D // 2 :]) * hands
    return torch.cat((pairs.real, pairs.imag))


products = torch.stack([turned(query, T - 1) @ turned(key, then) for then, key in enumerate(keys)])
print("dot products of the last token's query with the last keys:", [round(p, 1) for p in products[-5:].tolist()])

# %% [markdown]
# ## Why scores are scaled
#
# A dot product is a sum of $D$ products, and if those are about as often above zero as below, the sum is about
# $\sqrt{D}$ times as large as one of them. What is done next, the *softmax*, raises $e$ to the power of each score and
# divides by the sum; it cares for *differences* of scores. With scores of $\pm 16$ the largest takes all, from the
# first day of training, and a head that looks at one thing only can learn nothing about the others. So scores are
# divided by $\sqrt{D}$.
#
# To watch this in the package we need to see where a module looks, and it hands out only its result. There is a trick:
# if each token's *value* says nothing but who it is, a 1 at its own place, then the mixture that one takes home is the
# list of the weights. A hook can put such values in.


# %%
def looks(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """Where the heads of a module look, [H, T, T]: the weight that each token (row) gives to each token (column)."""
    c, T = attention.config, len(x)
    places = torch.arange(T)[None]
    seen = causal_mask(places, places, c.sliding_window if c.layer_types[attention.layer] == SLIDING else None)
    weights = torch.zeros(c.num_attention_heads, T, T)
    for first in range(0, T, c.head_dim):  # a value has D places: D tokens at a time can say who they are
        marks = torch.zeros(1, T, c.num_key_value_heads, c.head_dim)
        for then in range(first, min(first + c.head_dim, T)):
            marks[0, then, :, then - first] = 1
        home = []
        put = attention.v_proj.register_forward_hook(lambda *_, marks=marks: marks.flatten(2))
        get = attention.o_proj.register_forward_pre_hook(lambda _, inputs, home=home: home.append(inputs[0][0]))
        attention(x[None], rope_angles(c, places), seen, None)
        put.remove()
        get.remove()
        mixture = home[0].view(T, c.num_attention_heads, c.head_dim).transpose(0, 1)
        weights[:, :, first : first + c.head_dim] = mixture[:, :, : T - first]
    return weights


# %% [markdown]
# Now three untrained modules with heads of different sizes, on random vectors. The weights' logarithms are the scores,
# up to a constant. They should be spread by about 1, whatever the size of a head.

# %%
noise = torch.randn(64, config.hidden_size)
for head_dim in (16, 64, 256):
    trial = Attention(replace(config, head_dim=head_dim, query_pre_attn_scalar=head_dim), layer=1)
    for parameter in trial.parameters():
        parameter.normal_(0, config.hidden_size**-0.5)  # so that queries and keys have a size of 1
    weights = looks(trial, noise)[:, -1]  # of the last token
    spread = weights.log().std()
    print(f"head_dim {head_dim:>3}: scores spread by {spread:.2f}, the largest weight is {weights.max():.2f}", end="; ")
    print(f"undivided it would be {(weights.log() * math.sqrt(head_dim)).softmax(-1).amax(-1).mean():.2f}")
    assert 0.7 < spread < 1.4
    assert weights.max() < 0.5  # every token still has a say

# %% [markdown]
# The number under the root stands in the configuration, as `query_pre_attn_scalar`, and it need not be `head_dim`: in
# gemma-2-27b it is 144 with heads of 128.

# %%
SCALAR_27B, HEAD_DIM_27B = 144, 128
print(f"gemma-2-27b divides by {math.sqrt(SCALAR_27B):.0f}, and not by {math.sqrt(HEAD_DIM_27B):.2f}")
scores = products / math.sqrt(config.query_pre_attn_scalar)
print("scores of the last token:", [round(s, 1) for s in scores[-5:].tolist()], "and the largest of all", end=" ")
print(f"{scores.max():.1f}")

# %% [markdown]
# ## The soft-cap
#
# Scaled or not, a trained head can become very sure of itself, and nothing bounds its scores: they may grow until one
# key silences all others for good. Gemma-2 bends all scores smoothly into the range between -50 and 50 ([Gemma team
# 2024](https://arxiv.org/abs/2408.00118)): $50 \tanh(s / 50)$. Small scores pass almost unchanged, and large ones grow
# ever more slowly. Differences in the tens, and with them a clear choice, remain possible; what ends is the race.

# %%
cap = config.attn_logit_softcapping or 50.0
raw = torch.linspace(-160, 160, 400)
figure, axis = plt.subplots(figsize=(7, 3.8))
axis.plot(raw, raw, color="grey", linestyle=":", label="uncapped")
axis.plot(raw, [cap * math.tanh(s / cap) for s in raw.tolist()], color="tab:blue", label="soft-capped")
axis.plot(
    scores, [cap * math.tanh(s / cap) for s in scores.tolist()], "o", color="tab:orange", label="our token's scores"
)
axis.set(xlabel="score", ylabel="score after the cap", ylim=(-80, 80), title=f"{cap:.0f} tanh(score / {cap:.0f})")
axis.axhline(cap, color="grey", linewidth=0.6)
axis.axhline(-cap, color="grey", linewidth=0.6)
axis.legend()
show(
    figure,
    "03-soft-cap",
    alt="An S-shaped curve: along the diagonal near zero, then bending towards 50 on the right and -50 on the left. "
    "The scores of our token lie on it from about -45 to 75, also where it bends.",
)
print("5 becomes", round(cap * math.tanh(5 / cap), 2), "and 500 becomes", round(cap * math.tanh(500 / cap), 2))

# %% [markdown]
# So past the cap all scores are alike. A key that scores 1,000 gets no more than one that scores 500; without the cap
# the first would silence the second entirely. The package's `attend` takes queries that are
# scaled already, so we can hand it exactly these scores, with values that say who they are.

# %%
one_query = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
two_keys = torch.tensor([[500.0, 0.0], [1000.0, 0.0]]).view(1, 1, 2, 2)
who = torch.eye(2).view(1, 1, 2, 2)
in_sight = torch.ones(1, 1, 1, 2, dtype=torch.bool)
both = attend(one_query, two_keys, who, in_sight, replace(config, attn_logit_softcapping=50.0))
print("scores 500 and 1000, weights", [round(weight, 4) for weight in both.flatten().tolist()])
assert torch.allclose(both.flatten(), torch.tensor([0.5, 0.5]), atol=1e-3)

# %% [markdown]
# The same in the loaded model. We make its queries a thousand times louder. A head then finds many keys past the cap,
# and cannot decide between them.

# %%
quiet = attention.q_proj.weight.clone()
attention.q_proj.weight.mul_(1000)
loud = looks(attention, x)[:, -1]  # of the last token
attention.q_proj.weight.copy_(quiet)
print("the largest weight of each head, shouting:", [round(weight, 2) for weight in loud.amax(-1).tolist()])
assert loud.amax(-1).median() < 0.5
assert (loud > 0.01).sum(-1).median() > 2  # several keys share

# %% [markdown]
# ## Who may be seen
#
# A model that predicts the next token must not see it. So a token looks at itself and at what came before, and at
# nothing later. That is true on all layers. On every second layer, called **sliding**, it looks back only a short way:
# its **window** $W$ holds itself and the $W - 1$ tokens before it. The others are called **full**. What is further back
# than the window can still be reached, through the full layers.

# %%
print(
    "layers:",
    [kind.removesuffix("_attention") for kind in config.layer_types[:6]],
    "and the window",
    config.sliding_window,
)
short = torch.arange(24)[None]
figure, axes = plt.subplots(1, 2, figsize=(8.5, 4.2))
for axis, title, window in zip(axes, ("a sliding layer, window 8", "a full layer"), (8, None), strict=True):
    axis.imshow(causal_mask(short, short, window)[0, 0], cmap="Blues", vmin=0, vmax=1.4)
    axis.set(title=title, xlabel="token that is looked at", ylabel="token that looks")
show(
    figure,
    "03-masks",
    alt="Two squares of 24 by 24 tokens. In a full layer everything on and below the diagonal is coloured; in a "
    "sliding layer only a band along the diagonal, 8 tokens wide.",
)

# %% [markdown]
# We ask the model itself. Of the loaded weights we take two layers, make the first sliding with a window of 8 and the
# second full, and let it read 20 tokens. Then we change one token at a time, and watch for whom anything changes.

# %%
W = 8
small = replace(config, num_hidden_layers=2, layer_types=(SLIDING, FULL), sliding_window=W)
with torch.device("meta"):  # a model without numbers; it is given those of the loaded one
    two = Gemma(small)
loaded = model.state_dict()
two.load_state_dict({name: loaded[name] for name in two.state_dict()}, assign=True)


def after_layers(ids: list[int]) -> list[torch.Tensor]:
    """What comes out of the first and of the second layer, [T, E] each."""
    out = []
    hooks = [layer.register_forward_hook(lambda *call: out.append(call[2][0])) for layer in two.model.layers]
    two(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return out


text = ids[:20]
stranger = next(id_ for id_ in range(config.vocab_size - 1, 0, -1) if id_ not in text)
before = after_layers(text)
reached = [[], []]  # for each layer: from how far back the last token heard of a change
for then in range(20):
    changed = after_layers([*text[:then], stranger, *text[then + 1 :]])
    for layer in range(2):
        differs = (changed[layer] - before[layer]).abs().amax(-1) > 1e-4
        assert not differs[:then].any()  # nobody saw what comes later
        if differs[-1]:
            reached[layer].append(19 - then)
print("the last token of the sliding layer hears from", reached[0][::-1], "tokens back")
print("and after the full layer from", reached[1][::-1])
assert reached[0] == [7, 6, 5, 4, 3, 2, 1, 0]
assert reached[1] == list(range(19, -1, -1))

# %% [markdown]
# The window pays in memory. While a model writes, it keeps the keys and values of what it has read; on a sliding layer
# it needs the last $W$ only.
#
# ## Order
#
# What if nothing were turned? Then the last token would see the others as the contents of a bag: its scores depend on
# what they are, and a mixture has no order. We give the attention of the first of our two layers angles of zero, and
# exchange two of the vectors that it reads, both within the window:

# %%
unturned = (torch.ones(1, 1, 20, D), torch.zeros(1, 1, 20, D))  # the cosines and sines of no turn at all
read = given[0][:20]
mixed = read[[*range(14), 17, 15, 16, 14, 18, 19]]
near = causal_mask(torch.arange(20)[None], torch.arange(20)[None], W)
bag, shaken = (two.model.layers[0].self_attn(vectors[None], unturned, near, None)[0, -1] for vectors in (read, mixed))
print(f"nothing turned: the last token's result moves by {(bag - shaken).abs().max():.0e}")
assert torch.allclose(bag, shaken, atol=1e-4)

# %% [markdown]
# The turning gives the bag an order. The same exchange in the layer as it is, of the two pieces themselves:

# %%
first, second = text[-6], text[-3]
assert first != second
swapped = [*text[:-6], second, *text[-5:-3], first, *text[-2:]]
change = (after_layers(swapped)[0][-1] - before[0][-1]).abs().max()
print(f"exchange {tokenizer.decode([first])!r} and {tokenizer.decode([second])!r}:", end=" ")
print(f"the last token's vector moves by {change:.2f}")
assert change > 0.05

# %% [markdown]
# ## Grouped queries
#
# Keys and values are what fills the memory of a model that writes. So Gemma lets several heads share them
# ([Ainslie et al. 2023](https://arxiv.org/abs/2305.13245)): $H$ heads ask, but there are only $K$ sets of keys and
# values, and neighbouring heads use the same one. Head $h$ looks at set $\lfloor h / (H / K) \rfloor$.

# %%
print(f"here {H} heads on {K} sets:", {head: head // (H // K) for head in range(H)})
LAYERS, SETS, HEADS, HEAD_DIM, BYTES = 26, 4, 8, 256, 2
per_token = LAYERS * 2 * SETS * HEAD_DIM * BYTES
print(f"gemma-2-2b keeps {per_token:,} bytes for each token; without sharing {per_token * HEADS // SETS:,}")

usual = looks(attention, x)
part(attention.k_proj.weight, 0).mul_(2)  # other keys, in the first set
other = looks(attention, x)
part(attention.k_proj.weight, 0).div_(2)
follow = [head for head in range(H) if (other[head] - usual[head]).abs().max() > 1e-4]
print("heads that look elsewhere when the first set's keys change:", follow)
assert follow == list(range(H // K))

# %% [markdown]
# ## All of it
#
# One head of one layer, one token at a time: scores for what may be seen, capped; the softmax; the mixture of values.
# The mixtures of all heads, end to end, go through a last matrix, which turns them into a vector of the old width.


# %%
def one_head(attention: Attention, x: torch.Tensor, head: int) -> torch.Tensor:
    """What one head takes home for each token, [T, D]."""
    shared = head // (H // K)
    window = config.sliding_window if config.layer_types[attention.layer] == SLIDING else len(x)
    q, k, v = (
        [part(matrix, number) @ vector for vector in x]
        for matrix, number in (
            (attention.q_proj.weight, head),
            (attention.k_proj.weight, shared),
            (attention.v_proj.weight, shared),
        )
    )
    k = [turned(key, position) for position, key in enumerate(k)]
    home = []
    for now in range(len(x)):
        past = range(max(0, now - window + 1), now + 1)
        asking = turned(q[now], now) / math.sqrt(config.query_pre_attn_scalar)
        score = [cap * math.tanh(float(asking @ k[then]) / cap) for then in past]
        share = torch.tensor(score).softmax(0)
        home.append(sum(weight * v[then] for weight, then in zip(share, past, strict=True)))
    return torch.stack(home)


def attention_of(attention: Attention, x: torch.Tensor) -> torch.Tensor:
    """[T, E] -> [T, E]"""
    return torch.cat([one_head(attention, x, head) for head in range(H)], dim=1) @ attention.o_proj.weight.T


print("one token's result:", [round(number, 3) for number in attention_of(attention, x)[-1, :5].tolist()], "…")

# %% [markdown]
# ## A head that copies
#
# So much machinery: what does it find? Two layers of the embedded model together do what [Olsson et al.
# 2022](https://arxiv.org/abs/2209.11895) call *induction*. In layer 2 (we count from 0) one head looks at the token
# just before, whoever stands there, and another at the one before that. This is possible because of the turning. In the
# last layer, a head then finds the place where what was just written stood before, and looks at what came *after* it.

# %%
if EMBEDDED:
    print("the model's own answer:", tokenizer.decode(minifc.generate(model, ids[: -len(answer)])[0]))
    assert minifc.generate(model, ids[: -len(answer)]) == [answer]  # how it does that is lesson 6

    back = looks(model.model.layers[2].self_attn, given[2])
    for head in (3, 2):
        distance = (torch.arange(T) - back[head].argmax(-1))[16:]
        usual = int(distance.mode().values)
        print(f"layer 2, head {head}: {usual} back, for {(distance == usual).float().mean():.0%} of the tokens")
    previous = back[3].argmax(-1)
    assert ((torch.arange(T) - previous)[16:] == 1).float().mean() > 0.95

    copying = looks(model.model.layers[3].self_attn, given[3])[0]
    start = T - len(answer)
    figure, axis = plt.subplots(figsize=(12, 3.9))
    image = axis.imshow(copying[start - 1 : -1], cmap="Blues", aspect="auto", vmin=0, vmax=1)
    names = [piece.replace("\n", "⏎").replace(" ", "␣").strip("<>") for piece in pieces]
    axis.set_xticks(range(T), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(answer)), [f"before {name}" for name in names[start:]], fontsize=8)
    axis.set(title="layer 3, head 0: where it looks as the answer is written", xlabel="token that is looked at")
    figure.colorbar(image, ax=axis, pad=0.01)
    show(
        figure,
        "03-copying",
        alt="A map with a row for each token of the answer. Where the name is written, dark cells run down a diagonal: "
        "before each piece of Nina Zorbel the head looks at that very piece in the record.",
    )
    hits = [(pieces[now + 1], pieces[int(copying[now].argmax())]) for now in range(T - 9, T - 2)]
    print("about to write, looking at:", hits)
    assert all(written == source for written, source in hits)
    assert int(copying[T - 9].argmax()) < 30  # it looks at the record, and not at the question or the answer

# %% [markdown]
# Do the two belong together? Take out what the head that looks one back brings home, and see where the other looks now:

# %%
if EMBEDDED:
    brought = model.model.layers[2].self_attn.o_proj.weight[:, 3 * D : 4 * D]
    kept = brought.clone()
    brought.zero_()
    lost = looks(model.model.layers[3].self_attn, given_to_attention()[3])[0]
    brought.copy_(kept)
    found = sum(pieces[now + 1] == pieces[int(lost[now].argmax())] for now in range(T - 9, T - 2))
    print(f"looks at the piece to be copied: {len(hits)} of {len(hits)} times before, {found} times now")
    assert found <= 4

# %% [markdown]
# A tool call is mostly this: names and values, copied from where the conversation has them.
#
# ## The package's own
#
# `Attention` in [`minifc/gemma/model.py`](../minifc/gemma/model.py) takes all heads, tokens and rows of a batch in two
# multiplications of matrices. It cuts long texts into spans, so that what nobody can see is not computed. On every
# layer it gives what our loops give, also past the window.

# %%
places = torch.arange(T)[None]
for layer, block in enumerate(model.model.layers[:4]):
    window = config.sliding_window if config.layer_types[layer] == SLIDING else None
    theirs = block.self_attn(
        given[layer][None], rope_angles(config, places), causal_mask(places, places, window), None
    )[0]
    ours = attention_of(block.self_attn, given[layer])
    apart = (ours - theirs).abs().max() / theirs.abs().max()
    print(f"layer {layer}, {config.layer_types[layer]}: largest difference {apart:.0e} of the largest value")
    assert apart < 1e-4

# %% [markdown]
# **Exercises** (`lessons/exercises/03_attention.py`, then `python -m lessons.check 03`): from scores to weights; who
# sees whom; find the keys of a head.
#
# **Next:** attention becomes half of a block, and blocks become a model.
