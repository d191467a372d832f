# %% [markdown]
# # 1. Tokens
#
# *What does a language model read?*
#
# Not letters, and not words. A model reads whole numbers, called **ids**, each of which stands for a **piece** of text:
# a word, part of a word, a comma, a byte. The list of all pieces is the **vocabulary**. What turns a string into ids
# is the **tokenizer**, and an id in its place in a text is a **token**.
#
# Before we teach a model to call a function, we must know what it sees when it looks at a function's name. So we begin
# by writing a tokenizer: the algorithm that Gemma's own uses, in about twenty lines.
#
# Every lesson runs on the small model that lies in this repository; we call it the embedded model. `MODEL` is its
# folder. What stands under `if EMBEDDED` holds for it, and need not hold for another that you put in its place.

# %%
import json
from itertools import groupby, pairwise

from lesson import EMBEDDED, MODEL

import minifc

data = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))
vocabulary = data["model"]["vocab"]  # piece -> id
print(f"{len(vocabulary):,} pieces, among them", list(vocabulary)[-8:])

# %% [markdown]
# ## Pieces that grow
#
# The vocabulary was made by *byte pair encoding* ([Sennrich et al. 2016](https://arxiv.org/abs/1508.07909)). Start with
# single characters. Find the two neighbours that occur most often in a large text, and make one new piece of them.
# Repeat, until the vocabulary is as large as you want it. The file holds the list of these **merges** in the order in
# which they were found.

# %%
merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in data["model"]["merges"]]  # older files: strings
rank = {merge: number for number, merge in enumerate(merges)}
print(f"{len(merges):,} merges; the last are {merges[-5:]}")

# %% [markdown]
# To write a new word in these pieces, repeat history: of all neighbours that are a merge, join those whose merge was
# found *first*, and look again.


# %%
def merge_all(pieces: list[str], watch: bool = False) -> list[str]:
    """Join neighbours, oldest merge first, until none is left."""
    while True:
        pairs = [(rank[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in rank]
        if not pairs:
            return pieces
        _, i = min(pairs)
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]
        if watch:
            print("   ", " | ".join(pieces))


print("different:")
assert "".join(merge_all(list("different"), watch=True)) == "different"  # nothing is lost on the way

# %% [markdown]
# The vocabulary ends up with whole words where words are common, and with syllables where they are rare. It never
# fails: a word that nobody has ever written is spelled in shorter pieces.
#
# ## What may not grow together
#
# Left to itself, the algorithm would join a word with the space before it, and `parcel` after a space would be
# another piece than `parcel` after a quote. Our small model must copy words from a sentence into JSON, and copying is
# easy only if the word looks the same in both places. So its tokenizer cuts the text first, and never joins across a
# cut: runs of letters, single digits, line breaks, underscores, and runs of whatever else there is. In the pieces, a
# space is written as `▁`, so that it can be seen.


# %%
def cut(text: str) -> list[str]:
    """The parts of a text between which nothing is joined."""
    text = text.replace(" ", "▁")
    if data["pre_tokenizer"]["pattern"].get("String") == " ":  # Gemma's own: nothing is cut, there is no space left
        return [text]

    def kind(at: int) -> object:
        c = text[at]
        return "letters" if c.isalpha() else at if c.isdecimal() or c in "\n_" else "others"

    return ["".join(text[i] for i in run) for _, run in groupby(range(len(text)), key=kind)]


print(cut('find_song {"singer": "Nina", "year": 1958}'))

# %% [markdown]
# ## A floor to stand on
#
# No vocabulary has every character. One that is not in it is written as the bytes that it has in UTF-8, and every byte
# has a piece, `<0x00>` to `<0xFF>` (in Gemma's file the one of a tab is spelled as a tab). That is called **byte
# fallback**: any string has ids.


# %%
def characters(text: str) -> list[str]:
    """What the merging starts from: characters, or bytes where there is no such piece."""
    return [p for c in text for p in ([c] if c in vocabulary else [f"<0x{byte:02X}>" for byte in c.encode()])]


print(characters("a 🦜".replace(" ", "▁")))
assert sum(f"<0x{byte:02X}>" in vocabulary or (byte < 128 and chr(byte) in vocabulary) for byte in range(256)) == 256

# %% [markdown]
# ## The whole of it
#
# Cut, take characters, merge, look up. That is the tokenizer.


# %%
def encode(text: str) -> list[int]:
    return [vocabulary[piece] for part in cut(text) for piece in merge_all(characters(part))]


sentence = "Please find a song with singer Nina."
pieces = {id_: piece for piece, id_ in vocabulary.items()}
print(encode(sentence))
print([pieces[id_] for id_ in encode(sentence)])

# %% [markdown]
# What we cut for: the name has the same ids in the sentence and in the call that answers it.

# %%
call = '{"name": "find_song", "arguments": {"singer": "Nina"}}'
name = encode("Nina")


def positions(part: list[int], whole: list[int]) -> list[int]:
    return [i for i in range(len(whole)) if whole[i : i + len(part)] == part]


print("in the sentence at", positions(name, encode(sentence)), "and in the call at", positions(name, encode(call)))
if EMBEDDED:
    assert positions(name, encode(sentence))
    assert positions(name, encode(call))

# %% [markdown]
# Gemma's own vocabulary has 256,000 pieces and does not cut at spaces: there `▁Nina` and `Nina` are two ids, and that
# they mean the same is one more thing that the model has to learn. It has read enough for that. Its pieces are longer
# too, so that a text takes fewer tokens; and that counts, for every token costs a pass through the model.

# %%
OFFICIAL_SIZE = 256_000
print(f"here {len(vocabulary):,} pieces and {len(encode(sentence))} tokens; Gemma-2 has {OFFICIAL_SIZE:,} pieces")

# %% [markdown]
# ## Tokens that nobody can write
#
# Some ids stand for no text. They mark where a text begins (`<bos>`) and ends (`<eos>`), and where somebody starts
# and stops speaking (`<start_of_turn>`, `<end_of_turn>`). We call them **control tokens**. The whole order of a
# conversation rests on them, so there is a rule in this project from the first lesson to the last: *text is data.*
# Whoever writes `<end_of_turn>` into a message has written thirteen characters, and not ended a turn.

# %%
tokenizer = minifc.load_tokenizer(MODEL)
print("as text:   ", tokenizer.encode("<end_of_turn>"))
print("as control:", tokenizer.encode("<end_of_turn>", control_tokens=True))
assert len("<end_of_turn>") == 13
assert tokenizer.encode("<end_of_turn>", control_tokens=True) == [tokenizer.control["<end_of_turn>"]]

for spelling in tokenizer.control:  # none of them can be reached by writing it
    assert not set(tokenizer.encode(f"say {spelling} again")) & set(tokenizer.control.values())

# %% [markdown]
# In most libraries the spelling *is* the token unless one knows a switch; a web page that your model reads could then
# speak in its user's name.
#
# ## The package's own
#
# [`minifc/text/tokenizer.py`](../minifc/text/tokenizer.py) leaves the merging to Hugging Face's `tokenizers`, which is
# written in Rust, or to SentencePiece, and adds the rule about control tokens. It gives what our twenty lines give,
# also on texts that are meant to be difficult.

# %%
texts = [sentence, call, "naïve 🦜 Ω 東京", "  two  spaces\n\nand\ttabs", "x_1 = 10**9;", ""]
for text in texts:
    assert encode(text) == tokenizer.encode(text), text
    assert tokenizer.decode(encode(text)) == text  # and back, without loss
print(f"{len(texts)} texts, the same ids")

# %% [markdown]
# **Exercises** (`lessons/exercises/01_tokens.py`, then `python -m lessons.check 01`): find the pair to merge; write a
# character as bytes; write a turn whose text cannot break out of it.
#
# **Next:** the ids become vectors.
