"""python -m minifc.bench decode: what answering costs, beside transformers.

Both read the same prompts and write the same number of tokens greedily, in bfloat16, one prompt at a time or several
together. The speed is that of the new tokens alone: the time until the first one is taken off.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from minifc.bench.processes import Measured, forget_peak, peak_bytes, quiet, require, summary, take_turns
from minifc.cli import Parser, require_option
from minifc.data import make_examples, read_conversations
from minifc.gemma.checkpoint import load_model, save_model
from minifc.gemma.generate import generate
from minifc.hub import find_data
from minifc.loading import load_base, locate
from minifc.packaged import GEMMA_270M
from minifc.terminal import text_table

LONGEST = 1024  # tokens of a prompt
Prompts = list[list[int]]


def main(argv: Sequence[str]) -> None:
    parser = Parser("bench decode", __doc__ or "", "python -m minifc.bench decode --data rows.jsonl --together 16")
    parser.add_argument("--model", default=GEMMA_270M, help="model folder, GGUF file or hub id (%(default)s)")
    parser.add_argument("--data", required=True, help="file, folder or hub id of conversations: their prompts are read")
    parser.add_argument("--together", type=int, default=1, help="prompts in a batch (%(default)s)")
    parser.add_argument("--new", type=int, default=64, help="tokens to write for each (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each engine, taking turns (%(default)s)")
    args = parser.parse(argv)
    for name in ("together", "new", "repeats"):
        require_option(getattr(args, name) >= 1, name, getattr(args, name), "must be at least 1")
    require("bench decode", "transformers")
    model, tokenizer = load_base(locate(args.model), "bfloat16", "cpu")
    weights = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    examples = make_examples(read_conversations(find_data(args.data).files), tokenizer, "gemma", LONGEST).fitting
    prompts = [one.ids[: one.mask.index(True)] for one in examples if True in one.mask][: args.together]
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, tokenizer, folder)
        del model
        found = take_turns(
            __name__, list(ENGINES), {"folder": folder, "prompts": prompts, "new": args.new}, args.repeats
        )
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
