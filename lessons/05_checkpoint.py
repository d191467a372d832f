# %% [markdown]
# # 5. A checkpoint, and proving it equal
#
# *How do you know that the numbers in a file are the model you think they are?*
#
# We have built a model and borrowed its numbers from somebody who had loaded them. Now we load them ourselves, from the
# bytes on. That is soon done. Then comes the question that costs people weeks: a model with one thing slightly wrong
# still talks. It talks a little worse, and nothing says why. So we also build the instrument that finds such a thing.

# %%
import importlib.util
import json
import math
import mmap
import struct
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from lesson import EMBEDDED, MODEL, ROOT, show

import minifc
from minifc.errors import CheckpointError
from minifc.gemma.config import SLIDING, GemmaConfig, load_config
from minifc.gemma.model import Gemma

torch.set_grad_enabled(False)
tokenizer = minifc.load_tokenizer(MODEL)
config = load_config(MODEL)
files = sorted(MODEL.glob("*.safetensors"))
print([(file.name, f"{file.stat().st_size:,} bytes") for file in files])

# %% [markdown]
# ## Eight bytes, a list, and numbers
#
# A **checkpoint** is a model's weights in a file. The format is called *safetensors*, and it is as simple as can be: 8
# bytes that say how long the list is, the list, as JSON, and then all numbers, one tensor after the other. For each
# tensor the list has its name, its kind of number, its shape, and where its bytes begin and end.

# %%
with files[0].open("rb") as file:
    (length,) = struct.unpack("<Q", file.read(8))  # an unsigned whole number, lowest byte first
    header = json.loads(file.read(length))
print(f"the list is {length:,} bytes long and names {len(header):,} things; some of them:")
for name in list(header)[:6]:
    print("   ", name, header[name])

# %% [markdown]
# Why not Python's own way of keeping objects, `pickle`? Because a pickle is a program. Whoever opens one runs what its
# author wrote. A list of names and offsets cannot do anything; that is the *safe* in the name.
#
# The names are worth a look. They are the path of each weight through the modules of a model, as transformers, Hugging
# Face's library of models, calls them: `model.layers.2.self_attn.q_proj.weight`. The module names in minifc are the
# same, so nothing has to be translated when weights are loaded, and nothing can be translated wrongly.

# %%
where = {}  # name -> (file, its list's entry, where the numbers of the file begin)
for path in files:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        for name, entry in json.loads(file.read(length)).items():
            if name != "__metadata__":  # a remark, not a tensor
                where[name] = path, entry, 8 + length
count = sum(math.prod(entry["shape"]) for _, entry, _ in where.values())
size = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for _, entry, _ in where.values())
print(f"{len(where)} tensors, {count:,} numbers, {size:,} bytes: {size / count:.0f} bytes for each number")

OFFICIAL_PARAMETERS, OFFICIAL_BYTES = 2_614_341_888, 5_228_683_776
print(f"gemma-2-2b: {OFFICIAL_PARAMETERS:,} numbers, {OFFICIAL_BYTES:,} bytes")
assert OFFICIAL_BYTES == 2 * OFFICIAL_PARAMETERS

# %% [markdown]
# ## Half a number
#
# Two bytes for each number: the weights are stored in **bfloat16**. It is an ordinary 32-bit number (sign, 8 bits of
# exponent, 23 bits of digits) of which the lower half has been cut off. What remains has the same enormous range and
# only 7 bits of digits. To read one, put the missing half back, as zeros.


# %%
def number(two_bytes: bytes) -> float:
    return struct.unpack("<f", b"\0\0" + two_bytes)[0]  # the lower half comes first


name = "model.layers.0.input_layernorm.weight"
path, entry, start = where[name]
begin = start + entry["data_offsets"][0]
some = path.read_bytes()[begin : begin + 8] if EMBEDDED else b"\x80\x3f" * 4
print("8 bytes:", some.hex(" "), "are", [number(some[i : i + 2]) for i in range(0, 8, 2)])
assert number(b"\x80\x3f") == 1.0

pi = number(struct.pack("<f", math.pi)[2:])
print(f"pi in 32 bits {torch.tensor(math.pi):.6f}, and with the half cut off {pi:.6f}")

# %% [markdown]
# ## Not read, but mapped
#
# We could read the bytes and make tensors of them: for gemma-2-2b that would be five gigabytes read and copied. There
# is a better way. The operating system can **map** a file into memory: an address is given out for every byte of it,
# and the byte is fetched when somebody looks. A tensor can be laid over such addresses without moving anything.

# %%
KINDS = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
maps, mapped = {}, {}
for path in files:
    with path.open("rb") as file:
        maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # what we write stays with us
for name, (path, entry, start) in where.items():
    flat = torch.frombuffer(
        maps[path],
        dtype=KINDS[entry["dtype"]],
        count=math.prod(entry["shape"]),
        offset=start + entry["data_offsets"][0],
    )
    mapped[name] = flat.view(entry["shape"])
print(name, tuple(mapped[name].shape), [round(value, 3) for value in mapped[name].flatten()[:4].tolist()])
if EMBEDDED:
    assert mapped["model.layers.0.input_layernorm.weight"][:4].tolist() == [
        number(some[i : i + 2]) for i in (0, 2, 4, 6)
    ]

# %% [markdown]
# ## A model without numbers
#
# Now the model that these belong in. Ordinarily PyTorch gives a new model random numbers: gigabytes, written for
# nothing. On the device called `meta` tensors have a shape and no numbers. There we build the model, and then *assign*
# it our tensors: they become its parameters, as they are.

# %%
with torch.device("meta"):
    model = Gemma(config)
print("before:", model.model.norm.weight.device, tuple(model.model.norm.weight.shape))
model.load_state_dict(mapped, assign=True)  # a name too many or too few would be an error, and so would a wrong shape
first = model.model.embed_tokens.weight
print("after: ", first.device, first.dtype, tuple(first.shape))
assert first.data_ptr() == mapped["model.embed_tokens.weight"].data_ptr()  # not copied

# %% [markdown]
# That is the whole of loading. What the package adds are the questions that a stranger's file raises. Is it whole? Does
# it hold what the configuration calls for? We cut a file short and look.

# %%
with tempfile.TemporaryDirectory() as folder:
    for file in ("config.json", files[0].name):
        (Path(folder) / file).write_bytes((MODEL / file).read_bytes()[: None if file == "config.json" else 100_000])
    try:
        minifc.load_model(folder)
    except CheckpointError as error:
        print(str(error).replace(folder, "folder"))
    else:
        raise AssertionError("it loaded")

# %% [markdown]
# ## Names and shapes are not enough
#
# Everything fitted. Is it right? To know that we need a second opinion: the same computation, made by somebody else,
# and the results compared. Here the second opinion is a plain model again. It takes numbers by their names straight out
# of a dictionary, and notes what it finds at every station on the way.

# %%
Stations = dict[str, torch.Tensor]  # in the order in which they are computed


def plain(weights: dict[str, torch.Tensor], ids: list[int], c: GemmaConfig) -> Stations:
    """Gemma-2 from a dictionary of weights, with what it computes on the way."""
    T, half, notes = len(ids), c.head_dim // 2, {}
    angles = torch.arange(T)[:, None] * c.rope_theta ** -(torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    ago = torch.arange(T)[:, None] - torch.arange(T)[None]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.pow(2).mean(1, keepdim=True) + c.rms_norm_eps).sqrt() * (1 + weights[name + ".weight"])

    def turned(x: torch.Tensor) -> torch.Tensor:
        a, b = x[:, :half], x[:, half:]
        return torch.hstack((a * cos - b * sin, a * sin + b * cos))

    x = notes["door"] = weights["model.embed_tokens.weight"][ids] * math.sqrt(c.hidden_size)
    for number, kind in enumerate(c.layer_types):
        at = f"model.layers.{number}."
        heard = norm(x, at + "input_layernorm")
        q, k, v = ((heard @ weights[f"{at}self_attn.{n}_proj.weight"].T).split(c.head_dim, 1) for n in "qkv")
        homes = []
        for head in range(c.num_attention_heads):
            shared = head * c.num_key_value_heads // c.num_attention_heads
            score = turned(q[head]) @ turned(k[shared]).T / c.query_pre_attn_scalar**0.5
            score = (score / c.attn_logit_softcapping).tanh() * c.attn_logit_softcapping
            hidden = (ago < 0) | (ago >= (c.sliding_window if kind == SLIDING else T))
            homes.append(score.masked_fill(hidden, -math.inf).softmax(1) @ v[shared])
        answer = notes[f"layer {number}, attention"] = torch.hstack(homes) @ weights[at + "self_attn.o_proj.weight"].T
        x = x + norm(answer, at + "post_attention_layernorm")
        heard = norm(x, at + "pre_feedforward_layernorm")
        gate, up = (heard @ weights[f"{at}mlp.{n}_proj.weight"].T for n in ("gate", "up"))
        gate = gate * (1 + (math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)).tanh()) / 2
        answer = notes[f"layer {number}, feed-forward"] = (gate * up) @ weights[at + "mlp.down_proj.weight"].T
        x = x + norm(answer, at + "post_feedforward_layernorm")
    x = notes["last norm"] = norm(x, "model.norm")
    score = x @ weights["model.embed_tokens.weight"].T
    notes["logits"] = (score / c.final_logit_softcapping).tanh() * c.final_logit_softcapping
    return notes


# %% [markdown]
# The same stations in the package's model, noted by hooks.


# %%
def stations(model: Gemma, ids: list[int]) -> Stations:
    notes = {}
    hooks = [model.model.layers[0].register_forward_pre_hook(lambda _, inputs: notes.update(door=inputs[0][0]))]

    def note(module: torch.nn.Module, name: str) -> None:
        hooks.append(module.register_forward_hook(lambda _, inputs, output: notes.update({name: output[0]})))

    for number, layer in enumerate(model.model.layers):
        note(layer.self_attn, f"layer {number}, attention")
        note(layer.mlp, f"layer {number}, feed-forward")
    note(model.model.norm, "last norm")
    notes["logits"] = model(torch.tensor([ids]))[0]
    for hook in hooks:
        hook.remove()
    return notes


# %% [markdown]
# ## How equal is equal?
#
# Two computers that add the same numbers in another order get results that differ in the last digit. So we do not ask
# for the same bits. We ask by how much the results differ *as a share of the largest value*, and compute in 32 bits, so
# that the digits lost are far behind those we look at. Text that is longer than the window belongs in the test; what
# the test does not exercise it cannot find.

# %%
text = "Here is a record. " * 6 + '{"singer": "Nina Zorbel", "year": 1958, "city": "Plovdiv"}\n\nSay the singer.'
ids = tokenizer.encode(text, add_bos=True)
weights = {name: tensor.float() for name, tensor in mapped.items()}


def build(weights: dict[str, torch.Tensor], config: GemmaConfig) -> Gemma:
    with torch.device("meta"):
        model = Gemma(config)
    model.load_state_dict(weights, assign=True)
    return model


def shares(expected: Stations, found: Stations) -> dict[str, float]:
    """The largest difference at each station, as a share of the largest value expected there."""
    return {name: float((value - found[name]).abs().max() / value.abs().max()) for name, value in expected.items()}


expected = plain(weights, ids, config)
loaded = build(weights, config)
for name, share in shares(expected, stations(loaded, ids)).items():
    print(f"{name:>22}: {share:.0e}")
    assert share < 1e-4
print(f"{len(ids)} tokens, and a window of {config.sliding_window}")

# %% [markdown]
# The differences are a few millionths at most. Now we know what *equal* looks like, and all else will stand out.
#
# ## Broken on purpose
#
# An instrument that has never shown a fault is not yet trusted. So here are four models, each with a mistake that
# people really make. In all of them names and shapes are right, and all of them load.
#
# - **Another base of the rotation.** Someone took the configuration of another model, with another `rope_theta`.
# - **Pairs side by side.** Some libraries keep the two numbers that are turned together next to each other, others (and
#   Gemma's files) half a head apart. A file converted for the one and read by the other has its rows in another order.
# - **Gain for distance.** Another family of models stores $1 + w$ in its norms, and someone converted them likewise.
# - **No cap at the end.** Someone thought that it did not matter.

# %%
DEEP = len(config.layer_types) // 2  # a layer in the middle


def side_by_side(matrix: torch.Tensor) -> torch.Tensor:
    """The rows of each head in the other order."""
    heads = matrix.view(-1, 2, config.head_dim // 2, matrix.shape[1])
    return heads.transpose(1, 2).reshape(matrix.shape)


query, norm = f"model.layers.{DEEP}.self_attn.q_proj.weight", "model.norm.weight"
broken = {
    "another base": build(weights, replace(config, rope_theta=500_000.0)),
    "side by side": build(weights | {query: side_by_side(weights[query])}, config),
    "gain for distance": build(weights | {norm: 1 + weights[norm]}, config),
    "no cap at the end": build(weights, replace(config, final_logit_softcapping=None)),
}


def first_mismatch(expected: Stations, found: Stations, allowed: float = 1e-4) -> str | None:
    """The first station where two computations part."""
    return next((name for name, share in shares(expected, found).items() if not share <= allowed), None)


likeliest = expected["logits"].argmax(-1)
for mistake, model in broken.items():
    found = stations(model, ids)
    same = (found["logits"].argmax(-1) == likeliest).float().mean()
    print(f"{mistake:>18}: first at {first_mismatch(expected, found)!r:>22}", end="; ")
    print(f"likeliest piece equal at {same:4.0%} of the tokens")
assert first_mismatch(expected, stations(loaded, ids)) is None
assert first_mismatch(expected, stations(broken["another base"], ids)) == "layer 0, attention"
assert first_mismatch(expected, stations(broken["side by side"], ids)) == f"layer {DEEP}, attention"
assert first_mismatch(expected, stations(broken["gain for distance"], ids)) == "last norm"
assert first_mismatch(expected, stations(broken["no cap at the end"], ids)) == "logits"

# %%
figure, axis = plt.subplots(figsize=(9, 4))
lines = [("loaded right", loaded, "black"), *zip(broken, broken.values(), plt.cm.tab10.colors[:4], strict=True)]
for (label, model, colour), marker in zip(lines, "os^Dv", strict=True):
    found = shares(expected, stations(model, ids))
    axis.semilogy(
        [max(share, 1e-8) for share in found.values()], color=colour, label=label, marker=marker, markersize=5
    )
axis.axhline(1e-4, color="grey", linestyle="--")
axis.set_xticks(range(len(expected)), expected, rotation=40, ha="right")
axis.set(ylabel="difference, share of the largest value", title="where each mistake begins")
axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
show(
    figure,
    "05-mismatch",
    alt="Five lines over the stations of the model, on a logarithmic scale. The one that was loaded right stays below "
    "a few millionths. Each broken one follows it until its mistake, jumps there by many powers of ten, and stays.",
)

# %% [markdown]
# Read the last column above the picture again. Without the cap the likeliest piece is the same everywhere: whoever
# compares only what models *write* may never find it. Yet the logits are wrong, and with them every probability, which
# is what the model is trained by. And note the words `not share <= allowed` above. A result that is not a number
# compares as false with everything; asked the other way round, a broken model would pass.

# %%
assert (stations(broken["no cap at the end"], ids)["logits"].argmax(-1) == likeliest).all()
assert not math.nan <= 1e-4
assert not math.nan > 1e-4

# %% [markdown]
# ## The package's own
#
# [`minifc/gemma/checkpoint.py`](../minifc/gemma/checkpoint.py) loads as we did: mapped, on `meta`, assigned. Every
# weight is the one that we found by its offset, and so the logits are those of our plain model.

# %%
theirs = minifc.load_model(MODEL)  # as stored
for name, weight in theirs.state_dict().items():
    assert torch.equal(weight, mapped[name]), name
logits = minifc.load_model(MODEL, dtype=torch.float32)(torch.tensor([ids]))[0]
apart = float((logits - expected["logits"]).abs().max() / expected["logits"].abs().max())
print(f"{len(mapped)} tensors the same; largest difference of the logits {apart:.0e}")
assert apart < 1e-4

# %% [markdown]
# Our second opinion was our own, and so might share our mistakes. The package asks one that is not:
# [`python -m minifc.verify`](../minifc/verify.py) compares a checkpoint with Hugging Face's transformers, station by
# station as we did, and then token by token as it writes. It is the first thing to run on weights that have just been
# downloaded. (transformers is not needed for anything else here; `pip install transformers` if you want to see this.)

# %%
if importlib.util.find_spec("transformers") is None:
    print("transformers is not installed: nothing to compare with")
else:
    command = [sys.executable, "-m", "minifc.verify", str(MODEL), "--tokens", "48", "--seed", "2"]
    verdict = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(verdict.stdout)
    assert verdict.returncode == 0, verdict.stderr
    assert "pass" in verdict.stdout

# %% [markdown]
# **Exercises** (`lessons/exercises/05_checkpoint.py`, then `python -m lessons.check 05`): read the list of a file; read
# a bfloat16; find the first mismatch.
#
# **Next:** the model writes, and we make it write fast.
