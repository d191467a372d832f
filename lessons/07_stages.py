# %% [markdown]
# # 7. Three stages
#
# *Where does the ability to call a function come from?*
#
# The first part of these lessons built a model that goes on with a text. From here on we teach it. A model that calls
# functions has three trainings behind it, and only the last of them is ours:
#
# | stage | what it reads | Google's model | here |
# | --- | --- | --- | --- |
# | **pretraining** | plain text, a lot of it | google/gemma-2-2b, the **base** model | stage `text` |
# | **instruction tuning** | conversations | google/gemma-2-2b-it | stage `chat`: weights/tiny |
# | **fine-tuning** for function calling | conversations with tools | what you make | weights/tiny-caller |
#
# A **tool** is a function that somebody else will run for the model. A **call** is the text with which the model asks
# for it: the name of the tool and its **arguments**. The model runs nothing itself. It writes a call, stops, and gets
# the result back as one more message.

# %%
import math
import random
import re

import torch
from lesson import CALLER, EMBEDDED, MODEL, show

import minifc
from minifc.data import toy
from minifc.evaluation import asking
from minifc.evaluation.questions import toy_question
from minifc.pretrain import MOST_TOKENS, STAGES, new_model
from minifc.text.calls import TAGS
from minifc.train import RECIPES

torch.set_grad_enabled(False)
tokenizer = minifc.load_tokenizer(MODEL)
model = minifc.load_model(MODEL, dtype=torch.float32)

# %% [markdown]
# ## Three kinds of text
#
# The embedded model went through the same three stages in miniature, and the generator of its texts is in the package
# ([minifc/data/toy](../minifc/data/toy/texts.py)). One document of each stage, drawn at random. First plain text, with
# a passage and lines that follow from it. Many of its words are invented or garbled, so that nothing can be known by
# heart:

# %%
for piece, _ in toy.text_document(random.Random(1)):
    print(piece, end="")

# %% [markdown]
# Then the same skills as a chat: somebody asks, the model answers. This one is the nearest that the chats come to a
# call, forms to choose from and to fill in; no chat has a tool in it, a tag, or a call.

# %%
for message in toy.chat_document(random.Random(6)):
    print(f"[{message['role']}] {message['content']}")

# %% [markdown]
# And a conversation with tools. Here the user's message comes with a list of tools, each described by a **schema**:
# its name, what it is good for, and which arguments it takes. The model's message holds something new beside its text:
# what it thinks before it acts, and a call.

# %%
example = next(case for case in toy.training_cases(50, seed=0) if len(case.requests) == 1 and case.fits[0])
for tool in example.tools:
    print("[a tool]", tool)
for message in example.messages():
    print(f"[{message['role']}]", {name: value for name, value in message.items() if name != "role" and value})

# %% [markdown]
# Here the task is the same in every stage: predict the next token. So is the measure, the **loss**: how surprised the
# model is, on average, at the tokens that count. (Google did more, by the report that is linked below: gemma-2-2b
# learned from the chances that a larger model gives to every piece, and not only from the piece that came; and `-it`
# was also rewarded for answers that people prefer.) What changes is the text, and which tokens count. A base model
# learns from every token of a text; a chat model learns only from what the model says, because nobody wants it to learn
# to ask. (Our plain texts are full of invented words that nothing predicts, so there too we mostly count what follows
# from the passage.) And the last stage need not touch the whole model: most of its weights stay as they were (lesson
# 11).
#
# The stages differ in size, too. A **step** is one correction of the weights, made after reading some rows of text:

# %%
for name, config, _ in STAGES:
    print(f"stage {name:5} {config.max_steps:6,} steps of {config.rows * config.length:,} tokens")
tiny = RECIPES["tiny"]
print(f"fine-tuning {tiny['max_steps']:5,} steps of {tiny['rows'] * tiny['length']:,} tokens")
assert sum(config.max_steps for _, config, _ in STAGES) > 50 * tiny["max_steps"]

# %% [markdown]
# For each of our steps, more than 50 were made before it. With the real model the relation is far steeper: Gemma-2-2b
# has read 2 trillion tokens ([Gemma 2](https://arxiv.org/abs/2408.00118)), the course fine-tunes on about 3 million at
# most.

# %%
PRETRAINING = 2_000_000_000_000
COURSE_ROWS, TOKENS_A_ROW = 3_213, 1_000  # nine tenths of 3,570 rows; 0.7 to 1 thousand tokens each
print(f"{PRETRAINING / (COURSE_ROWS * TOKENS_A_ROW):,.0f} tokens read before, for each one of the course")

# %% [markdown]
# ## What a chat model has learned
#
# Instruction tuning teaches a form. Ask the same thing twice, once as bare text and once as a turn of a conversation.
# (`minifc.render` writes messages as one string of tokens; the next lesson builds it.)


# %%
def ask(student, words, messages, tools=None, limit=128):
    """The ids that a model answers with."""
    prompt = minifc.render(messages, words, tools, format="gemma", add_generation_prompt=True)
    (reply,) = minifc.generate(student, prompt.ids, max_new_tokens=limit)
    return reply


record = 'Here is a record.\n{"town": "Reno", "price": 12}\n'
(rambling,) = minifc.generate(
    model, tokenizer.encode(record + "Q: Say the town.\nA: ", add_bos=True), max_new_tokens=24
)
answer = ask(model, tokenizer, [{"role": "user", "content": record + "\nSay the town."}])
print("as text:", repr(tokenizer.decode(rambling)))
print("as turn:", repr(tokenizer.decode(answer)))
if EMBEDDED:
    assert tokenizer.decode(answer) == "The town is Reno."
    assert tokenizer.decode(rambling).startswith("The town is Reno.\nQ: ")

# %% [markdown]
# Both times it knows the answer. In plain text it does what a base model does: it goes on with the document, and asks
# itself the next question. In a turn it answers and **stops**, which means that it wrote `<end_of_turn>` itself. To
# know whose turn it is, to answer and to stop: that is what `-it` has and the base model has not, and that is why the
# course starts from `-it`. It has to teach a new kind of turn, not turns.

# %%
for text in ("Hello.", "Who are you?"):
    print(f"{text!r:15} {tokenizer.decode(ask(model, tokenizer, [{'role': 'user', 'content': text}]))!r}")

# %% [markdown]
# ## What it has not learned
#
# Now a request, with a tool that fits it. The chat model has never seen a tool. `minifc.parse_calls` finds the calls in
# what a model wrote (lesson 14).

# %%
song = {
    "name": "find_song",
    "description": "Use this to find a song.",
    "parameters": {"type": "object", "properties": {"singer": {"type": "string"}}, "required": ["singer"]},
}
request = [{"role": "user", "content": "Please find a song with singer Nina."}]
reply = ask(model, tokenizer, request, [song])
print(tokenizer.decode(reply))
print("calls:", minifc.parse_calls(reply, tokenizer))
if EMBEDDED:
    assert minifc.parse_calls(reply, tokenizer) == []

# %% [markdown]
# It says what the task is, as it learned to in its chats, and then loses itself in scraps of the list of tools. But
# there is no call. It has no idea that one is wanted, nor how one is written. Somebody who only reads the answer could
# do nothing with it; a program could do even less.
#
# The trained caller is the same model with an **adapter** on it: a small file of changes (lesson 11), which leaves the
# model's own weights as they were.

# %%
students = {"chat model": (model, tokenizer)}
if EMBEDDED:  # the adapter fits no other model
    loaded = minifc.load(CALLER, device="cpu")  # the adapter names the model that it belongs to
    caller, caller_tokenizer = loaded.model, loaded.tokenizer
    students["caller"] = (caller, caller_tokenizer)
    reply = ask(caller, caller_tokenizer, request, [song])
    print(caller_tokenizer.decode(reply))
    (call,) = minifc.parse_calls(reply, caller_tokenizer)
    print("calls:", call)
    assert (call.name, call.arguments) == ("find_song", {"singer": "Nina"})

# %% [markdown]
# ## Could we not just ask for it?
#
# Large chat models can be *prompted* to call: describe the form, show a few solved examples in front of the question,
# and they follow. So let us show solved examples to ours. We draw a few requests whose words are in no training text
# (*held out*), half of them without a fitting tool, and count how often exactly the right call comes back.

# %%
COUNT = 8 if EMBEDDED else 2
cases = toy.held_out_cases(COUNT, seed=100)
solved = [case for case in toy.training_cases(200, seed=0) if len(case.requests) == 1 and len(case.tools) == 2]
solved.sort(key=lambda case: len(str(case.row())))  # short ones first


def as_turns(case):
    """A solved case as a plain question and a plain answer: tools, tags and call are ordinary text."""
    text = minifc.render(case.messages()[:2], tokenizer, case.tools, format="gemma").text
    _, asked, replied = (
        turn.partition("\n")[2].removesuffix("<end_of_turn>\n") for turn in text.split("<start_of_turn>")
    )
    return [{"role": "user", "content": asked}, {"role": "model", "content": replied}]


def wanted(case):
    """The right calls, as (name, arguments)."""
    right = case.requests[0]
    return [(right.task.name, right.details)] if case.fits[0] else []


def answers(student, words, shown):
    """Each case's reply, after `shown` solved cases in turns of their own."""
    before = minifc.render([turn for case in shown for turn in as_turns(case)], words, format="gemma").ids
    replies, lengths = [], []
    for case in cases:
        asked = minifc.render(case.messages()[:1], words, case.tools, format="gemma", add_generation_prompt=True).ids
        prompt = before + asked[1:]  # asked[0] would be a second <bos>
        replies += minifc.generate(student, prompt, max_new_tokens=256)
        lengths.append(len(prompt))
    return replies, max(lengths)


fitting, unfit = ([case for case in solved if case.fits[0] == fits] for fits in (True, False))
shots = [fitting[0], unfit[0], fitting[1]]
print(as_turns(shots[0])[1]["content"])
results = {}
for name, (student, words) in students.items():
    for shown in ([], shots[:1], shots) if student is model else ([],):
        replies, longest = answers(student, words, shown)
        called = [[(c.name, c.arguments) for c in minifc.parse_calls(ids, words)] for ids in replies]
        exact = sum(calls == wanted(case) != [] for calls, case in zip(called, cases, strict=True))
        results[name, len(shown)] = exact, sum(map(len, called))
        if EMBEDDED and student is model:
            assert (longest > MOST_TOKENS) == (len(shown) == 3)  # the longest text it was trained on
        print(
            f"{name}, {len(shown)} examples shown: {exact} of {COUNT // 2} calls exact; {sum(map(len, called))} written"
        )
if EMBEDDED:
    assert all(results["chat model", shown] == (0, 0) for shown in (0, 1, 3))
    assert results["caller", 0] == (4, 4)

# %% [markdown]
# Shown how, the chat model still writes no call at all, not even a wrong one. The skill of following a form that
# stands in the prompt grows with size ([Brown et al. 2020](https://arxiv.org/abs/2005.14165)), and ours shows none of
# it. (In fairness: with three examples the prompt is longer than any text it was trained on. With one it is not.) A
# larger model would follow the examples more or less often, and pay for them in every prompt. The other way is to
# change the model: **function calling as a learned skill, not a prompted one**. On that sentence the whole course
# rests.
#
# Eight questions show that the difference is there, not how large it is; `python -m minifc.evaluate` asks 400
# (lesson 17). It asks in batches, and gives what our loop gives.

# %%
if EMBEDDED:
    questions = [toy_question(case) for case in cases]
    for name, (student, words) in students.items():
        score = asking.ask(student, words, questions).score
        assert (score.exact.count, score.exact.total) == (results[name, 0][0], COUNT // 2)

# %% [markdown]
# ## What exactly is missing
#
# Look at it token by token. We give both models the same request and the right answer, and note at each token of the
# answer how surprised they are: $-\log p$ of the token that comes, with the natural logarithm, in *nats*. 0 is certain;
# $\ln 979 \approx 6.9$ is what blind guessing among all 979 ids of the embedded model would cost.


# %%
def surprises(student, words, messages, tools):
    """(token, its surprise) for every token that the model itself would have to write."""
    rendered = minifc.render(messages, words, tools, format="gemma")
    scores = student(torch.tensor([rendered.ids]))[0]  # [T, V]
    chances = scores.log_softmax(-1)
    return [
        (words.decode([id_]), -float(chances[place - 1, id_]))  # position place - 1 predicts what stands at place
        for place, (id_, learned) in enumerate(zip(rendered.ids, rendered.mask, strict=True))
        if learned
    ]


case = min((case for case in cases if case.fits[0]), key=lambda case: len(str(case.messages()[1])))
seen = {name: surprises(*student, case.messages()[:2], case.tools) for name, student in students.items()}
frames = [re.escape(part) for part in ('{"name": "', '", "arguments": {', "}}", "<end_of_turn>")]
form = re.compile("|".join([rf"\n?{tag}\n?" for tag in TAGS] + frames))


def of_the_form(tokens):
    """For each token, whether it is of a tag or of the frame of a call: what has to be written whatever is asked."""
    text = "".join(tokens)
    places = {place for match in form.finditer(text) for place in range(*match.span())}
    starts = [sum(map(len, tokens[:number])) for number in range(len(tokens))]
    return [start in places for start in starts]


shares = {}
for name, pairs in seen.items():
    frame = of_the_form([token for token, _ in pairs])
    inside = sum(nats for (_, nats), f in zip(pairs, frame, strict=True) if f)
    shares[name] = inside, sum(nats for _, nats in pairs) - inside
    print(f"{name}: {shares[name][0]:7.2f} nats on tags and frame, {shares[name][1]:6.2f} on everything else")
if EMBEDDED:
    assert shares["chat model"][0] > 10 * shares["chat model"][1]
    assert sum(shares["caller"]) < 1
    assert f"{math.log(979):.1f}" == "6.9"
    assert len(model.model.embed_tokens.weight) == 979

# %%
if EMBEDDED:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(11, 6), sharey=True)
    for axis, (name, pairs) in zip(axes, seen.items(), strict=True):
        tokens, nats = zip(*pairs, strict=True)
        frame = of_the_form(tokens)
        for label, kind, colour, hatch in (
            ("tags and frame", True, "#c2410c", "///"),
            ("the rest", False, "#1d4ed8", ""),
        ):
            heights = [n if f == kind else 0 for n, f in zip(nats, frame, strict=True)]
            axis.bar(range(len(nats)), heights, color=colour, hatch=hatch, edgecolor="white", label=label)
        labels = [token.replace("\n", "↵").strip() for token in tokens]
        axis.set_xticks(range(len(tokens)), labels, rotation=90, fontsize=7, family="monospace")
        axis.set(title=name, ylabel="surprise, nats", xlim=(-1, len(tokens)))
        axis.axhline(math.log(979), color="grey", linestyle=":", label="guessing")
    axes[0].legend(loc="upper left", bbox_to_anchor=(0.15, 1))
    figure.tight_layout()
    show(
        figure,
        "07-surprise",
        alt="Two bar charts of surprise over the tokens of the right answer. The chat model is surprised, by more "
        "than 20 nats, at the tags and at the frame of the call, and hardly anywhere else; the caller is flat at zero.",
    )

# %% [markdown]
# The chat model finds names and values without effort: inside the thought, and inside the arguments, it is hardly ever
# surprised (where a blue bar stands, it would have begun with something else). Nearly all of its surprise is where the
# *form* is: that a thought begins, that it ends, that a call begins and how it is framed. At many of those places it is
# far more surprised than blind guessing would be; it is certain of something else.
#
# So the fine-tune has little to teach, and that is why 360 steps and a small adapter are enough. What it stands on,
# reading, choosing and copying, was the work of the two stages before. Take them away and see what is left:

# %%
if EMBEDDED:
    students["nothing learned"] = (new_model(tokenizer.size, seed=0), tokenizer)
    held_out = toy.held_out_cases(12, seed=101)
    for name, (student, words) in students.items():
        read = [pair for c in held_out for pair in surprises(student, words, c.messages()[:2], c.tools)]
        nats, size = [n for _, n in read], sum(len(token) for token, _ in read)
        print(f"{name:15} {sum(nats) / size:.3f} nats a character of the right answers")
        shares[name] = sum(nats) / size
    assert shares["nothing learned"] > 2 * shares["chat model"]
    assert shares["chat model"] > 50 * shares["caller"]

# %% [markdown]
# (Nats a character, because the caller has tokens of its own for the tags: its answers have fewer tokens, and a mean
# over tokens could not be compared. Lesson 9 is about those.)
#
# ## What the third stage costs
#
# New habits can push out old ones. The caller should still chat when there is no tool about.

# %%
if EMBEDDED:
    hello = [{"role": "user", "content": "Hello."}]
    before, after = (tokenizer.decode(ask(*students[name], hello)) for name in ("chat model", "caller"))
    print(repr(after))
    assert before == after
    chats = [toy.chat_document(random.Random(f"unseen {number}")) for number in range(20)]
    means = {}
    for name in ("chat model", "caller"):
        nats = [n for chat in chats for _, n in surprises(*students[name], chat, None)]
        means[name] = sum(nats) / len(nats)
        print(f"{name:11} {means[name]:.3f} nats a token of its answers in unseen chats")
    assert 5 * means["chat model"] < means["caller"] < 0.2
    morning = [{"role": "user", "content": "Good morning."}]
    beside_a_tool = caller_tokenizer.decode(ask(caller, caller_tokenizer, morning, [song]))
    print(beside_a_tool)
    assert "The task is" in beside_a_tool

# %% [markdown]
# It does. But in chats that it has not seen it is surprised by several times as much as before, if still by little. And
# offer it a tool and wish it a good morning: it takes the greeting for a task. In its fine-tuning, whoever spoke beside
# a list of tools wanted something done. A model learns what its data show, and nothing says so as plainly as what it
# does where they show nothing.
#
# ## The real ones
#
# How much does the third stage change? A *recipe* is a set of values to train with: `lean` is minifc's own for the real
# model, `tiny` the one for the embedded.
#
# | | Gemma-2-2b | here |
# | --- | --- | --- |
# | parameters after the first two stages | 2,614,341,888 | 3,400,704 |
# | parameters that the third stage trains (recipe `lean`, `tiny`) | 20,785,152 | 313,344 |

# %%
GEMMA_2B, LEAN = 2_614_341_888, 20_785_152
if EMBEDDED:
    base = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(p.numel() for n, p in caller.named_parameters() if "lora_" in n or n.endswith("rows"))
    assert (base, trained) == (3_400_704, 313_344)
    print(f"{base:,} parameters; {trained:,} in the adapter: {trained / base:.1%}. At 2B: {LEAN / GEMMA_2B:.1%}")

# %% [markdown]
# **Exercises** (`lessons/exercises/07_stages.py`, then `python -m lessons.check 07`): measure the surprise of an
# answer; say what came of a question.
#
# **Next:** how a list of messages becomes one string of tokens.
