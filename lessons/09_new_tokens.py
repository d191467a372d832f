# %% [markdown]
# # 9. New tokens
#
# *What does it take to give a model a word that it has never seen?*
#
# The template of the last lesson writes tags: `<think>`, `<tool_call>` and their like. So far each is a few pieces of
# ordinary text. The course makes each of them one token. This lesson does it by hand, looks at what it costs, and at
# the question that everybody trips over: with which numbers should a new token begin?

# %%
import random
import re
from collections import Counter

import torch
import torch.nn.functional as F
from lesson import CALLER, EMBEDDED, MODEL, show
from matplotlib import pyplot as plt

import minifc
from minifc.data import toy
from minifc.data.audit import unknown_tags
from minifc.text.calls import TAGS

tokenizer = minifc.load_tokenizer(MODEL)
model = minifc.load_model(MODEL, dtype=torch.float32).requires_grad_(False)
table = model.model.embed_tokens.weight  # [V, E]
V, E = table.shape

# %% [markdown]
# ## A tag in pieces


# %%
def pieces(text, words=tokenizer):
    return [words.decode([id_]) for id_ in words.encode(text)]


for tag in TAGS:
    print(f"{tag:17} {pieces(tag)}")

# %% [markdown]
# That can work: a model can learn to spell. But it has three drawbacks.
#
# *It is long.* Every call costs a dozen tokens before it says anything, and each of them is a chance to go wrong.
#
# *It has no edges.* In Gemma's vocabulary punctuation grows together with its neighbours, so that the same tag has
# other pieces after a full stop, after a space or beside another tag. Where does it begin? That depends.

# %%
BETWEEN = "I need a song.</think><tool_call>\n"
OFFICIAL = ["I", " need", " a", " song", ".</", "think", "><", "tool", "_", "call", ">", "\n"]  # `><` of two tags
print("here:   ", pieces(BETWEEN))
print("Gemma-2:", OFFICIAL)
assert EMBEDDED or pieces(BETWEEN) == OFFICIAL

# %% [markdown]
# *Anybody can write it.* A user who types `<tool_call>` writes the same ids as the model. What decides whether a
# program runs something should not be a matter of spelling.
#
# ## One token each
#
# Give each tag the next free number, and look for tags before anything else is encoded:

# %%
new = {tag: V + number for number, tag in enumerate(TAGS)}
print(new)


def encode(text: str, tags_count: bool) -> list[int]:
    """Ids in which a tag is one id, if it is one of ours: otherwise its spelling stays text."""
    if not tags_count:
        return tokenizer.encode(text)
    ids = []
    for part in re.split("(" + "|".join(map(re.escape, new)) + ")", text):
        ids += [new[part]] if part in new else tokenizer.encode(part) if part else []
    return ids


call = '<think>I need a song.</think><tool_call>\n{"name": "find_song"}\n</tool_call>'
print(len(tokenizer.encode(call)), "tokens in pieces,", len(encode(call, tags_count=True)), "with tags as tokens")

extended = minifc.load_tokenizer(MODEL)
assert extended.add_tokens(list(TAGS)) == list(new.values())
assert encode(call, tags_count=True) == extended.encode(call, control_tokens=True)
assert encode(call, tags_count=False) == extended.encode(call)  # somebody's message
assert not set(extended.encode(call)) & set(new.values())

# %% [markdown]
# ## A larger table
#
# The tokenizer now writes ids that the model has no row for. The usual way is to **resize the embedding**: make a
# table with more rows, copy the old ones, and put something in the new. Gemma's table serves twice, for reading (an
# id's row) and for writing (a score for each row), so that one row gives a token both.


# %%
def resize(rows: torch.Tensor) -> torch.Tensor:
    """The table with new rows below: a new tensor, [V + N, E]."""
    larger = torch.empty(V + len(rows), E)
    larger[:V] = table
    larger[V:] = rows
    return larger


start = torch.stack([table[tokenizer.encode(tag)].mean(0) for tag in TAGS])  # for now: the mean of the tag's own pieces
larger = resize(start)
print(tuple(table.shape), "->", tuple(larger.shape))

# %% [markdown]
# Old rows are as they were. (Whether the model is, too, depends on what is in the new ones; we come to that.) But count
# what that costs with the real one. A table of 256,008 rows is made beside the one of 256,000, copied, and if it is to
# be trained then all of it is: a gradient and two numbers of the optimiser (lesson 13) for every number of every row,
# though eight rows are new.

# %%
ROWS, NEW, WIDTH, BYTES = 256_000, 8, 2304, 2  # gemma-2-2b in bf16
numbers = (ROWS + NEW) * WIDTH
print(f"{ROWS + NEW:,} rows: {numbers:,} numbers, a copy of {numbers * BYTES / 1e9:.2f} GB")
print(f"{NEW / (ROWS + NEW):.4%} of it is new")
print(f"gradients and the optimiser's two numbers, 12 bytes in all: {numbers * 12 / 1e9:.1f} GB more", end=", ")
print(f"for eight rows {NEW * WIDTH * 12 / 1e3:.0f} kB")
assert numbers == 589_842_432

# %% [markdown]
# ## A small table beside it
#
# Nothing forces the new rows to lie in the old table. Leave it frozen, and keep the 8 rows beside it. Reading: ids
# below $V$ from the old table, the others from the new. Writing: scores from both, side by side.

# %%
rows = start.clone()


def lookup(ids: torch.Tensor) -> torch.Tensor:
    """[T] -> [T, E]"""
    found = torch.empty(len(ids), E)
    for place, id_ in enumerate(ids.tolist()):
        found[place] = table[id_] if id_ < V else rows[id_ - V]
    return found


def scores(hidden: torch.Tensor) -> torch.Tensor:
    """[T, E] -> [T, V + N]"""
    return torch.cat([hidden @ table.T, hidden @ rows.T], dim=1)


ids = torch.tensor(encode(call, tags_count=True))
hidden = torch.randn(5, E, generator=torch.Generator().manual_seed(0))
assert torch.equal(lookup(ids), larger[ids])
assert torch.allclose(scores(hidden), hidden @ larger.T, atol=1e-4)

taught, words = minifc.load_model(MODEL, dtype=torch.float32), minifc.load_tokenizer(MODEL)
assert minifc.add_tokens(taught, words, list(TAGS), init="pieces") == list(new.values())
vocabulary = taught.model.embed_tokens
assert torch.allclose(vocabulary.lookup(ids), larger[ids])
assert torch.allclose(vocabulary.project(hidden), hidden @ larger.T, atol=1e-4)
print([f"{name} {list(p.shape)}" for name, p in vocabulary.named_parameters() if p.requires_grad])

# %% [markdown]
# The same function, without a copy. That is [minifc/tuning/vocab.py](../minifc/tuning/vocab.py). When the model is
# done, `minifc.merge` writes one ordinary table, and nobody who loads it can tell.
#
# ## Reusing what lies idle
#
# A third way grows nothing at all. Gemma's makers kept some ids free: `<unused0>` to `<unused98>`. They have rows, and
# no text has ever used them. Rename eight, and you have eight tokens.

# %%
unused = [id_ for name, id_ in tokenizer.control.items() if name.startswith("<unused")]
reusing = minifc.load_tokenizer(MODEL)
taken = reusing.add_tokens(list(TAGS), reuse_unused=True)
print(len(unused), "idle ids; the tags would get", taken)
assert taken == unused[:8]
assert reusing.size == V  # the table keeps its size
unit = F.normalize(table[unused].float(), dim=1)
alike = (unit @ unit.T)[~torch.eye(len(unused), dtype=bool)]
others = F.normalize(table[-200:].float(), dim=1)
pairs = (others @ others.T)[~torch.eye(200, dtype=bool)]
print(f"cosine of two idle rows {alike.mean():.3f}, of two ordinary ones {pairs.mean():.3f}")
if EMBEDDED:
    assert alike.min() > 0.99
    assert pairs.mean() < 0.7
    assert table[unused].norm(dim=1).mean() > 2 * table.norm(dim=1).median()

# %% [markdown]
# The advantage is that every program which knows the model's shape still fits. The drawback is what these rows hold.
# They started at random, but in the embedded model they point nearly the same way now, and are twice as long as others
# or longer. Training did that: at every token that it learned from, it pushed down the score of all ids that did *not*
# come, and these never came. They have learned one thing, not to be written. So a reused row too should be given
# another beginning.
#
# ## Where to begin
#
# Now the question from above. Candidates for the first numbers of a new row:
#
# - **zeros**;
# - **random**, as a fresh `nn.Embedding` is: a normal distribution with a standard deviation of 1;
# - **mean** of all rows of the table ([Hewitt 2021](https://nlp.stanford.edu/~johnhew/vocab-expansion.html));
# - **around the mean**, what transformers does when it resizes: the mean and a trace of noise, so that rows differ;
# - **pieces**: the mean of the rows of the tag's own spelling;
# - **reused as they are**: the rows of idle ids, untouched.

# %%
noise = torch.randn(len(TAGS), E, generator=torch.Generator().manual_seed(0))
mean = table.mean(0)
starts = {
    "zeros": torch.zeros(len(TAGS), E),
    "random": noise,
    "mean": mean.repeat(len(TAGS), 1),
    "around the mean": mean + 1e-3 * table.std(0) * noise,
    "pieces": start,
    "reused as they are": table[taken].clone(),
}
print("length of a row of the table:", f"{table.norm(dim=1).median():.1f}")
for name, begin in starts.items():
    print(f"{name:18} length {begin.norm(dim=1).mean():.1f}")

# %% [markdown]
# Put each of them into the model and measure three things before any training. On chats without tools: how much
# probability do the eight newcomers **steal** from what should be said, and what is the loss? On conversations with
# tools: the loss of what the model should write, for the new tokens themselves and for all others.


# %%
def with_rows(begin):
    """The model with new rows that begin so."""
    student, words = minifc.load_model(MODEL, dtype=torch.float32).requires_grad_(False), minifc.load_tokenizer(MODEL)
    minifc.add_tokens(student, words, list(TAGS))
    student.model.embed_tokens.rows.data.copy_(begin)
    return student


def learned(student, rendered):
    """Log-chances [n, V + N] at the learned tokens, and these tokens."""
    ids, mask = torch.tensor(rendered.ids), torch.tensor(rendered.mask)
    return student(ids[None])[0, :-1][mask[1:]].log_softmax(-1), ids[1:][mask[1:]]


cases = sorted(toy.training_cases(80, seed=5), key=lambda case: len(str(case.row())))[:24]  # short ones, to be quick
random.Random(0).shuffle(cases)
talks = [minifc.render(case.messages()[:2], words, case.tools, format="gemma") for case in cases]
chats = [minifc.render(toy.chat_document(random.Random(f"chat {n}")), words, format="gemma") for n in range(6)]

print(f"{'':18} stolen in chats | loss of chats | loss of new tokens | of the others")
found = {}
with torch.no_grad():
    for name, begin in starts.items():
        student = with_rows(begin)
        chances = [learned(student, chat) for chat in chats]
        stolen = torch.cat([c[:, V:].exp().sum(1) for c, _ in chances]).mean()
        chat = torch.cat([-c.gather(1, t[:, None]) for c, t in chances]).mean()
        chances, targets = zip(*[learned(student, talk) for talk in talks[:8]], strict=True)
        losses = torch.cat([-c.gather(1, t[:, None])[:, 0] for c, t in zip(chances, targets, strict=True)])
        is_new = torch.cat(targets) >= V
        found[name] = [float(x) for x in (stolen, chat, losses[is_new].mean(), losses[~is_new].mean(), losses.mean())]
        print(f"{name:18} {found[name][0]:15.1e} | {chat:13.4f} | {found[name][2]:18.2f} | {found[name][3]:13.2f}")

# %% [markdown]
# *Random* is ruinous. Such a row is more than three times as long as an ordinary one and points anywhere; a long row
# has a loud voice in every score. In chats that have nothing to do with tools, the newcomers take more than half
# of the probability, and what the model knew is shouted down. Old rows are unharmed, and yet the old model is gone.
#
# All others leave the chats alone. *Mean* is the neutral choice: its score is the average of all scores, so it can be
# nobody's favourite. Its newcomers are a surprise when they come, more than *zeros* are, whose score is 0 where most
# others are far below. On this table alone, zeros would win. But what counts is how things go on.

# %%
if EMBEDDED:
    assert torch.allclose(hidden @ mean, (hidden @ table.T).mean(1), atol=1e-3)
    assert found["random"][0] > 0.5  # more than half of the probability
    assert found["random"][1] > 50 * found["mean"][1]
    assert all(found[name][0] < 1e-4 for name in starts if name != "random")
    assert found["zeros"][2] < found["pieces"][2] < found["mean"][2]
    assert starts["random"].norm(dim=1).mean() > 3 * table.norm(dim=1).median()

# %% [markdown]
# ## How things go on
#
# Train the eight rows alone, everything else frozen, for twenty steps of one conversation each.


# %%
def train_rows(begin, steps=20):
    """The loss at each step, and the model."""
    student = with_rows(begin)
    rows = student.model.embed_tokens.rows.requires_grad_()
    optimizer = torch.optim.Adam([rows], lr=0.1)
    history = []
    for step in range(steps):
        chances, targets = learned(student, talks[step % 20])
        loss = F.nll_loss(chances, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history, student


if EMBEDDED:
    curves, unseen = {}, {}
    for name in ("zeros", "random", "mean", "pieces"):
        curves[name], student = train_rows(starts[name])
        with torch.no_grad():
            unseen[name] = sum(float(F.nll_loss(*learned(student, talk))) for talk in talks[20:]) / 4
        print(
            f"{name:7} first {curves[name][0]:.2f}, last {curves[name][-1]:.2f}, other conversations {unseen[name]:.2f}"
        )
    assert unseen["pieces"] < unseen["mean"] < min(unseen["random"], unseen["zeros"])

# %%
if EMBEDDED:
    figure, axis = plt.subplots(figsize=(8, 4))
    looks = {
        "zeros": ("#64748b", ":"),
        "random": ("#c2410c", "--"),
        "mean": ("#1d4ed8", "-."),
        "pieces": ("#15803d", "-"),
    }
    for name, (colour, dashes) in looks.items():
        axis.plot(range(1, 21), curves[name], color=colour, linestyle=dashes, linewidth=2, label=name)
    axis.set(xlabel="step", ylabel="loss, nats a token", xticks=range(2, 21, 2), ylim=(0, None))
    axis.legend(title="rows begin as")
    axis.grid(alpha=0.3)
    show(
        figure,
        "09-starts",
        alt="Loss over twenty steps of training new rows. Random begins far above the others and comes down; zeros "
        "begins lowest, jumps up and down and ends highest; mean and pieces fall, close together, and end lowest.",
    )

# %%
norm = model.model.layers[0].input_layernorm
lengths = {size: float(norm(E**0.5 * size * mean).norm()) for size in (0, 0.01, 1)}  # rows are read times sqrt(E)
print("length after the norm of a row of size", {size: round(length, 1) for size, length in lengths.items()})
if EMBEDDED:
    assert lengths[0] == 0
    assert 0.9 < lengths[0.01] / lengths[1] < 1.1

# %% [markdown]
# *Zeros* began lowest and goes nowhere. The likely reason is the norm that every block has before its attention (lesson
# 2): it stretches any vector to the same length. Of a row of zeros it makes zeros; of a row that has moved by a hair it
# makes a full vector in whatever direction the hair points. After a few steps it jumps about and does not settle.
# *Random* must first become quiet. *Mean* begins in the middle of things and moves from there. *Pieces* is ahead of it
# at first, and by a hair on other conversations: `<tool_call>` begins near "tool" and "call", where the model has some
# notion already, and its rows differ from the first step on. It is our default.
#
# Twenty steps, one seed, one small model, and rows alone: that decides nothing for yours. But what it costs to look is
# a minute.
#
# ## A token that never comes
#
# The notebook of the course registers eight tags, and two of them have a letter missing: `<tool_reponse>`. The data
# spells `<tool_response>`. Nothing complains. Count:

# %%
NOTEBOOK = [tag.replace("response", "reponse") for tag in TAGS]
print(NOTEBOOK[-2:])
misspelled = minifc.load_tokenizer(MODEL)
given = dict(zip(NOTEBOOK, misspelled.add_tokens(NOTEBOOK), strict=True))
whole = [
    minifc.render(case.messages(), misspelled, case.tools, format="gemma") for case in toy.training_cases(20, seed=5)
]
count = Counter(id_ for rendered in whole for id_ in rendered.ids)
for tag, id_ in given.items():
    print(f"{tag:16} {count[id_]:3} times")
real = sum(rendered.text.count("<tool_response>") for rendered in whole)
print(f"<tool_response>  {real:3} times, each time in {len(misspelled.encode('<tool_response>'))} pieces")
assert count[given["<tool_reponse>"]] == count[given["</tool_reponse>"]] == 0
assert real > 0
assert not [name for name in misspelled.control if "response" in name]

# %% [markdown]
# The two rows exist, are trained and saved, and mean nothing. The real tag works all the same, in pieces. That is how
# a mistake survives in this trade: the loss goes down, the model calls. Does a row that never comes at least stay as
# it was? Look at the gradients:

# %%
student, words = minifc.load_model(MODEL, dtype=torch.float32).requires_grad_(False), minifc.load_tokenizer(MODEL)
minifc.add_tokens(student, words, NOTEBOOK, init="mean")
for rendered in whole[:4]:
    F.nll_loss(*learned(student, rendered)).backward()
gradient = student.model.embed_tokens.rows.grad.norm(dim=1)
for tag, size in zip(NOTEBOOK, gradient.tolist(), strict=True):
    print(f"{tag:16} gradient {size:.1e}")
if EMBEDDED:
    assert 0 < gradient[-2:].max() < gradient[:6].min() / 100

# %% [markdown]
# Not zero. As with the idle ids, each token that comes pushes it down a little. So look at counts, not at movement.
# `python -m minifc.train` registers the tags that it finds in the data, refuses one that never occurs, names the
# tags in the text for which there is no token, and reports of each new row how often it was read, how often written.

# %%
row = [{"role": "tool", "content": "<tool_reponse>\n{}\n</tool_reponse>"}]
print(dict(unknown_tags(row)))
assert unknown_tags(row) == {"<tool_reponse>": 1}

# %% [markdown]
# ## What became of them
#
# The trained caller was taught with rows that began as pieces. Where are they now?

# %%
if EMBEDDED:
    loaded = minifc.load(CALLER, device="cpu")
    caller, words = loaded.model, loaded.tokenizer
    after = caller.model.embed_tokens.rows.detach()
    for number, tag in enumerate(TAGS):
        moved = float((after[number] - start[number]).norm() / start[number].norm())
        print(f"{tag:17} moved by {moved:4.0%} of its length")
    moved = (after - start).norm(dim=1) / start.norm(dim=1)
    assert 0.02 < moved.min() < moved.max() < 1
    assert moved[2:6].min() > moved[[0, 1, 6, 7]].max()  # <think> and <tool_call> against <tools> and <tool_response>
    nbytes = (CALLER / "adapter_model.safetensors").stat().st_size
    print(f"{after.numel():,} numbers of the adapter's {nbytes / 4:,.0f} or so")

# %% [markdown]
# Those that the model writes itself have moved most; those that it only reads, less. None has moved by as much as its
# own length. So little is needed: a place to stand, and a push.
#
# **Exercises** (`lessons/exercises/09_new_tokens.py`, then `python -m lessons.check 09`): encode with new tokens; read
# from two tables; find what was registered in vain.
#
# **Next:** from a row of data to ids and a mask.
