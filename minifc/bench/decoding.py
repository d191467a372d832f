"""python -m minifc.bench decode: what answering costs, beside transformers.

Both read the same prompts and write the same number of tokens greedily, in bfloat16, one prompt at a time or several
together. The speed is that of the new tokens alone: the time until the first one is taken off.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

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
from minifc.gemma.checkpoint import load_model
from minifc.gemma.generate import generate
from minifc.terminal import text_table

LONGEST = 1024  # tokens of a prompt
Prompts = list[list[int]]


def main(argv: Sequence[str]) -> None:
    parser = Parser("bench decode", __doc__ or "", "python -m minifc.bench decode --data rows.jsonl --together 16")
    add_work_options(parser)
    parser.add_argument("--together", type=int, default=1, help="prompts in a batch (%(default)s)")
    parser.add_argument("--new", type=int, default=64, help="tokens to write for each (%(default)s)")
    args = parser.parse(argv)
    for name, least in {"together": 1, "new": 2, "repeats": 1}.items():
        require_option(getattr(args, name) >= least, name, getattr(args, name), f"must be at least {least}")
    require("bench decode", "transformers")
    with prepared(args.model, args.data, LONGEST) as (folder, weights, examples):
        prompts = [one.ids[: one.mask.index(True)] for one in examples if True in one.mask][: args.together]
        work = {"folder": folder, "prompts": prompts, "new": args.new}
        found = take_turns(__name__, list(ENGINES), work, args.repeats)
    print(text_table(summary(found, weights)))


# --- in a process of its own -------------------------------------------------------------------------------------


def minifc_generate(work: Any) -> None:
    model = load_model(work["folder"], torch.bfloat16)
    measure(work, lambda prompts, new: generate(model, prompts, new, stop_ids=[]))


def transformers_generate(work: Any) -> None:
    quiet()
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(work["folder"], dtype=torch.bfloat16)

    def write(prompts: Prompts, new: int) -> Any:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        options: dict[str, Any] = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
        return model.generate(ids, attention_mask=mask, **options)

    measure(work, write)


def measure(work: Any, write: Callable[[Prompts, int], Any]) -> None:
    """write(prompts, new): generate so many tokens for each prompt."""
    prompts, new = work["prompts"], work["new"]
    write(prompts, 2)
    forget_peak()
    times = []
    for count in (1, new):
        started = time.perf_counter()
        write(prompts, count)
        times.append(time.perf_counter() - started)
    Measured(len(prompts) * (new - 1) / (times[1] - times[0]), peak_bytes()).write()


ENGINES: dict[str, Callable[[Any], None]] = {"minifc": minifc_generate, "transformers": transformers_generate}

if __name__ == "__main__":
    ENGINES[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
