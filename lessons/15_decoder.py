# %% [markdown]
# # 15. The tiny tool-call decoder
#
# *How can a model be kept from ever writing a malformed call?*
#
# A model that was taught to call writes good calls nearly always. A program that runs them wants *always*. This lesson
# builds a decoder after which a malformed call is not unlikely but impossible, for any model, taught or not. There are
# six steps, each a few lines: from strings to bytes, from bytes to tokens, from tokens to a schema, then the mask, the
# room that is left, and the tokens that nobody needs to ask for.
#
# To see that it is the decoder that does it, we begin with a model that cannot call at all: the instruction-tuned one
# of [lesson 7](07_stages.py), which has never seen a tool. It only gets rows for the new tags. (It can compare names,
# as it learned to with the lists in its chats.)

# %%
import json
import time
from functools import cache

import matplotlib.pyplot as plt
import torch
from lesson import CALLER, EMBEDDED, MODEL, show

import minifc
from minifc.text.calls import TAGS

model = minifc.load_model(MODEL, torch.float32)
tokenizer = minifc.load_tokenizer(MODEL)
minifc.add_tokens(model, tokenizer, list(TAGS))
OPEN, CLOSE = tokenizer.control["<tool_call>"], tokenizer.control["</tool_call>"]


def tool(name: str, required: list[str], **properties: dict) -> dict:
    verb, noun = name.split("_")
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "description": f"Use this to {verb} a {noun}.", "parameters": parameters}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
TOOLS = [
    tool("find_song", ["singer"], singer=TEXT, year=WHOLE),
    tool("find_sofa", ["colour"], colour={"enum": ["red", "reddish", "green"]}, price=WHOLE),
    tool("weigh_parcel", ["owner"], owner=TEXT),
]
REQUESTS = [  # and the right calls, as (name, arguments)
    ("Please find a song with singer Nina.", ("find_song", {"singer": "Nina"})),
    ("I want to find a song with singer Omar and year 1958.", ("find_song", {"singer": "Omar", "year": 1958})),
    ("I need to find a song with the singer Vera.", ("find_song", {"singer": "Vera"})),
    ("Can you find a sofa, taking green for the colour?", ("find_sofa", {"colour": "green"})),
    ("Help me find a sofa with colour red and price 90.", ("find_sofa", {"colour": "red", "price": 90})),
    ("Now weigh a parcel with owner Julia.", ("weigh_parcel", {"owner": "Julia"})),
    ("Go and weigh a parcel; owner should be Boris.", ("weigh_parcel", {"owner": "Boris"})),
    ("We have to weigh a parcel, where the owner is Yara.", ("weigh_parcel", {"owner": "Yara"})),
]


def prompt(sentence: str) -> list[int]:
    """The request, and the beginning of an answer that is nothing but a call."""
    question = [{"role": "user", "content": sentence}]
    return [*minifc.render(question, tokenizer, TOOLS, format="gemma", add_generation_prompt=True).ids, OPEN]


def readable(ids: list[int]) -> bool:
    """Whether these ids, after the opening tag, are one call that can be read."""
    try:
        return len(minifc.parse_calls([OPEN, *ids], tokenizer)) == 1
    except minifc.MinifcError:
        return False


# %% [markdown]
# ## Left free
#
# Every request ends with `<tool_call>`, so that the model must go on with a call. It goes on with something.

# %%
free = minifc.generate(model, [prompt(sentence) for sentence, _ in REQUESTS], max_new_tokens=48)
for ids in free[:3]:
    print(repr(tokenizer.decode(ids)))
malformed = sum(not readable(ids) for ids in free)
print(f"malformed: {malformed} of {len(free)}")
assert malformed == len(free) if EMBEDDED else malformed > 0

# %% [markdown]
# ## From strings to bytes
#
# Suppose that only a few strings were allowed at all. Then it is easy to say what may come after a beginning: the next
# byte of those strings that begin so. We count in bytes and not in characters, since a token may hold a part of a
# character ([lesson 1](01_tokens.py)).

# %%
strings = [b'{"name": "find_song"}', b'{"name": "find_sofa"}', b'{"name": "weigh_parcel"}']


def next_bytes_of(written: bytes) -> list[str]:
    return sorted({chr(s[len(written)]) for s in strings if s.startswith(written) and len(s) > len(written)})


for written in (b'{"na', b'{"name": "', b'{"name": "find_so', b'{"name": "find_son'):
    print(f"{written.decode():20} then {next_bytes_of(written)}")

# %% [markdown]
# Mostly there is one way to go on. The model has a say in two places: between *find* and *weigh*, and between *song*
# and *sofa*.
#
# ## From bytes to tokens
#
# The model does not write bytes. It writes tokens, each of which stands for some bytes, and a token may come next if
# all its bytes may, one after the other. First, what does each token write?

# %%
vocabulary = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
names = set(tokenizer.control.values())


def bytes_of(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode()


written_by = {id_: bytes_of(piece) for piece, id_ in vocabulary.items() if id_ not in names}
assert written_by == tokenizer.written()  # the package's own; control tokens write nothing

# %% [markdown]
# To try all tokens one by one is slow: many begin alike, and we would ask the same question about `f`, `fi` and `find`
# again and again. A **trie** asks it once. It is a tree in which a path from the root spells bytes; tokens lie where
# their spelling ends.

# %%
HERE = "ids"  # what lies in a place of the tree, beside the bytes that lead on
trie: dict = {}
for id_, text in written_by.items():
    place = trie
    for byte in text:
        place = place.setdefault(byte, {})
    place.setdefault(HERE, []).append(id_)


def places(place: dict) -> int:
    return 1 + sum(places(below) for key, below in place.items() if key != HERE)


print(f"{len(written_by):,} tokens, {sum(map(len, written_by.values())):,} bytes in them, {places(trie):,} places")

# %% [markdown]
# ## From tokens to a schema
#
# A list of allowed strings is no use for calls: a singer's name can be anything. What we need is a *description* of
# the allowed strings, which can be asked the same question. There is an old and beautiful one
# ([Brzozowski 1964](https://doi.org/10.1145/321239.321249)): describe a set of strings by an expression. Its
# **derivative** by a byte describes what may come *after* that byte. The state of the decoder is an expression, and to
# write a byte is to take the derivative.
#
# Six kinds of expression are enough:
#
# - `NOTHING`: no string at all; we have gone wrong
# - `EMPTY`: only the empty string, which is a `text` without bytes; we are done
# - `text(b"...")`: these bytes, and `one(...)`: one byte out of some
# - `seq(a, b)`: an `a`, then a `b`; and `either(a, b)`: one or the other
# - `many(a)`: any number of `a`, none of them too

# %%
NOTHING, EMPTY = ("nothing",), ("text", b"")


def text(of: bytes) -> tuple:
    return ("text", of)


def one(*ranges: tuple[int, int]) -> tuple:
    return ("one", frozenset(byte for low, high in ranges for byte in range(low, high + 1)))


def many(a: tuple) -> tuple:
    return ("many", a)


def seq(a: tuple, *others: tuple) -> tuple:
    if not others:
        return a
    b = seq(*others)
    if NOTHING in (a, b):
        return NOTHING
    if a == EMPTY:
        return b
    if a[0] == "seq":  # one shape only: the first thing, then all the rest
        return ("seq", a[1], seq(a[2], b))
    return ("seq", a, b) if b != EMPTY else a


def either(*options: tuple) -> tuple:
    flat = set()
    for option in options:
        flat |= option[1] if option[0] == "either" else {option}
    flat.discard(NOTHING)
    if len(flat) > 1:
        return ("either", frozenset(flat))
    return flat.pop() if flat else NOTHING


@cache
def can_end(state: tuple) -> bool:
    """Whether nothing more needs to be written."""
    match state:
        case ("text", of):
            return not of
        case ("seq", a, b):
            return can_end(a) and can_end(b)
        case ("either", options):
            return any(map(can_end, options))
    return state[0] == "many"


@cache
def after(state: tuple, byte: int) -> tuple:
    """The derivative: what may come after this byte."""
    match state:
        case ("text", of):
            return text(of[1:]) if of[:1] == bytes([byte]) else NOTHING
        case ("one", allowed):
            return EMPTY if byte in allowed else NOTHING
        case ("seq", a, b):
            return either(seq(after(a, byte), b), after(b, byte) if can_end(a) else NOTHING)
        case ("either", options):
            return either(*(after(option, byte) for option in options))
        case ("many", a):
            return seq(after(a, byte), state)
    return NOTHING


INTEGER = either(text(b"0"), seq(either(EMPTY, text(b"-")), one((0x31, 0x39)), many(one((0x30, 0x39)))))
state = INTEGER
for byte in b"-40":
    state = after(state, byte)
    print(chr(byte), "can end" if can_end(state) else "must go on")
assert after(after(INTEGER, ord("0")), ord("4")) == NOTHING  # 04 is no number in JSON

# %% [markdown]
# A string in JSON stands in quotes, and what is in it is one of three: a plain character of ASCII; a longer character,
# of two to four bytes, for which [the Unicode standard](https://www.unicode.org/versions/Unicode15.0.0/ch03.pdf) lists
# the ranges; or a backslash with something after it. Of the last we allow what `json.dumps` writes, since every call
# shall have one form.

# %%
TAIL = (0x80, 0xBF)
LONGER = [
    ((0xC2, 0xDF), TAIL),
    ((0xE0, 0xE0), (0xA0, 0xBF), TAIL), ((0xE1, 0xEC), TAIL, TAIL), ((0xED, 0xED), (0x80, 0x9F), TAIL),
    ((0xEE, 0xEF), TAIL, TAIL),
    ((0xF0, 0xF0), (0x90, 0xBF), TAIL, TAIL), ((0xF1, 0xF3), TAIL, TAIL, TAIL),
    ((0xF4, 0xF4), (0x80, 0x8F), TAIL, TAIL),
]  # fmt: skip
PLAIN = one((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7F))  # all but the quote and the backslash
ESCAPES = [text(json.dumps(chr(code))[1:-1].encode()) for code in (*range(0x20), ord('"'), ord("\\"))]
CHARACTER = either(PLAIN, *(seq(*map(one, ranges)) for ranges in LONGER), *ESCAPES)
STRING = seq(text(b'"'), many(CHARACTER), text(b'"'))


def matches(expression: tuple, written: bytes) -> bool:
    for byte in written:
        expression = after(expression, byte)
    return can_end(expression)


for value in ("", "Nina", 'say "no"', "a\nb\\", "Zoë 🦜 東京", "\x07", *map(chr, range(0xE000, 0x110000, 9973))):
    assert matches(STRING, json.dumps(value, ensure_ascii=False).encode())
for wrong in (b'"', b'Nina"', b'"a"b"', b'"\n"', b'"\\x"', b'"\xff"', b'"\xed\xa0\x80"'):  # the last: half a pair
    assert not matches(STRING, wrong)

# %% [markdown]
# A value is one out of a list (the schema says `enum`), a string, or a whole number. An object has its properties in
# the schema's order, and those that are not required may be missing. We build it from its end: what may follow the last
# property, the one before it, and so on. Then the call around it, for all tools.


# %%
def value(schema: dict) -> tuple:
    if "enum" in schema:
        return either(*(text(json.dumps(option, ensure_ascii=False).encode()) for option in schema["enum"]))
    return {"string": STRING, "integer": INTEGER}[schema["type"]]


def members(properties: list[tuple[str, dict]], required: list[str], begun: bool) -> tuple:
    """The rest of an object; `begun` if there is a property before it, so that a comma is needed."""
    if not properties:
        return text(b"}")
    (name, schema), *others = properties
    key = text(f"{', ' if begun else ''}{json.dumps(name)}: ".encode())
    here = seq(key, value(schema), members(others, required, True))
    return here if name in required else either(here, members(others, required, begun))


def call(tool: dict) -> tuple:
    parameters = tool["parameters"]
    inside = members(list(parameters["properties"].items()), parameters["required"], False)
    return seq(text(f'\n{{"name": {json.dumps(tool["name"])}, "arguments": {{'.encode()), inside, text(b"}\n"))


LANGUAGE = either(*map(call, TOOLS))
print(matches(LANGUAGE, b'\n{"name": "find_song", "arguments": {"singer": "Nina"}}\n'))
for wrong in (b'\n{"name": "find_song", "arguments": {}}\n', b'\n{"name": "find_love", "arguments": {}}\n'):
    assert not matches(LANGUAGE, wrong)  # the singer is missing; there is no such tool

# %% [markdown]
# Now state and trie walk together, and come back with the tokens that may be written.


# %%
def walk(state: tuple, place: dict) -> list[int]:
    found = list(place.get(HERE, ()))
    for byte, below in place.items():
        if byte != HERE and (following := after(state, byte)) != NOTHING:
            found += walk(following, below)
    return found


@cache
def allowed(state: tuple) -> torch.Tensor:
    """The ids that may come next; the closing tag where the call is complete."""
    return torch.tensor(walk(state, trie) + ([CLOSE] if can_end(state) else []))


def after_token(state: tuple, id_: int) -> tuple:
    for byte in written_by[id_]:
        state = after(state, byte)
    return state


state = LANGUAGE
for id_ in tokenizer.encode('\n{"name": "find'):
    state = after_token(state, id_)
print({id_: tokenizer.decode([id_]) for id_ in allowed(state).tolist()})

# %% [markdown]
# ## The mask
#
# Before the largest logit is picked, all that is not allowed is set to minus infinity. That is all; the model is not
# changed, and does not know.


# %%
def pick(logits: torch.Tensor, ids: torch.Tensor) -> int:
    masked = torch.full_like(logits, -torch.inf)
    masked[ids] = logits[ids]
    return int(masked.argmax())


def asker(longest: int, student=model):
    """A way to ask a model: from the ids that it has not read yet to its logits."""
    cache = minifc.KVCache(student.config, max_length=longest)

    def ask(unread: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return student(torch.tensor([unread]), cache=cache)[0, -1]

    return ask


def write_masked(sentence: str, most_tokens: int = 48) -> list[int]:
    state, ids, unread = LANGUAGE, [], prompt(sentence)
    ask = asker(len(unread) + most_tokens)
    while len(ids) < most_tokens:
        id_ = pick(ask(unread), allowed(state))
        ids, unread = [*ids, id_], [id_]
        if id_ == CLOSE:
            break
        state = after_token(state, id_)
    return ids


masked = [write_masked(sentence) for sentence, _ in REQUESTS]
for ids in masked[:3]:
    print(repr(tokenizer.decode(ids)))
print(f"malformed: {sum(not readable(ids) for ids in masked)} of {len(masked)}")
cut = [write_masked(sentence, most_tokens=32) for sentence, _ in REQUESTS]
print(repr(tokenizer.decode(cut[1])))
malformed = sum(not readable(ids) for ids in cut)
print(f"malformed with 32 tokens and not 48: {malformed} of {len(cut)}")
assert not EMBEDDED or malformed > 0

# %% [markdown]
# Half of the way. Every tool and key that it writes exists now (whether it is the one that was asked for is another
# matter), but nothing forces the model to *end* a string or a number. In more than half of these calls it writes on,
# one digit after the other for instance, until the tokens run out. Half a call is no call. The mask keeps every step
# right, and the whole can still fail.
#
# ## Room to finish
#
# So the decoder must look ahead: what is the shortest way to the end from here? It is found by trying all bytes, then
# all bytes after them, and so on, until something can end; states that were seen already need not be looked at again.
# If a token leads to where the way home is longer than the room that is left, we do not take it, and go home instead.


# %%
@cache
def next_bytes(state: tuple) -> list[int]:
    return [byte for byte in range(256) if after(state, byte) != NOTHING]


@cache
def ending(state: tuple) -> bytes:
    """A shortest way to complete what is begun."""
    seen, edge = {state}, [(state, b"")]
    for place, way in edge:  # `edge` grows while we go along it
        if can_end(place):
            return way
        for byte in next_bytes(place):
            if (following := after(place, byte)) not in seen:
                seen.add(following)
                edge.append((following, way + bytes([byte])))
    raise AssertionError("a state from which nothing can end")


state = LANGUAGE
for id_ in tokenizer.encode('\n{"name": "find_song", "arguments": {"singer": "Ni'):
    state = after_token(state, id_)
print(ending(state))

# %% [markdown]
# A byte is at most one token, so an ending of `n` bytes and the closing tag fit in `n + 1` tokens. By induction the way
# home always fits: it does at the start, if there is room for the shortest call, and no token is taken after which it
# would not. The way home may begin inside a character, of which the model has written one byte of four; so we spell it
# byte by byte, and ask nothing more of the model.

# %%
id_of = {of: id_ for id_, of in written_by.items()}


def spell(of: bytes) -> list[int]:
    """Ids that write these bytes, each by itself."""
    return [id_of[bytes([byte])] for byte in of]


state = after_token(state, id_of["🦜".encode()[:1]])
print(ending(state), "→", len(spell(ending(state))), "ids")

# %% [markdown]
# ## What nobody needs to ask
#
# One more thing. After `{"name": "find_song` there is only one way to go on, through a quote, a comma, `"arguments"`
# and the first key, up to the singer's own quote. The model was asked about a dozen times for what was certain. We can
# write these tokens ourselves and let the model read them all at once with the next question.
#
# There is one catch. The last token of the certain text might be longer if one knew what follows: in many vocabularies
# `"N` is one token. A model has learned text in its usual tokens, so we leave the last one to the model, unless the
# call is at its end.


# %%
def forced(state: tuple) -> list[int]:
    """The tokens up to the next choice."""
    certain = b""
    while not can_end(state) and len(next_bytes(state)) == 1:
        (byte,) = next_bytes(state)
        certain, state = certain + bytes([byte]), after(state, byte)
    ids = tokenizer.encode(certain.decode(errors="ignore"))
    return [*ids, CLOSE] if state == EMPTY else ids[:-1]


def write(asking: list[int], most_tokens: int = 96, ask=None) -> tuple[list[int], int]:
    """The call, and how often the model was asked."""
    state, ids, unread, asked = LANGUAGE, [], asking, 0
    ask = ask or asker(len(asking) + most_tokens)
    while True:
        new = forced(state)
        if not new:
            asked += 1
            new, unread = [pick(ask(unread), allowed(state))], []
        for id_ in new:
            if id_ == CLOSE:
                return [*ids, id_], asked
            following = after_token(state, id_)
            if len(ids) + 1 + len(ending(following)) + 1 > most_tokens:  # go home
                return [*ids, *spell(ending(state)), CLOSE], asked
            state, ids, unread = following, [*ids, id_], [*unread, id_]


started = time.perf_counter()
calls = [write(prompt(sentence)) for sentence, _ in REQUESTS]
print(f"{time.perf_counter() - started:.1f} seconds")
for ids, _ in calls:
    print(tokenizer.decode(ids[:-1]).strip())
assert all(readable(ids) and len(ids) <= 96 for ids, _ in calls)
tokens, asked = sum(len(ids) for ids, _ in calls), sum(asked for _, asked in calls)
print(f"{tokens} tokens, of which {tokens - asked} ({(tokens - asked) / tokens:.0%}) were written without the model")

# %% [markdown]
# All of them are calls, by a model that has never seen one, and the certain part comes at next to no cost.
#
# *Impossible* is a large word. So let the worst of all models try, one that rolls dice for every token, in little room.

# %%
torch.manual_seed(0)
rolled = [
    write([OPEN], 60 + i % 40, ask=lambda unread: torch.randn(tokenizer.size))[0]
    for i in range(200 if EMBEDDED else 20)
]
print(*(repr(tokenizer.decode(ids[:-1])) for ids in rolled[:3]), sep="\n")
assert all(readable(ids) for ids in rolled)
assert all(len(ids) <= 60 + i % 40 for i, ids in enumerate(rolled))
print(f"{len(rolled)} calls by dice, all of which can be read; the longest has {max(map(len, rolled))} tokens")

# %% [markdown]
# ## A look at the choices
#
# How many tokens may come at each place of a call?

# %%
example = '\n{"name": "find_song", "arguments": {"singer": "Nina", "year": 1958}}\n'
state, counts, choices, ids = LANGUAGE, [], [], [*tokenizer.encode(example), CLOSE]
for id_ in ids:
    counts.append(len(allowed(state)))
    choices.append(False)
    for byte in written_by.get(id_, b""):
        choices[-1] = choices[-1] or len(next_bytes(state)) > 1  # this token decides something
        state = after(state, byte)
figure, axes = plt.subplots(figsize=(11, 4))
colours = ["#c0392b" if choice else "#b8b8b8" for choice in choices]
axes.bar(range(len(ids)), counts, color=colours, width=0.85)
axes.set_yscale("log")
axes.set_ylim(0.8, 2 * len(written_by))
axes.axhline(len(written_by), color="#2c3e50", linestyle="--", linewidth=1)
axes.text(0, 1.15 * len(written_by), f"all {len(written_by):,} tokens", color="#2c3e50", va="bottom")
axes.set_xticks(range(len(ids)), [tokenizer.decode([id_]).replace("\n", "\\n").replace(" ", "␣") for id_ in ids])
axes.tick_params(axis="x", rotation=90)
axes.set_ylabel("allowed tokens (log scale)")
axes.set_xlabel("the call, token by token; grey: its text was certain, red: it decides something")
alt = (
    "Bars over the tokens of a call. Most are grey and low, two to seven tokens: pieces of one certain text. Red bars, "
    "for tokens that decide something, stand where the tool is chosen, at the digits of the year, about twenty high, "
    "and at the singer's name, where they nearly reach the line of all tokens."
)
show(figure, "15-allowed", alt=alt)
assert max(counts) > len(written_by) / 2  # inside a string nearly everything may come

# %% [markdown]
# Where a bar is grey and still higher than one, there are several tokens that spell a beginning of the same certain
# text. What is left to the model is the choice of the tool, the words of the user, and where to stop: just what a model
# is needed for.
#
# ## What it cannot do
#
# The shape is right. And the content?


# %%
def right(ids: list[int], wanted: tuple[str, dict]) -> bool:
    return readable(ids) and [(c.name, c.arguments) for c in minifc.parse_calls([OPEN, *ids], tokenizer)] == [wanted]


def count_right(written: list[list[int]]) -> int:
    return sum(right(ids, wanted) for ids, (_, wanted) in zip(written, REQUESTS, strict=True))


print(f"a model that was never taught: {count_right([ids for ids, _ in calls])} of {len(calls)} right")

# %% [markdown]
# The grammar knows what a call looks like, not what was asked for. A string may be any string. So let us take the model
# that *was* taught, in two ways: made to call at once, as above, and left to think first, as it was trained to. In the
# second way it writes freely until it opens a call itself, and only then the grammar holds it.

# %%
if EMBEDDED:
    taught = minifc.load_model(MODEL, torch.float32)
    minifc.load_adapter(taught, minifc.load_tokenizer(MODEL), CALLER)  # the tags have the same ids in it

    @cache
    def think(sentence: str) -> list[int]:
        """What the model writes up to the tag that opens a call; its whole answer if it opens none."""
        (ids,) = minifc.generate(taught, prompt(sentence)[:-1], 160)
        return ids[: ids.index(OPEN) + 1] if OPEN in ids else ids

    def answer(sentence: str) -> list[int]:
        """The call that it thinks of; no ids if it calls nothing."""
        ids = think(sentence)
        return write(prompt(sentence)[:-1] + ids, ask=asker(1024, taught))[0] if ids[-1] == OPEN else []

    def at_once(sentence: str) -> list[int]:
        """The call that it is made to write."""
        return write(prompt(sentence), most_tokens=64, ask=asker(1024, taught))[0]

    made = [at_once(sentence) for sentence, _ in REQUESTS]
    thought = [answer(sentence) for sentence, _ in REQUESTS]
    print(f"taught, made to call at once:  {count_right(made)} of {len(REQUESTS)} right, such as")
    print("   ", tokenizer.decode(made[1][:-1]).strip())
    print(f"taught, left to think first:   {count_right(thought)} of {len(REQUESTS)} right, such as")
    print("   ", tokenizer.decode(think(REQUESTS[1][0])[:-1]), tokenizer.decode(thought[1][:-1]).strip())
    assert count_right(thought) > max(count_right(made), count_right([ids for ids, _ in calls]))

# %% [markdown]
# All these calls can be read; what is in them depends on the model alone. Three things to remember:
#
# - *Right shape, wrong content.* No grammar replaces the training that the second part of these lessons was about.
# - *The model must decide to call.* Hold the whole answer to the shape of a call, and it must call where no tool fits,
#   and without the thought that would have led to the right one. So the grammar begins where the model opens a call.
# - *The best next token is not the best call.* The mask drops what is forbidden and keeps the order of the rest, one
#   token at a time. A beginning that looks good may only have poor continuations
#   ([Park et al. 2024](https://arxiv.org/abs/2405.21047)). A model that was trained on the one written form hardly
#   meets this: it would have written it anyway.

# %%
if EMBEDDED:
    unfit = "Please sell a house with owner Nina."
    print("made to call:", tokenizer.decode(at_once(unfit)[:-1]).strip())
    print("left to think:", tokenizer.decode(think(unfit)))
    assert OPEN not in think(unfit)

# %% [markdown]
# ## The package's own
#
# [`minifc/calling/grammar.py`](../minifc/calling/grammar.py) does the same for more of JSON Schema: numbers within
# bounds, lists, objects in objects, and schemas that hold themselves, as a folder holds folders. The last no expression
# of ours can describe, since brackets within brackets must be counted. Its states are stacks of what is still to be
# written, and it answers for the whole inside of a string from a table. At every step of several calls, it allows the
# same tokens as ours and forces the same.

# %%
texts = [
    example,
    '\n{"name": "find_song", "arguments": {"singer": "Zoë \\"🦜\\" \\u0007\\n"}}\n',
    '\n{"name": "find_sofa", "arguments": {"colour": "reddish", "price": -120}}\n',
    '\n{"name": "find_sofa", "arguments": {"colour": "red", "price": 0}}\n',
    '\n{"name": "weigh_parcel", "arguments": {"owner": ""}}\n',
]
steps = 0
for ids in [*([*tokenizer.encode(text), CLOSE] for text in texts), *(ids for ids, _ in calls), *rolled[:10]]:
    state, grammar = LANGUAGE, minifc.Grammar(TOOLS, tokenizer)
    grammar.advance(OPEN)
    for id_ in ids:
        assert set(grammar.allowed().nonzero()[:, 0].tolist()) == set(allowed(state).tolist()), tokenizer.decode([id_])
        assert grammar.forced() == forced(state)
        grammar.advance(id_)
        state = after_token(state, id_) if id_ != CLOSE else EMPTY
        steps += 1
    assert grammar.finished
print(f"{steps} steps, the same tokens allowed and the same forced")

# %% [markdown]
# `minifc.generate` takes such a grammar for each row, and tells it at every step how many tokens are left,
# `grammar.allowed(budget)`. So the package looks ahead before a token is picked: what there would be no room to
# complete is behind the mask, too, and so is the tag that opens a call when there is no room for one. Where nothing
# runs out of room, it writes our calls.

# %%
for (sentence, _), (ids, _) in zip(REQUESTS, calls, strict=True):
    if len(ids) < 64:
        grammar = minifc.Grammar(TOOLS, tokenizer)
        grammar.advance(OPEN)
        (written,) = minifc.generate(model, prompt(sentence), 512, stop_ids=[CLOSE], constraints=[grammar])
        assert [*written, CLOSE] == ids
if EMBEDDED:  # left to think, it is held only from where it opens a call
    for (sentence, _), ids in list(zip(REQUESTS, thought, strict=True))[::3]:
        grammar = minifc.Grammar(TOOLS, tokenizer)
        (whole,) = minifc.generate(taught, prompt(sentence)[:-1], 256, constraints=[grammar])
        assert whole == think(sentence) + ids

# %% [markdown]
# **Exercises** (`lessons/exercises/15_decoder.py`, then `python -m lessons.check 15`): what may follow, for a list of
# strings; the tokens that may come next; the pick behind the mask.
#
# **Next:** what becomes of a call: the model acts, and reads what came of it.
