# %% [markdown]
# # 6. Decoding with a cache
#
# *How does a model that only scores the next token write a text, and why need it not start over for each one?*
#
# A model reads a text and scores what could come next. To write, we pick one piece, put it at the end, and ask again.
# That is called **decoding**, and it is a loop of three lines. This lesson writes the loop, sees how wasteful it is,
# and mends that. Then it looks at the other half of the matter, how a piece is picked.

# %%
import math

import matplotlib.pyplot as plt
import torch
from lesson import EMBEDDED, MODEL, show

import minifc
from minifc.gemma.config import SLIDING

torch.set_grad_enabled(False)
tokenizer = minifc.load_tokenizer(MODEL)
model = minifc.load_model(MODEL, dtype=torch.float32)
config = model.config


def question(text: str) -> list[int]:
    """A user's turn, and the beginning of the model's."""
    return [
        *tokenizer.encode("<bos><start_of_turn>user\n", control_tokens=True),
        *tokenizer.encode(text),
        *tokenizer.encode("<end_of_turn>\n<start_of_turn>model\n", control_tokens=True),
    ]


record = 'Here is a record.\n{"singer": "Nina Zorbel", "year": 1958, "city": "Plovdiv"}\n\nSay the singer and the city.'
prompt = question(record)
print(f"a question of {len(prompt)} tokens, and a window of {config.sliding_window}")

# %% [markdown]
# ## Three lines
#
# When does it end? The model says so: it has learned to write `<end_of_turn>` when it is done. Gemma's configuration
# lists the ids that end a text, the **stop ids**. Whoever forgets one of them gets a model that answers, and then goes
# on to ask itself the next question.
#
# While it works we count how many tokens the model computes. That is what costs time, and unlike seconds the count is
# the same on every machine.

# %%
computed = 0


def count(decoder: torch.nn.Module, inputs: tuple) -> None:
    global computed
    computed += inputs[0].numel()


model.model.register_forward_pre_hook(count)
STOP = config.eos_token_id
print("stop ids:", {id_: tokenizer.decode([id_]) for id_ in STOP})


def write(prompt: list[int], at_most: int = 64) -> list[int]:
    """The plainest decoding there is: always the likeliest piece, and every time from the beginning."""
    ids = list(prompt)
    while len(ids) < len(prompt) + at_most:
        new = int(model(torch.tensor([ids]))[0, -1].argmax())
        if new in STOP:
            break
        ids.append(new)
    return ids[len(prompt) :]


answer = write(prompt, at_most=32)
plain_cost = computed
print(tokenizer.decode(answer))
print(f"{len(prompt)} tokens read, {len(answer)} written, {plain_cost:,} computed")
if EMBEDDED:
    assert tokenizer.decode(answer) == "The singer is Nina Zorbel. The city is Plovdiv."

# %% [markdown]
# Always to take the likeliest is called **greedy**. For tool calls it is what one wants: there is one right call.
#
# ## What is computed twice
#
# To write one token we compute all the tokens before it, again. Is that needed? No token sees what comes later, and so
# nothing that is computed for a token changes when the text goes on. We can watch that: what comes out of every layer
# is, for the tokens of the question, the same with the answer and without.

# %%
seen = []
hooks = [layer.register_forward_hook(lambda _, inputs, output: seen.append(output[0])) for layer in model.model.layers]
model(torch.tensor([prompt]))
model(torch.tensor([prompt + answer]))
for hook in hooks:
    hook.remove()
half = len(seen) // 2
for number, (without, with_answer) in enumerate(zip(seen[:half], seen[half:], strict=True)):
    change = (with_answer[: len(prompt)] - without).abs().max() / without.abs().max()
    if number < 4:
        print(f"layer {number}: the question's vectors move by {change:.0e} when the answer follows")
    assert change < 1e-4

# %% [markdown]
# So every token can be computed once. But later tokens *look* at earlier ones. What do they need from them? Only what
# attention asks for: their keys and values, on every layer. If we keep those, a new token is one token's work. This
# store is the **KV cache**.
#
# ## A cache out of lists
#
# We write it so plainly that nothing can hide: for each layer a list of keys and a list of values, and a function that
# takes *one* token through the model. With one token at a time even attention becomes simple. There is no mask, because
# what is in the list is what may be seen.
#
# On a sliding layer only the last $W$ tokens can be seen, the new one among them. So there the list never needs to be
# longer than that: when a token comes in at the end, the oldest goes out at the front.


# %%
class Lists:
    """Keys and values of what was read: for each layer a list with an entry [K, D] for each token."""

    def __init__(self) -> None:
        self.keys: list[list[torch.Tensor]] = [[] for _ in config.layer_types]
        self.values: list[list[torch.Tensor]] = [[] for _ in config.layer_types]
        self.length = 0  # how many tokens were read: the position of the next


def turned(x: torch.Tensor, position: int) -> torch.Tensor:
    """Queries or keys [heads, D] at a position."""
    half = config.head_dim // 2
    angle = position * config.rope_theta ** -(torch.arange(half) / half)
    a, b = x[:, :half], x[:, half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), 1)


def attention(part: torch.nn.Module, number: int, x: torch.Tensor, lists: Lists) -> torch.Tensor:
    """One new token's attention, x [E] -> [E]. Its key and value are added to the lists."""
    keys, values = lists.keys[number], lists.values[number]
    keys.append(turned(part.k_proj(x).view(-1, config.head_dim), lists.length))
    values.append(part.v_proj(x).view(-1, config.head_dim))
    if config.layer_types[number] == SLIDING and len(keys) > config.sliding_window:
        keys.pop(0)
        values.pop(0)
    queries = turned(part.q_proj(x).view(-1, config.head_dim), lists.length) / config.query_pre_attn_scalar**0.5
    home = []
    for head, query in enumerate(queries):
        shared = head * config.num_key_value_heads // config.num_attention_heads
        scores = torch.stack([query @ key[shared] for key in keys])
        weights = (50 * torch.tanh(scores / 50)).softmax(0)
        home.append(sum(weight * value[shared] for weight, value in zip(weights, values, strict=True)))
    return part.o_proj(torch.cat(home))


def step(id_: int, lists: Lists) -> torch.Tensor:
    """One token through the whole model: the logits [V] of what comes after it."""
    x = model.model.embed_tokens.weight[id_] * math.sqrt(config.hidden_size)
    for number, layer in enumerate(model.model.layers):
        heard = attention(layer.self_attn, number, layer.input_layernorm(x), lists)
        x = x + layer.post_attention_layernorm(heard)
        x = x + layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(x)))
    lists.length += 1
    return model.logits(model.model.norm(x)[None])[0]


lists = Lists()
for id_ in prompt:  # first it has to read
    logits = step(id_, lists)
by_lists, steps = [], len(prompt)
while (new := int(logits.argmax())) not in STOP and len(by_lists) < 32:
    by_lists.append(new)
    logits = step(new, lists)
    steps += 1
print(tokenizer.decode(by_lists))
print(f"{steps} tokens computed instead of {plain_cost:,}: {plain_cost / steps:.0f} times fewer")
assert by_lists == answer
assert steps == len(prompt) + len(answer)
kept = [len(keys) for keys in lists.keys]
print("entries in each layer's list:", kept)
assert max(kept) == lists.length
if EMBEDDED:
    assert min(kept) == config.sliding_window < lists.length

# %% [markdown]
# How does the saving grow? Say that $n$ pieces are picked after a question of $p$ tokens. Without a cache that costs
# $p + (p+1) + \ldots$, a sum that grows with the square of $n$. With a cache it is $p + n - 1$: the last one that is
# picked, here the stop id, need not be read.

# %%
p, picks = len(prompt), min(len(answer) + 1, 32)
assert plain_cost == sum(p + i for i in range(picks))
if EMBEDDED:  # it stopped of itself
    assert steps == p + picks - 1

figure, axes = plt.subplots(1, 2, figsize=(11, 3.6))
lengths = range(1, 302)
axes[0].plot(
    lengths, [sum(p + i for i in range(n)) for n in lengths], color="tab:red", label="from the beginning each time"
)
axes[0].plot(lengths, [p + n - 1 for n in lengths], color="tab:blue", label="with a cache")
axes[0].set(xlabel="tokens picked", ylabel="tokens computed", title=f"after a question of {p} tokens")
axes[0].legend()
axes[1].plot(lengths, lengths, color="tab:blue", label="a full layer")
window = min(config.sliding_window, 64)
axes[1].plot(lengths, [min(n, window) for n in lengths], color="tab:orange", label=f"a sliding layer, window {window}")
axes[1].set(xlabel="tokens read and written", ylabel="entries kept", title="what the cache holds")
axes[1].legend()
show(
    figure,
    "06-cost",
    alt="Left: tokens computed against tokens picked; without a cache a steep curve, with one a line near the floor. "
    "Right: entries kept; on a full layer a rising line, on a sliding layer a line that turns flat at the window.",
)

LAYERS, SETS, HEAD_DIM, BYTES, WINDOW, CONTEXT = 26, 4, 256, 2, 4_096, 8_192
full = LAYERS * 2 * SETS * HEAD_DIM * BYTES * CONTEXT
ring = LAYERS // 2 * 2 * SETS * HEAD_DIM * BYTES * (CONTEXT + WINDOW)
print(f"gemma-2-2b at {CONTEXT:,} tokens: {full / 2**20:,.0f} MiB if all is kept, {ring / 2**20:,.0f} MiB with windows")

# %% [markdown]
# ## A ring
#
# Lists are slow: taking out the first entry moves all the others. The package keeps a block of memory with $W$ places
# for a sliding layer, and writes token $n$ into place $n \bmod W$, over the one that has just gone out of sight. That
# is called a **ring**. The entries are then out of order, but attention does not mind: keys were turned when they came
# in, and so each carries its position with it. Apart from that, a mixture has no order (lesson 3).

# %%
places = ["  "] * 5
for number in range(12):
    places[number % 5] = f"{number:>2}"
    if number >= 7:
        print(f"a ring of 5 after token {number:>2}:", " ".join(places))

# %% [markdown]
# `minifc.KVCache` is such a store, for one text or several side by side, up to a length. A call of the model with a
# cache reads what is in it, adds the new tokens, and goes on where it stood. We can hand it the question in one piece,
# which is how one does it, since a whole text at once is quick to compute; or in several; or a token at a time.
# Whatever the pieces, the last logits must be those of reading everything anew. The text is three times as long as the
# embedded model's window, so that the ring goes round.

# %%
long = (prompt * 9)[: 3 * 64 + 5]
anew = model(torch.tensor([long]))[0, -1]
for sizes in ([len(long)], [100, 60, len(long) - 160], [len(long) - 3, 1, 1, 1], [1] * len(long)):
    cache = minifc.KVCache(config, max_length=len(long))
    start = 0
    for length in sizes:
        continued = model(torch.tensor([long[start : start + length]]), cache=cache)[0, -1]
        start += length
    gap = float((continued - anew).abs().max() / anew.abs().max())
    print(f"{len(long)} tokens in {len(sizes):>3} pieces: the last logits differ by {gap:.0e} of the largest")
    assert gap < 1e-4
    assert cache.length == len(long)

# %% [markdown]
# ## Picking
#
# Greedy is not the only way. To see something livelier we can **sample**: draw the next piece by its probability, which
# the softmax of the logits gives. Two knobs belong to it.
#
# The **temperature** divides the logits before the softmax. Below 1 differences grow and the likely becomes likelier;
# above 1 they shrink, and the choice becomes more even. As it goes to 0, sampling becomes greedy.


# %%
def probabilities(logits: list[float], temperature: float) -> list[float]:
    top = max(logits)  # taking the largest away changes nothing and keeps e to the power of it small
    raised = [math.exp((score - top) / temperature) for score in logits]
    total = sum(raised)
    return [number / total for number in raised]


for temperature in (0.01, 0.5, 1.0, 2.0):
    print(temperature, [round(chance, 3) for chance in probabilities([4.0, 3.0, 2.0, 0.0], temperature)])

# %% [markdown]
# The course asks with a temperature of 0.01. That is greedy in all but name.
#
# **Top-p** cuts off the tail ([Holtzman et al. 2019](https://arxiv.org/abs/1904.09751)). Many thousand unlikely pieces
# together are not so unlikely, and any of them would spoil the text. Sort by probability, keep from the top until those
# kept reach $p$ together, and draw among them only. The piece that crosses the line is kept.


# %%
def top_p(chances: list[float], p: float) -> list[float]:
    """The chances that are left, of the same length: 0 for what was cut off."""
    kept, together = set(), 0.0
    for id_ in sorted(range(len(chances)), key=lambda id_: -chances[id_]):
        if together >= p:
            break
        kept.add(id_)
        together += chances[id_]
    return [chance / together if id_ in kept else 0.0 for id_, chance in enumerate(chances)]


print("top-p 0.9 of 0.5, 0.3, 0.15, 0.05:", [round(chance, 3) for chance in top_p([0.5, 0.3, 0.15, 0.05], 0.9)])


def sample(prompt: list[int], temperature: float, p: float, seed: int, at_most: int = 24) -> list[int]:
    """Draw a text, with the lists for a cache."""
    dice = torch.Generator().manual_seed(seed)
    lists, written = Lists(), []
    for id_ in prompt:
        logits = step(id_, lists)
    while len(written) < at_most:
        chances = top_p(probabilities(logits.tolist(), temperature), p)
        new = int(torch.multinomial(torch.tensor(chances), 1, generator=dice))
        if new in STOP:
            break
        written.append(new)
        logits = step(new, lists)
    return written


greeting = question("Good morning.")
for temperature in (0.01, 3.0):
    drawn = [tokenizer.decode(sample(greeting, temperature, 0.95, seed)) for seed in range(3)]
    print(f"temperature {temperature}:", drawn)
    if temperature < 1:
        assert set(drawn) == {tokenizer.decode(write(greeting, at_most=24))}  # greedy
    elif EMBEDDED:
        assert len(set(drawn)) == 3

# %% [markdown]
# At a temperature of 3 our small model strays; and it strays into nonsense, for it knows little else to say.
#
# ## The package's own
#
# `minifc.generate` in [`minifc/gemma/generate.py`](../minifc/gemma/generate.py) is this loop with
# [`KVCache`](../minifc/gemma/cache.py), for several prompts at once. They need not be equally long: shorter ones are
# filled up with padding that nobody sees. It gives what our loops give, and computes each token once: the last one it
# picks is never read.

# %%
computed = 0
theirs = minifc.generate(model, prompt, max_new_tokens=32)[0]
print(f"{computed} tokens computed for {len(prompt)} read and {len(theirs)} written")
assert theirs == answer == by_lists
assert computed == len(prompt) + picks - 1

together = minifc.generate(model, [prompt, greeting], max_new_tokens=24)
assert together == [answer[:24], write(greeting, at_most=24)]
print("side by side:", [tokenizer.decode(row) for row in together])

for seed in range(3):
    ours = sample(greeting, 3.0, 0.95, seed)
    assert minifc.generate(model, greeting, 24, temperature=3.0, top_p=0.95, seed=seed) == [ours]

# %% [markdown]
# And its cache stands in for our lists: filled with the same text, both go on in the same way, token after token.

# %%
cache = minifc.KVCache(config, max_length=len(prompt) + len(answer) + 20)
model(torch.tensor([prompt + answer]), cache=cache)
for id_ in tokenizer.encode(" Say the year and the singer again.")[:20]:
    ours, theirs = step(id_, lists), model(torch.tensor([[id_]]), cache=cache)[0, -1]
    assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert cache.length == lists.length
print(f"{lists.length} tokens in both")

# %% [markdown]
# **Exercises** (`lessons/exercises/06_decoding.py`, then `python -m lessons.check 06`): cut off the tail; fill a ring;
# count what is computed.
#
# **Next:** the second part begins. What has such a model learned before it comes to us, and what not?
