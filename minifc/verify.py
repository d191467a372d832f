"""python -m minifc.verify: is minifc exact on this checkpoint?

Runs the same ids through transformers and through minifc, one model after the other, and compares
what comes out of every layer, the logits, and cached decoding. With --adapter, the reference is
PEFT. The first thing to run on weights that were just downloaded.
"""

import gc
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minifc.cli import Parser, new_file, require_option, run_command, seed_number
from minifc.errors import CheckpointError, OptionError, first_line
from minifc.files import write_text
from minifc.gemma.cache import KVCache
from minifc.gemma.checkpoint import load_model, require_finite, save_model
from minifc.gguf import is_gguf
from minifc.hub import find_model
from minifc.terminal import progress, text_table
from minifc.text.tokenizer import load_tokenizer
from minifc.tuning.adapter import load_adapter
from minifc.tuning.vocab import extended

# The largest difference allowed, as a share of the largest value: rounding adds up over the layers.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclass
class Trace:
    """What a model computed on the way: by name, values of any shape, and the ids it decoded."""

    values: dict[str, Tensor] = field(default_factory=dict)
    decoded: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """How far two values are apart at most, and how large they are."""

    name: str
    largest: float
    difference: float

    @property
    def share(self) -> float:
        return self.difference / self.largest if self.largest else self.difference


def main(argv: Sequence[str]) -> None:
    parser = Parser("verify", __doc__ or "", "python -m minifc.verify weights/tiny --adapter weights/tiny-caller")
    parser.add_argument("model", help="folder, GGUF file or hub id of a Gemma model")
    parser.add_argument("--adapter", help="folder or hub id of an adapter for it; compares with PEFT")
    parser.add_argument("--tokens", type=int, default=96, help="length of the prompt, random ids (%(default)s)")
    parser.add_argument("--new", type=int, default=32, help="tokens to decode after it (%(default)s)")
    parser.add_argument("--dtype", choices=list(TOLERANCE), default="float32", help="to compute in (%(default)s)")
    parser.add_argument("--seed", type=seed_number, default=0, help="of the prompt (%(default)s)")
    parser.add_argument("--to", type=new_file, help="JSON file for the table")
    args = parser.parse(argv)
    require_option(args.tokens >= 1, "tokens", args.tokens, "must be at least 1")
    require_option(args.new >= 1, "new", args.new, "must be at least 1")
    folder = find_model(args.model).path
    adapter = find_model(args.adapter).path if args.adapter else None
    dtype = getattr(torch, args.dtype)
    check = load_model(folder)  # mapped: what is wrong with the files is found before the long work
    require_finite(check, folder)
    if adapter is not None:
        load_adapter(check, load_tokenizer(folder), adapter)
    size, new = check.model.embed_tokens.size, extended(check)
    ids = prompt_ids(size, args.tokens, args.seed, new.ids if new else ())
    del check, new

    with for_transformers(folder, dtype) as readable:
        reference = reference_trace(readable, adapter, size, ids, args.new, dtype)
    gc.collect()  # two models at a time may not fit
    ours = own_trace(folder, adapter, ids, reference.decoded, dtype)
    differences = compare(reference, ours)
    print(text_table(table(differences)))
    line, same = decoding(reference, ours, differences[-1].difference)
    print(line)
    if args.to:
        write_text(args.to, json.dumps([asdict(d) | {"share": d.share} for d in differences], indent=1) + "\n")
    for difference in differences:
        if not difference.share <= TOLERANCE[args.dtype]:  # NaN is no pass either
            raise CheckpointError(
                f"{args.model}: minifc and the reference differ first at {difference.name}, by "
                f"{difference.share:.1e} of the largest value (allowed: {TOLERANCE[args.dtype]:.0e})"
            )
    if not same:
        raise CheckpointError(f"{args.model}: {line}")
    print(f"pass: within {TOLERANCE[args.dtype]:.0e} of the largest value everywhere")


@contextmanager
def for_transformers(path: Path, dtype: torch.dtype) -> Iterator[Path]:
    """A folder that transformers reads: the model's own, or for a GGUF file a temporary one with its weights."""
    if not is_gguf(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save_model(load_model(path, dtype), None, folder)
        yield folder


def prompt_ids(vocab_size: int, count: int, seed: int, trained: Sequence[int] = ()) -> Tensor:
    """`<bos>` and random ids, int64 [1, T]: every id is as likely, so rows that text never reaches are tried too.

    trained: ids whose rows an adapter has; as many of them as find room stand at every other place.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocab_size, (1, count), generator=generator)
    places = torch.arange(1, count, 2)[: len(trained)]
    ids[0, places] = torch.tensor(trained[: len(places)], dtype=torch.int64)
    ids[0, 0] = 2
    return ids


@torch.no_grad()
def reference_trace(folder: Path, adapter: Path | None, size: int, ids: Tensor, new: int, dtype: torch.dtype) -> Trace:
    """transformers, or PEFT on top of it: the prompt, then `new` tokens decoded greedily with its cache.

    size: of the vocabulary, with the adapter's new tokens.
    """
    try:
        from transformers import AutoModelForCausalLM, logging

        if adapter is not None:
            import peft  # noqa: F401 (before the model is loaded, which takes long)
    except ImportError:
        raise OptionError("verify compares with transformers, and PEFT; pip install transformers peft") from None
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    if adapter is not None:
        model = _with_peft(model, adapter, size)
    trace = Trace()
    out = model(ids, output_hidden_states=True, use_cache=True)
    names = ["embedding", *(f"layer {i}" for i in range(len(out.hidden_states) - 2)), "last layer and norm"]
    for name, hidden in zip(names, out.hidden_states, strict=True):
        trace.values[name] = hidden[0].float()
    trace.values["logits"] = out.logits[0].float()
    steps = []
    with progress(new, "reference", "token") as bar:
        for _ in range(new):
            steps.append(out.logits[0, -1].float())
            trace.decoded.append(int(steps[-1].argmax()))
            last = torch.tensor([[trace.decoded[-1]]])
            out = model(last, past_key_values=out.past_key_values, use_cache=True)
            bar.update()
    trace.values["decoding"] = torch.stack(steps)
    return trace


def _with_peft(model: Any, adapter: Path, size: int) -> Any:
    """PEFT's adapter on the model, resized to `size` ids."""
    from peft import PeftModel

    if size > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(size, mean_resizing=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PEFT and transformers have to say to each other
        try:
            return PeftModel.from_pretrained(model, adapter).eval()
        except (TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{adapter}: PEFT cannot load it ({first_line(error)}), so nothing is compared"
            ) from None


@torch.no_grad()
def own_trace(folder: Path, adapter: Path | None, ids: Tensor, decoded: Sequence[int], dtype: torch.dtype) -> Trace:
    """minifc on the same prompt, then on the ids that the reference decoded, one at a time."""
    model = load_model(folder, dtype)
    if adapter is not None:
        load_adapter(model, load_tokenizer(folder), adapter)
    trace = Trace()

    def keep(name: str) -> Callable[[Any, Any, Tensor], None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> None:
            trace.values[name] = output[0].float()

        return hook

    def keep_input(module: Any, inputs: tuple[Tensor, ...]) -> None:
        trace.values["embedding"] = inputs[0][0].float()

    layers = model.model.layers
    hooks = [layers[0].register_forward_pre_hook(keep_input)]
    hooks += [layer.register_forward_hook(keep(f"layer {i}")) for i, layer in enumerate(layers[:-1])]
    hooks.append(model.model.norm.register_forward_hook(keep("last layer and norm")))
    trace.values["logits"] = model(ids)[0]
    for hook in hooks:
        hook.remove()

    cache = KVCache(model.config, max_length=ids.shape[1] + len(decoded))
    logits = model(ids, cache=cache)
    steps = [logits[0, -1]]
    with progress(len(decoded) - 1, "minifc", "token") as bar:
        for id_ in decoded[:-1]:
            steps.append(model(torch.tensor([[id_]]), cache=cache)[0, -1])
            bar.update()
    trace.values["decoding"] = torch.stack(steps)
    trace.decoded = trace.values["decoding"].argmax(-1).tolist()
    return trace


def compare(reference: Trace, ours: Trace) -> list[Difference]:
    """Value by value, in the order they are computed."""
    differences = []
    for name, value in reference.values.items():
        apart = (value - ours.values[name]).abs().max()
        differences.append(Difference(name, float(value.abs().max()), float(apart)))
    return differences


def table(differences: Sequence[Difference]) -> list[list[str]]:
    head = ["", "largest value", "largest difference", "share"]
    return [head, *([d.name, f"{d.largest:.3g}", f"{d.difference:.1e}", f"{d.share:.1e}"] for d in differences)]


def decoding(reference: Trace, ours: Trace, rounding: float) -> tuple[str, bool]:
    """A line on the decoded ids, and whether they are the same. Where the two likeliest are closer than rounding,
    either is right."""
    top = reference.values["decoding"].topk(2).values
    clear = (top[:, 0] - top[:, 1] > 2 * rounding).tolist()
    steps = list(zip(reference.decoded, ours.decoded, clear, strict=True))
    if wrong := [number for number, (theirs, own, sure) in enumerate(steps) if sure and theirs != own]:
        return f"decoding: minifc picks another token at step {wrong[0]}", False
    line = f"decoding: {sum(clear)} greedy tokens equal, {len(clear) - sum(clear)} too close to call"
    distinct = len({theirs for theirs, _, sure in steps if sure})
    return f"{line}, {distinct} distinct{'' if distinct >= 8 else ': too few to say much'}", True


if __name__ == "__main__":
    run_command(main)
