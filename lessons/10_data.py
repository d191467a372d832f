# %% [markdown]
# # 10. Data
#
# *How does a row of a data file become something to learn from?*
#
# A data set for function calling is a file with a conversation in each row. Somebody else wrote it, in a shape of
# their own. Between the file and the first training step lie reading, rendering, masking and packing, and each can go
# wrong without a word. We go through them with rows that we write ourselves, so that we know what should come out.

# %%
import ast
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from lesson import EMBEDDED, MODEL, ROOT, show
from matplotlib import patches
from matplotlib import pyplot as plt

import minifc
from minifc.data import (
    IGNORED,
    Conversation,
    Example,
    make_examples,
    pack,
    read_conversation,
    with_canonical_calls,
)
from minifc.text.calls import TAGS, read_value

tokenizer = minifc.load_tokenizer(MODEL)
model = minifc.load_model(MODEL, dtype=torch.float32)
minifc.add_tokens(model, tokenizer, list(TAGS))

# %% [markdown]
# ## Three shapes
#
# The same little conversation, three times. First as OpenAI's interface has it: calls and tools are *structured*,
# fields of their own. (The package reads more shapes; the README lists them. Three are enough to see the idea.)

# %%
schema = {
    "name": "find_song",
    "description": "Find a singer's song.",
    "parameters": {
        "type": "object",
        "properties": {"singer": {"type": "string"}, "live": {"type": "boolean"}},
        "required": ["singer"],
    },
}
arguments = {"live": True, "singer": "Nina O'Hara"}
openai = {
    "messages": [
        {"role": "user", "content": "A live song by Nina O'Hara, please."},
        {"role": "assistant", "tool_calls": [{"function": {"name": "find_song", "arguments": json.dumps(arguments)}}]},
        {"role": "tool", "content": '{"title": "Blue"}'},
        {"role": "assistant", "content": "The title is Blue."},
    ],
    "tools": [{"type": "function", "function": schema}],
}

# %% [markdown]
# Second, ShareGPT's shape, which many open data sets have: other names, and a call is a turn whose text is JSON.

# %%
sharegpt = {
    "conversations": [
        {"from": "human", "value": "A live song by Nina O'Hara, please."},
        {"from": "function_call", "value": json.dumps({"name": "find_song", "arguments": arguments})},
        {"from": "observation", "value": '{"title": "Blue"}'},
        {"from": "gpt", "value": "The title is Blue."},
    ],
    "tools": json.dumps([schema]),
}

# %% [markdown]
# Third, the course's. Everything has been written into the text already, tags and all: the text is *verbatim* what the
# model will see. The tools stand in the system message. And whoever wrote the calls printed a Python dictionary, so
# they have `True` and single quotes:

# %%
course = {
    "conversations": [
        {"role": "system", "content": f"You call functions. The tools: <tools> [{schema}] </tools>"},
        {"role": "human", "content": "A live song by Nina O'Hara, please."},
        {
            "role": "model",
            "content": "<think>find_song can do it.</think><tool_call>\n"
            + str({"arguments": arguments, "name": "find_song"})
            + "\n</tool_call>",
        },
        {"role": "tool", "content": "<tool_response>\n{'title': 'Blue'}\n</tool_response>"},
        {"role": "model", "content": "The title is Blue."},
    ]
}
print(course["conversations"][2]["content"])

# %% [markdown]
# A row says by its fields which shape it has. Whatever it was, the messages come out with OpenAI's names of the roles.


# %%
def shape(row) -> str:
    if "messages" in row:
        return "OpenAI"
    return "ShareGPT" if "from" in row["conversations"][0] else "course"


rows = [openai, sharegpt, course]
for row in rows:
    conversation = read_conversation(row, "here")
    print(
        f"{shape(row):9} verbatim {conversation.verbatim!s:6}", [message["role"] for message in conversation.messages]
    )
    assert conversation.verbatim == (shape(row) == "course")

# %% [markdown]
# ## Reading a call that Python printed
#
# `{'live': True}` is no JSON. There is a tempting way to read it, `eval`, which runs whatever stands there. A data set
# is a file from a stranger, and what a model writes is worse. So: parse it as Python, and accept *literals* only,
# numbers, strings, lists and dictionaries. They build values and call nothing.


# %%
def read(text: str):
    """A value from JSON or from Python's repr."""
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)  # refuses everything that is not a literal


written = "{'arguments': {'live': True, 'singer': \"Nina O'Hara\"}, 'name': 'find_song'}"
assert read(written) == read_value(written) == {"name": "find_song", "arguments": arguments}
assert read('{"live": true}') == read_value('{"live": true}') == {"live": True}
try:
    json.loads(str({"singer": "Nina O'Hara"}).replace("'", '"'))  # another tempting way
except ValueError as error:
    print("quotes replaced:", error)
for attack in ("__import__('os').remove('x')", "[x for x in (1, 2)]", "open"):
    for reader in (read, read_value):
        try:
            reader(attack)
            raise AssertionError("it was read")
        except (ValueError, SyntaxError, minifc.MinifcError) as error:
            message = error
    print(f"{attack!r:32} refused: {type(message).__name__}")

# %% [markdown]
# Replacing quotes breaks on the first name with an apostrophe. [`read_value`](../minifc/text/calls.py) does what ours
# does, and bounds what it reads: length, depth of brackets, size of numbers.
#
# ## One spelling
#
# The same call can be written in many ways: quotes, order, spaces. If the data holds all of them, the model learns
# that it may choose, and spends its effort on choosing. So each call is rewritten in one **canonical** form: JSON, the
# name first, arguments in the order of the schema. (Where an argument holds objects, the package puts those in the
# schema's order, too.)


# %%
def canonical(call: dict) -> str:
    order = [*schema["parameters"]["properties"], *call["arguments"]]
    ordered = {name: call["arguments"][name] for name in order if name in call["arguments"]}
    return json.dumps({"name": call["name"], "arguments": ordered}, ensure_ascii=False)


conversations = [with_canonical_calls(read_conversation(row, shape(row))) for row in rows]
texts = [minifc.render(c.messages, tokenizer, c.tools, "gemma", verbatim=c.verbatim).text for c in conversations]
for row, text in zip(rows, texts, strict=True):
    (call,) = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text)
    print(f"{shape(row):9} {call}")
    assert call == canonical(read(written))

# %% [markdown]
# Three shapes, one call. (With `--calls verbatim`, or `--recipe course`, it stays as the data has it, as in the
# course.)
#
# ## What is learned from
#
# A conversation becomes ids and a **mask**, which says of each id whether the model learns from it (lesson 8). Here is
# the last of our rows as the model gets it. What is learned has a frame around it.

# %%
conversation = conversations[2]
rendered = minifc.render(conversation.messages, tokenizer, format="gemma", verbatim=True)
share = sum(rendered.mask) / len(rendered.ids)
print(f"{len(rendered.ids)} tokens, learned from {sum(rendered.mask)} of them ({share:.0%})")
assert not EMBEDDED or 0.2 < share < 0.3

WIDTH = 118  # characters in a line of the picture
figure, axis = plt.subplots(figsize=(12, 4.2))
line = column = 0
for id_, learned in zip(rendered.ids, rendered.mask, strict=True):
    token = tokenizer.decode([id_])
    label = token.replace("\n", "↵").replace(" ", "·")
    if column + len(label) > WIDTH:
        line, column = line + 1, 0
    colour = "#fde68a" if learned else "#dbeafe" if id_ in tokenizer.control.values() else "#f1f5f9"
    box = patches.Rectangle(
        (column + 0.06, line + 0.1),
        len(label) - 0.12,
        0.8,
        facecolor=colour,
        edgecolor="#b45309" if learned else "none",
    )
    axis.add_patch(box)
    weight = "bold" if id_ in tokenizer.control.values() else "normal"
    middle = column + len(label) / 2
    axis.text(middle, line + 0.5, label, ha="center", va="center", fontsize=7, family="monospace", weight=weight)
    column += len(label)
    if token.endswith("\n"):
        line, column = line + 1, 0
axis.set(xlim=(0, WIDTH), ylim=(line + 1, 0))
axis.axis("off")
show(
    figure,
    "10-mask",
    alt="The tokens of one conversation in boxes, line by line. Framed boxes on yellow are learned from: the model's "
    "thought, its call and its answer, each up to the end of its turn. System text, question and tool result have no "
    "frame. Control tokens are bold.",
)

# %% [markdown]
# Three quarters of what is read is not learned from: tools and results are long. That is fine. The model still *reads*
# them, and they shape what it writes; they are just not marked.
#
# The loss compares what stands at a position with the model's guess one position before. So **targets** are the ids
# moved by one, and where nothing is to be learned stands -100, which PyTorch's function for the loss leaves out.

# %%
targets = [id_ if learned else IGNORED for id_, learned in zip(rendered.ids[1:], rendered.mask[1:], strict=True)] + [
    IGNORED
]
first = next(place for place, target in enumerate(targets) if target != IGNORED)
for place in range(first - 2, first + 3):
    after = "nothing" if targets[place] == IGNORED else repr(tokenizer.decode([targets[place]]))
    print(f"at {place} it reads {tokenizer.decode([rendered.ids[place]])!r:10} and learns to write {after}")
assert IGNORED == -100
assert targets[first] == tokenizer.control["<think>"]
assert tokenizer.decode([rendered.ids[first]]) == "\n"  # the end of the line with the role

# %% [markdown]
# ## Too long
#
# Memory grows with length, so a row of training has a fixed number of tokens, and some conversations are longer. The
# notebook cuts the text every 1,500 tokens and goes on in the next row. Where the cut falls, the rest loses its
# beginning: a call is learned without the tools it chooses from. So by default the package leaves such conversations
# out, and says which.

# %%
COURSE_LENGTH = 1_500
long = Conversation([*openai["messages"], *openai["messages"][:1] * 2, openai["messages"][1]], [schema], source="long")
short = Conversation(openai["messages"][:2], [schema], source="short")
length = 190
kept = make_examples([short, long], tokenizer, "gemma", length)
cut = make_examples([long], tokenizer, "gemma", length, cut=True)
print("kept:", [e.source for e in kept.fitting], "left out:", [(e.source, len(e.ids)) for e in kept.too_long])
last = cut.fitting[-1]
print("the last piece of a cut one:", repr(tokenizer.decode(last.ids)))
if EMBEDDED:
    assert [e.source for e in kept.fitting] == ["short"]
    assert tokenizer.control["<tools>"] not in last.ids  # a call, and no tools
    assert tokenizer.control["<tool_call>"] in last.ids

# %% [markdown]
# ## Packing
#
# Conversations differ in length, and a tensor is a rectangle. The obvious way is to fill up each with `<pad>` to the
# longest: then much of the work is spent on nothing. **Packing** lays several conversations end to end in one row
# instead.

# %%
few = [
    Conversation(c.messages[:n], c.tools, c.verbatim, f"{shape(r)} {n}")
    for c, r in zip(conversations, rows, strict=True)
    for n in (2, 4)
]
few = [c for c in few if any(m["role"] in ("assistant", "model") for m in c.messages)]
examples = make_examples(few, tokenizer, "gemma", length=2048).fitting
sizes = [len(example.ids) for example in examples]
ROW = sum(sizes[:3])


def pack_by_hand(examples: list[Example], length: int) -> list[list[Example]]:
    """Each conversation goes into the first row that has room for it; none is ever split."""
    filled: list[list[Example]] = []
    for example in examples:
        for row in filled:
            if sum(len(e.ids) for e in row) + len(example.ids) <= length:
                row.append(example)
                break
        else:
            filled.append([example])
    return filled


packed = pack_by_hand(examples, ROW)
(batch,) = pack(examples, rows=len(packed), length=ROW)
print(
    "sizes", sizes, "padded to the longest:", f"{sum(sizes) / (len(sizes) * max(sizes)):.0%} of the positions are used"
)
print(f"packed in {len(packed)} rows of {ROW}: {sum(sizes) / batch.ids.numel():.0%} are used")
for number, row in enumerate(packed):
    ids = [id_ for example in row for id_ in example.ids]
    assert batch.ids[number, : len(ids)].tolist() == ids
assert sum(sizes) / batch.ids.numel() > sum(sizes) / (len(sizes) * max(sizes))
assert batch.supervised == sum(sum(example.mask) for example in examples)

# %% [markdown]
# In training, conversations come one after the other, and a batch is complete when the next one fits nowhere: a good
# part of it may be left empty. So the training loop looks ahead: a row that was begun goes on with the longest of the
# next 64 conversations that still fits. Tried with lengths as the embedded model's conversations have them:

# %%
lengths = random.Random(0).choices(range(230, 800), k=400)
many = [Example([0] * length, [True] * length) for length in lengths]
for look_ahead in (1, 4, 16, 64):
    batches = list(pack(many, rows=2, length=896, look_ahead=look_ahead))
    used = sum(lengths) / sum(b.ids.numel() for b in batches)
    print(f"choosing among {look_ahead:2}: {len(batches)} batches, {used:.0%} of the positions are used")
assert used > 0.85

# %% [markdown]
# But now a conversation stands behind another, and attention looks at everything before it. It would read its
# neighbour's tools. So each position gets the number of its **document**, and lesson 3's rules of who may be seen get
# one more: only positions with the same number. Positions count from 0 again in each document. `-1` is
# padding.

# %%
documents = batch.documents[0]
print([(int(d), int((documents == d).sum())) for d in documents.unique(sorted=True)])

# %% [markdown]
# Whether that works can be seen in the logits. Each conversation must get exactly what it would get alone; and
# something in a neighbour must not be felt at all.

# %%
with torch.no_grad():
    together = model(batch.ids[:1], documents=batch.documents[:1])[0]
    careless = model(batch.ids[:1])[0]  # without the numbers
    at = 0
    for number, example in enumerate(packed[0]):
        alone = model(torch.tensor([example.ids]))[0]
        here = slice(at, at + len(example.ids))
        apart, leak = (together[here] - alone).abs().max(), (careless[here] - alone).abs().max()
        print(f"conversation {number}: differs from itself alone by {apart:.1e}; without the numbers by {leak:.1f}")
        assert apart < 1e-3
        assert number == 0 or leak > 0.1  # the first has nobody before it
        at += len(example.ids)
    changed = batch.ids[:1].clone()
    changed[0, 5:20] = tokenizer.encode("x")[0]  # somebody else's words in the first conversation
    rest = slice(len(packed[0][0].ids), at)
    assert torch.equal(model(changed, documents=batch.documents[:1])[0, rest], together[rest])

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 4.4))
real = documents >= 0
causal = torch.ones(len(documents), len(documents)).tril().bool() & real[:, None] & real[None]
same = causal & (documents[:, None] == documents[None])
for axis, seen, title in zip(axes, (causal, same), ("without document numbers", "with document numbers"), strict=True):
    axis.imshow(seen, cmap="Blues", vmin=0, vmax=1.4)
    for end in (documents[1:] != documents[:-1]).nonzero()[:, 0].tolist():
        axis.axhline(end + 0.5, color="#c2410c", linestyle="--", linewidth=1)
        axis.axvline(end + 0.5, color="#c2410c", linestyle="--", linewidth=1)
    axis.set(title=title, xlabel="position looked at", ylabel="position that looks")
figure.tight_layout()
show(
    figure,
    "10-documents",
    alt="Two attention masks of a packed row. Without document numbers one large triangle, so that each conversation "
    "sees those before it; with them one small triangle for each conversation, and nothing between them.",
)

# %% [markdown]
# The course's notebook packs without such a mask. A model should not learn that the tools it may use stand in another
# conversation.
#
# ## Look before you train
#
# All of this is counted by one command, `python -m minifc.audit`. Given the `--format`, `--calls` and `--learn` of a
# training, it counts what that training would see. We write our rows to a file, with two bad ones among them, and let
# it look; then it shows us one row, with marks around what is learned from:

# %%
bad = [
    {"conversations": [{"role": "human", "content": "Hello?"}]},
    {
        "conversations": [
            {"role": "human", "content": "Go."},
            {"role": "model", "content": "<tool_call>\n{go\n</tool_call>"},
        ]
    },
]
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *bad]))

    def audit(*options: str) -> str:
        command = [sys.executable, "-m", "minifc.audit", "rows.jsonl", "--model", str(MODEL.resolve()), *options]
        result = subprocess.run(
            command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
        )
        return result.stdout

    counted, marked = audit(), audit("--row", "1")
print(counted)
print(marked)
sizes = [len(minifc.render(c.messages, tokenizer, c.tools, "gemma", verbatim=c.verbatim).ids) for c in conversations]
assert f"{sum(sizes):,}" in counted  # the tokens that we count are the tokens that it counts
assert counted.count("cannot be learned from: ") == len(bad)
assert marked.count("⟪") == 2  # two turns are learned from

# %% [markdown]
# Read a few rows in this way before every training. Reading finds what no loss shows: answers without their question,
# calls of tools that are not there, a tag with a letter missing.
#
# **Exercises** (`lessons/exercises/10_data.py`, then `python -m lessons.check 10`): read a call without running it;
# make targets of ids and mask; say who sees whom in a packed row.
#
# **Next:** how to change a large model by a small file.
