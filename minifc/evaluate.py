"""python -m minifc.evaluate: ask a model for calls it should, or should not, make.

The questions come from the embedded model's world: tools whose names, slots and values occur in no
training text. Half of the requests have their tool; no tool fits the others.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict

import torch

from minifc import toy
from minifc.cli import Parser, run_command
from minifc.exam import ToyExam
from minifc.gemma.checkpoint import load_model
from minifc.hub import TINY, TINY_ADAPTER, find_model
from minifc.options import require
from minifc.report import text_samples, text_table
from minifc.text.tokenizer import load_tokenizer
from minifc.tuning.adapter import load_adapter


def main(argv: Sequence[str]) -> None:
    parser = Parser("evaluate", __doc__ or "", "python -m minifc.evaluate --adapter runs/NAME/adapter")
    parser.add_argument("--model", default=TINY, help="folder or hub id of the model (%(default)s)")
    parser.add_argument(
        "--adapter", default=TINY_ADAPTER, help="folder or hub id of its adapter, or 'none' (%(default)s)"
    )
    parser.add_argument("--format", choices=("gemma", "course"), default="gemma", help="whose turns (%(default)s)")
    parser.add_argument("--cases", type=int, default=400, help="requests to ask (%(default)s)")
    parser.add_argument("--test-seed", type=int, default=0, help="draws the requests (%(default)s)")
    parser.add_argument(
        "--unseen-frames", action="store_true", help="ask in forms of sentence that no training text has"
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    args = parser.parse(argv)
    require(args.cases >= 2, "cases", args.cases, "must be at least 2")
    folder = find_model(args.model).path
    model, tokenizer = load_model(folder, torch.float32), load_tokenizer(folder)
    if args.adapter != "none":
        load_adapter(model, tokenizer, find_model(args.adapter).path)
    exam = ToyExam(toy.held_out_cases(args.cases, args.test_seed, args.unseen_frames), args.format)
    score = exam.sit("answer", model, tokenizer).score
    if args.json:
        print(json.dumps(asdict(score)))
    else:
        print(text_table(exam.table()), text_samples(exam.samples()), sep="\n\n")


if __name__ == "__main__":
    run_command(main)
