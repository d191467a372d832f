"""python -m minifc.bench train: what training costs, beside transformers and PEFT.

All train LoRA on the seven linear layers of one model, in bfloat16, on the same conversations, by AdamW with clipped
gradients. minifc packs the conversations into rows; PEFT pads batches of as many tokens, of conversations of about
equal length. What is counted are the conversations' own tokens. The learning rate is 0, so that the mean loss tells
whether all compute the same.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minifc.bench.processes import (
    Measured,
    add_work_options,
    forget_peak,
    peak_bytes,
    prepared,
    quiet,
    require,
    summary,
    take_turns,
)
from minifc.cli import Parser, require_option
from minifc.data import IGNORED, Batch, Example, pack
from minifc.errors import DataError
from minifc.gemma.checkpoint import load_model
from minifc.terminal import text_table
from minifc.tuning.loop import LoopConfig, adamw, compiled
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, add_lora
from minifc.tuning.loss import batch_loss

RANK, ALPHA = 32, 64
WARM_UP = 2  # batches before those that are measured


def main(argv: Sequence[str]) -> None:
    parser = Parser("bench train", __doc__ or "", "python -m minifc.bench train --data rows.jsonl")
    add_work_options(parser)
    parser.add_argument("--rows", type=int, default=2, help="in a batch (%(default)s)")
    parser.add_argument("--length", type=int, default=1024, help="tokens in a row (%(default)s)")
    parser.add_argument("--batches", type=int, default=8, help="to measure, about, after two others (%(default)s)")
    args = parser.parse(argv)
    for name in ("rows", "length", "batches", "repeats"):
        require_option(getattr(args, name) >= 1, name, getattr(args, name), "must be at least 1")
    require("bench train", "transformers", "peft")
    with prepared(args.model, args.data, args.length) as (folder, weights, examples):
        room = (args.batches + WARM_UP) * args.rows * args.length
        ends = accumulate(len(example.ids) for example in examples)
        used = [example for example, end in zip(examples, ends, strict=True) if end <= room]
        if sum(len(one.ids) for one in used) <= WARM_UP * args.rows * args.length:
            raise DataError(f"{args.data}: too little to measure; its rows must fill more than {WARM_UP} batches")
        work = {"folder": folder, "rows": args.rows, "length": args.length, "examples": [vars(one) for one in used]}
        found = take_turns(__name__, list(ENGINES), work, args.repeats)
    print(text_table(summary(found, weights, "loss")))


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
