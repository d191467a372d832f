# %% [markdown]
# # 18. Merging, sharing, running elsewhere
#
# *What must leave the house, so that somebody else can run it?*
#
# A trained model is, so far, two things in our memory: the base model and the small change that was learned beside it.
# To share it there are two ways. Share the change alone, an **adapter**, for people who have the base model. Or add
# it to the weights, **merge** it, and share an ordinary model that any program can run. This lesson does both by hand,
# and measures what is lost on the way.
#
# It needs an adapter, so it stays with the embedded model, whatever MINIFC_MODEL says.

# %%
import json
import tempfile
import time
from contextlib import chdir
from importlib.util import find_spec
from pathlib import Path

import torch
from lesson import CALLER, ROOT
from safetensors.torch import load_file, save_file

import minifc

BASE = ROOT / "weights/tiny"
WORK = Path(tempfile.mkdtemp())


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


for file in sorted(CALLER.iterdir()):
    print(f"{file.name:28}{size(file):>10,} bytes")

# %% [markdown]
# ## What an adapter is made of
#
# The format is that of PEFT, the library that most people train LoRA with, so that either reads the other's files. (One
# thing PEFT cannot hold: new rows in a table that has LoRA on it as well, which is what `--recipe course` makes.) A
# small text file says what was trained, another file holds the numbers.

# %%
config = json.loads((CALLER / "adapter_config.json").read_text())
learned = load_file(CALLER / "adapter_model.safetensors")
print({key: config[key] for key in ("base_model_name_or_path", "r", "lora_alpha", "target_modules")})
for name, tensor in list(learned.items())[-3:]:
    print(name, list(tensor.shape), tensor.dtype)
print(f"{len(learned)} tensors, {sum(t.numel() for t in learned.values()):,} numbers")

# %% [markdown]
# There are two kinds: pairs `lora_A`, `lora_B` for the linear layers ([lesson 11](11_lora.py)), and the rows of the new
# tokens ([lesson 9](09_new_tokens.py)). All of it in fp32, as it was trained; that is why the adapter is not smaller
# still.
#
# ## Merging
#
# LoRA computes $Wx + \frac{\alpha}{r} B(Ax)$. That is $(W + \frac{\alpha}{r} BA)\,x$: one matrix, as large as $W$ was.
# So the change can be added once and for all. We do it for all layers, in fp32, and put the new rows below the table.

# %%
weights = {name: tensor.float() for name, tensor in load_file(BASE / "model.safetensors").items()}
scaling = config["lora_alpha"] / config["r"]
PREFIX, TABLE = "base_model.model.", "model.embed_tokens.weight"
changes = {}
for name, A in learned.items():
    if name.endswith(".lora_A.weight"):
        B = learned[name.replace("lora_A", "lora_B")]
        changes[name.removeprefix(PREFIX).replace(".lora_A", "")] = scaling * (B @ A)
rows = next(tensor for name, tensor in learned.items() if "trainable_tokens" in name)

merged = {name: weight + changes[name] if name in changes else weight for name, weight in weights.items()}
merged[TABLE] = torch.cat([weights[TABLE], rows])
print(f"{len(changes)} matrices changed; table {list(weights[TABLE].shape)} → {list(merged[TABLE].shape)}")

# %% [markdown]
# Written into a folder, with the number of rows in its config, this is an ordinary Gemma-2. Is it the same model?


# %%
def save(weights: dict[str, torch.Tensor], name: str) -> Path:
    folder = WORK / name
    folder.mkdir()
    save_file({key: weight.contiguous() for key, weight in weights.items()}, folder / "model.safetensors")
    settings = json.loads((BASE / "config.json").read_text())
    settings["vocab_size"] = len(weights[TABLE])
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


model, tokenizer = minifc.load_model(BASE, torch.float32), minifc.load_tokenizer(BASE)
minifc.load_adapter(model, tokenizer, CALLER)

TOOL = {
    "name": "find_song",
    "description": "Use this to find a song.",
    "parameters": {"type": "object", "properties": {"singer": {"type": "string"}}, "required": ["singer"]},
}
question = [{"role": "user", "content": "Please find a song with singer Nina."}]
prompt = minifc.render(question, tokenizer, [TOOL], format="gemma", add_generation_prompt=True).ids
(reply,) = minifc.generate(model, prompt, 96)
text = torch.tensor([prompt + reply])


@torch.no_grad()
def moved(folder: Path) -> tuple[float, float]:
    """How far the logits are from those of base and adapter, as a share of the largest; how often another id leads."""
    wanted, found = model(text), minifc.load_model(folder, torch.float32)(text)
    difference = (found - wanted).abs().max() / wanted.abs().max()
    return float(difference), float((found.argmax(-1) != wanted.argmax(-1)).float().mean())


exact = moved(save(merged, "fp32"))
print(f"merged in fp32: logits move by {exact[0]:.1e}, another token leads at {exact[1]:.1%} of places")
assert exact[0] < 1e-5
assert exact[1] == 0

# %% [markdown]
# The same, but for the order in which numbers are added. And it is faster: there is nothing beside the matrices any
# more. The change alone takes few multiplications, but many small steps.

# %%
plain = minifc.load_model(WORK / "fp32", torch.float32)
for name, candidate in (("with adapter", model), ("merged", plain)):
    modules = sum(1 for module in candidate.modules() if isinstance(module, torch.nn.Linear))
    started = time.perf_counter()
    minifc.generate(candidate, prompt, 48)
    print(f"{name:14}{modules:4} linear layers, {time.perf_counter() - started:.2f} s for an answer")

# %% [markdown]
# ## In what precision?
#
# Models are stored in bf16, which has 7 bits for a number's digits (lesson 5): from 1 the next number is $1 + 2^{-7}$.
# A change that is small beside its weight can be less than half a step, and then it is rounded away. How many are?

# %%
stored = {name: weight.bfloat16() for name, weight in merged.items()}
total = sum(weights[name].numel() for name in changes)
for share in (1, 0.1, 0.01):
    same = sum(int(((weights[n] + share * changes[n]).bfloat16() == weights[n].bfloat16()).sum()) for n in changes)
    print(f"a change {share:g} times as large leaves {same / total:.0%} of the weights as they were")
rounded = moved(save(stored, "bf16"))
print(f"stored in bf16: logits move by {rounded[0]:.1e}, another token leads at {rounded[1]:.1%} of places")

# %% [markdown]
# Our change was learned with strength; of a gentle one, most would be rounded away. (The base model is stored in bf16,
# too, so its weights lie exactly on the steps.) That is the price of the format. It can be made higher than it needs to
# be. Above, the sum was made in fp32 and rounded once. Whoever merges in bf16 rounds the product too, and whoever
# merges several changes one after the other rounds after each; small ones may vanish one by one. To see it, we take the
# change apart into its ranks and add them singly.

# %%
pieces = {name: weight.bfloat16() for name, weight in weights.items()}
pieces[TABLE] = stored[TABLE]
for name in changes:
    A, B = (learned[f"{PREFIX}{name.removesuffix('.weight')}.lora_{matrix}.weight"] for matrix in "AB")
    for rank in range(config["r"]):
        pieces[name] += (scaling * B[:, rank : rank + 1].bfloat16() @ A[rank : rank + 1].bfloat16()).bfloat16()


def error(of: dict[str, torch.Tensor]) -> float:
    """The mean distance from the merged weights in fp32."""
    return float(sum((of[name].float() - merged[name]).abs().sum() for name in changes) / total)


once, singly = error(stored), error(pieces)
print(f"mean error of a weight: rounded once {once:.1e}, rounded {config['r']} times {singly:.1e}")
one_by_one = moved(save(pieces, "pieces"))
print(f"one by one in bf16: logits move by {one_by_one[0]:.1e}")
assert singly > 1.5 * once

# %% [markdown]
# So: base and adapter in fp32, add, round once at the end, and measure what came of it. A merged model that was never
# compared with the adapter model is a guess.
#
# ## The tokenizer goes with it
#
# The new tokens are rows in the table, and their names stand in the tokenizer. Whoever gets the weights and takes the
# base model's tokenizer has a model that speaks eight words which nobody can read.

# %%
old = minifc.load_tokenizer(BASE)
print("the tag, by the right tokenizer:", tokenizer.encode("<tool_call>", control_tokens=True))
print("the tag, by the old one:        ", old.encode("<tool_call>", control_tokens=True))
try:
    old.decode(reply)
    raise AssertionError("it was read")
except minifc.MinifcError as error_:
    print("its answer, by the old one:", error_)
asked = minifc.render(question, old, [TOOL], format="gemma", add_generation_prompt=True).ids
(other,) = minifc.generate(plain, asked, 96)
print("asked by the old one:", tokenizer.decode(other)[:90])
assert len(asked) > len(prompt)  # the tags around the tools came in pieces that the model was not trained on

# %% [markdown]
# The question came in other pieces than in training, which our model happens to bear; its answer cannot be read at all.
# That is a loud failure, because minifc refuses an id without a name. Elsewhere such ids are left out silently: the
# call is still there, its tags are not, and no call is ever found. So an adapter folder holds its tokenizer, too.
#
# ## One table or two
#
# Gemma has one table for reading ids and for writing them; the two are *tied*. Our recipe adds rows to that table, and
# it stays one. The course's recipe puts LoRA on `embed_tokens` and on `lm_head`: two changes of one table, one for each
# direction. Merged, they are two tables. Let us do that to the base model, with changes drawn at random in place of
# learned ones.

# %%
from minifc.tuning.adapter import adapter_tensors  # noqa: E402

torch.manual_seed(0)
untied = minifc.load_model(BASE, torch.float32)
minifc.add_lora(untied, r=4, alpha=8, dropout=0.0, targets=("embed_tokens", "lm_head"))
for tensor in adapter_tensors(untied).values():
    tensor.normal_(std=0.1)
drawn = {name.rpartition("lora_")[2]: tensor.clone() for name, tensor in adapter_tensors(untied).items()}
print({name: list(tensor.shape) for name, tensor in drawn.items()})

table = untied.state_dict()["model.embed_tokens.base_layer.base_layer.weight"]
reading = table + 8 / 4 * (drawn["embedding_B"] @ drawn["embedding_A"]).T
writing = table + 8 / 4 * drawn["B.weight"] @ drawn["A.weight"]
sample = torch.tensor([old.encode("Please find a song.", add_bos=True)])
with torch.no_grad():
    wanted = untied(sample)
    minifc.merge(untied)
    two = untied(sample)
    vocabulary = untied.model.embed_tokens
    assert torch.allclose(vocabulary.weight, reading, atol=1e-6)
    assert torch.allclose(vocabulary.head, writing, atol=1e-6)
    assert untied.config.tie_word_embeddings is False
    vocabulary.weight += writing - table  # both changes into one table, which then serves for both
    vocabulary.head = None
    tied = untied(sample)
largest = wanted.abs().max()
print(f"two tables: logits move by {float((two - wanted).abs().max() / largest):.1e}", end=", ")
print(f"one table: by {float((tied - wanted).abs().max() / largest):.0%}")
assert (two - wanted).abs().max() / largest < 1e-5 < 0.05 < (tied - wanted).abs().max() / largest

# %% [markdown]
# A program that merges both changes into the one table gets a wrong model, and no message. With two tables the config
# must say `"tie_word_embeddings": false`, and the model grows by a whole table. At gemma-2-2b's size:

# %%
ROWS, WIDTH = 256_000 + 8, 2304
COURSE_TRAINED, LEAN_TRAINED = 29_032_704, 20_785_152  # numbers trained by the course's recipe, and by ours
print(f"the second table: {ROWS * WIDTH * 2 / 1e9:.2f} GB in bf16")
print(f"an adapter of our recipe: {LEAN_TRAINED * 4 / 1e6:.0f} MB in fp32")
print(f"of the course's: {COURSE_TRAINED * 4 / 1e6:.0f} MB")

# %% [markdown]
# (The adapter that the course uploaded is much larger, because the whole table lies in it twice; lesson 11 did the
# sum.)
#
# ## The package's own
#
# `minifc.merge` does what we did. `python -m minifc.export` merges, measures, and writes a folder as the library
# *transformers* reads it. It takes a run or an adapter. A large model may not fit into memory in fp32, so it goes layer
# by layer: each is made fp32, merged, and rounded to what it is stored in before the next one's turn comes.

# %%
from minifc.export import main as export  # noqa: E402

with torch.no_grad():
    package, package_tokenizer = minifc.load_model(BASE, torch.float32), minifc.load_tokenizer(BASE)
    minifc.load_adapter(package, package_tokenizer, CALLER)
    minifc.merge(package)
ours, theirs = plain.state_dict(), package.state_dict()
assert ours.keys() == theirs.keys()
assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)

with chdir(WORK):
    export(["weights/tiny-caller", "--to", "my-model", "--dtype", "float32"])
for file in sorted((WORK / "my-model").iterdir()):
    print(f"{file.name:28}{size(file):>12,} bytes")
exported = moved(WORK / "my-model")
assert exported[0] < 1e-5  # the exported model is the adapter model
assert exported[1] == 0

# %% [markdown]
# Without `--dtype`, it stores what the base model is stored in, here bf16, and prints what that costs. Look into two of
# the files. The config has the grown table; the tokenizer's has the chat template, as a program in the little language
# Jinja, so that whoever runs the model writes conversations as it was trained on them.

# %%
written = json.loads((WORK / "my-model/config.json").read_text())
print({key: written[key] for key in ("architectures", "vocab_size", "tie_word_embeddings", "dtype")})
template = json.loads((WORK / "my-model/tokenizer_config.json").read_text())["chat_template"]
print(f"a template of {len(template):,} characters; the beginning of its main part:")
print(
    "\n".join(template[template.index("{%- for message") :].splitlines()[:8]) if "{%- for message" in template else ""
)

# %% [markdown]
# ## Running elsewhere
#
# The proof of a format is another program that reads it. If transformers is installed, we ask it: the same logits from
# the weights, and the same ids from the template?

# %%
if find_spec("transformers"):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    there = AutoModelForCausalLM.from_pretrained(WORK / "my-model", attn_implementation="eager").eval()
    with torch.no_grad():
        wanted, found = model(text), there(text).logits
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    print(f"transformers: logits differ by {difference:.1e} of the largest")
    assert difference < 1e-5
    reader = AutoTokenizer.from_pretrained(WORK / "my-model")
    ids = reader.apply_chat_template(question, tools=[TOOL], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == prompt
    print(f"its template: the same {len(ids)} ids")
else:
    print("transformers is not installed; with it, this cell compares logits and ids (pip install transformers)")

# %% [markdown]
# A folder that transformers reads is what most others read: vLLM serves it, and llama.cpp converts it to its own
# format. We have not tried either here; do with them as with the rest, and compare their greedy answers with ours
# before you trust them. One thing to look for: the tags of calls must arrive as control tokens. A server that leaves
# those out of its answers leaves out the calls ([lesson 14](14_calls.py)).
#
# ## The hub
#
# `python -m minifc.export runs/NAME --to my-model --push you/my-model` uploads the folder to the Hugging Face hub,
# after `hf auth login`. Two things belong to it that are not weights. A **model card** says what the model is, what it
# was made from and how to call it; and a **licence**. A model made from Gemma stays under Gemma's terms, merged or not,
# and whoever passes it on passes those on. The exported folder has the beginning of such a card:

# %%
card = (WORK / "my-model/README.md").read_text()
print(card)
assert "license:" in card
assert "function-calling" in card

# %% [markdown]
# It is a beginning. What belongs in it besides, only you can say: what it was trained on, how it was tested, with which
# figures and intervals ([lesson 17](17_evaluation.py)), and what it cannot do.
#
# **Exercises** (`lessons/exercises/18_sharing.py`, then `python -m lessons.check 18`): merge two changes of one table;
# foretell an adapter's size; measure how far two models are apart.
#
# **Next:** the same at full size.
