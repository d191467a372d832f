"""python -m minifc.bench train: what training costs, beside transformers and PEFT.

All train LoRA on the seven linear layers of one model, in bfloat16, on the same conversations, by AdamW with clipped
gradients. minifc packs the conversations into rows; PEFT pads batches of as many tokens, of conversations of about
equal length. What is counted are the conversations' own tokens. The learning rate is 0, so that the mean loss tells
whether all compute the same.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minifc.bench.processes import Measured, forget_peak, peak_bytes, quiet, require, summary, take_turns
from minifc.cli import Parser, require_option
from minifc.data import IGNORED, Batch, Example, make_examples, pack, read_conversations
from minifc.gemma.checkpoint import load_model, save_model
from minifc.hub import find_data
from minifc.loading import load_base, locate
from minifc.packaged import GEMMA_270M
from minifc.terminal import text_table
from minifc.tuning.loop import LoopConfig, adamw, compiled
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, add_lora
from minifc.tuning.loss import batch_loss

RANK, ALPHA = 32, 64
WARM_UP = 2  # batches before those that are measured


def main(argv: Sequence[str]) -> None:
    parser = Parser("bench train", __doc__ or "", "python -m minifc.bench train --data rows.jsonl")
    parser.add_argument("--model", default=GEMMA_270M, help="model folder, GGUF file or hub id (%(default)s)")
    parser.add_argument("--data", required=True, help="file, folder or hub id of conversations")
    parser.add_argument("--rows", type=int, default=2, help="in a batch (%(default)s)")
    parser.add_argument("--length", type=int, default=1024, help="tokens in a row (%(default)s)")
    parser.add_argument("--batches", type=int, default=8, help="to measure, about, after two others (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each engine, taking turns (%(default)s)")
    args = parser.parse(argv)
    for name in ("rows", "length", "batches", "repeats"):
        require_option(getattr(args, name) >= 1, name, getattr(args, name), "must be at least 1")
    require("bench train", "transformers", "peft")
    model, tokenizer = load_base(locate(args.model), "bfloat16", "cpu")
    weights = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    examples = make_examples(read_conversations(find_data(args.data).files), tokenizer, "gemma", args.length).fitting
    room = (args.batches + WARM_UP) * args.rows * args.length
    used = [example for example, end in zip(examples, _ends(examples), strict=True) if end <= room]
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, tokenizer, folder)
        del model
        work = {"folder": folder, "rows": args.rows, "length": args.length, "examples": [vars(one) for one in used]}
        found = take_turns(__name__, list(ENGINES), work, args.repeats)
    print(text_table(summary(found, weights, "loss")))


def _ends(examples: Sequence[Example]) -> Iterator[int]:
    """Where each example ends, if all lie end to end."""
    end = 0
    for example in examples:
        end += len(example.ids)
        yield end


# --- in a process of its own -------------------------------------------------------------------------------------


def minifc_lora(work: Any, examples: Sequence[Example], compile: bool = False) -> None:
    model = load_model(work["folder"], torch.bfloat16)
    add_lora(model, RANK, ALPHA, dropout=0.0)

    def learn(batch: Batch) -> tuple[Tensor, int]:
        return batch_loss(model, batch), int((batch.documents >= 0).sum())

    with compiled(model) if compile else nullcontext():
        measure(model, learn, list(pack(examples, work["rows"], work["length"], look_ahead=64)), examples)


def transformers_peft(work: Any, examples: Sequence[Example], recomputing: bool = False) -> None:
    quiet()
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(work["folder"], dtype=torch.bfloat16)
    targets = [*ATTENTION, *FEED_FORWARD]
    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets))
    if recomputing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()

    def learn(batch: list[Example]) -> tuple[Tensor, int]:
        longest = max(len(one.ids) for one in batch)
        ids, labels = torch.zeros(len(batch), longest, dtype=torch.long), torch.full((len(batch), longest), IGNORED)
        for row, one in enumerate(batch):
            ids[row, : len(one.ids)] = torch.tensor(one.ids)
            learned = [id_ if mask else IGNORED for id_, mask in zip(one.ids, one.mask, strict=True)]
            labels[row, : len(one.ids)] = torch.tensor(learned)
        real = sum(len(one.ids) for one in batch)
        mask = (torch.arange(longest) < torch.tensor([[len(one.ids)] for one in batch])).long()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
        return loss * sum(sum(one.mask) for one in batch), real

    measure(model, learn, padded_batches(examples, work["rows"] * work["length"]), examples)


def padded_batches(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    """Batches of examples of about equal length, of at most `tokens` with their padding."""
    batches: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda example: len(example.ids)):
        if (len(batches[-1]) + 1) * len(example.ids) > tokens:
            batches.append([])
        batches[-1].append(example)
    return batches


def measure(
    model: nn.Module, learn: Callable[[Any], tuple[Tensor, int]], batches: Sequence[Any], examples: Sequence[Example]
) -> None:
    """Train on all batches, and report. learn: the summed loss of a batch, and its tokens."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    (optimizer,) = adamw(trained, LoopConfig())
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    model.train()
    total, tokens, started = 0.0, 0, time.perf_counter()
    for number, batch in enumerate(batches):
        if number == WARM_UP:
            forget_peak()
            tokens, started = 0, time.perf_counter()
        loss, real = learn(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(list(trained.values()), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total, tokens = total + float(loss), tokens + real
    speed = tokens / (time.perf_counter() - started)
    Measured(speed, peak_bytes(), total / sum(sum(example.mask) for example in examples)).write()


ENGINES: dict[str, Callable[[Any, Sequence[Example]], None]] = {
    "minifc": minifc_lora,
    "minifc, compiled": partial(minifc_lora, compile=True),
    "PEFT": transformers_peft,
    "PEFT, recomputing": partial(transformers_peft, recomputing=True),
}

if __name__ == "__main__":
    task = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    ENGINES[sys.argv[1]](task, [Example(**one) for one in task["examples"]])
