"""python -m minifc.evaluate: ask a model for calls that it should, or should not, make.

By default the questions come from the embedded model's world: tools whose names, slots and values occur in no
training text; half of the requests have their tool, and no tool fits the others. `--data` asks for each model
turn of a data set's conversations, `--bfcl` the questions of the Berkeley Function Calling Leaderboard.
"""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from minifc.cli import Parser, require_option, run_command
from minifc.data import read_conversations, toy
from minifc.errors import DataError, OptionError
from minifc.evaluation.bfcl import CATEGORIES, read_bfcl
from minifc.evaluation.exam import (
    MAX_NEW_TOKENS,
    CallExam,
    Question,
    Worked,
    bfcl_question,
    data_questions,
    toy_examples,
    toy_question,
)
from minifc.gemma.checkpoint import require_finite
from minifc.hub import find_data
from minifc.loading import add_model_options, load_base, locate_from
from minifc.terminal import Table, text_samples, text_table
from minifc.text.calls import END_TOOL_CALL, TOOL_CALL
from minifc.text.tokenizer import read_added_tokens
from minifc.tuning.adapter import load_adapter

HOW = {"free": (False,), "constrained": (True,), "both": (False, True)}


def main(argv: Sequence[str]) -> None:
    parser = Parser("evaluate", __doc__ or "", "python -m minifc.evaluate --adapter runs/NAME/adapter --how both")
    add_model_options(parser)
    parser.add_argument("--how", choices=list(HOW), default="free", help="hold calls to their schemas? (%(default)s)")
    parser.add_argument(
        "--beside", action="store_true", help="ask the model without its adapter too, with and without examples"
    )
    parser.add_argument(
        "--cases", type=int, help="how many questions to ask (400 of the embedded model's world, or all)"
    )
    parser.add_argument("--most-tokens", type=int, default=MAX_NEW_TOKENS, help="of an answer (%(default)s)")
    parser.add_argument("--test-seed", type=int, help="draws the requests (0)")
    parser.add_argument(
        "--sentences", choices=("known", "unseen", "shuffled"),
        help="forms as in training, forms that no training text has, or details in any order (known)",
    )  # fmt: skip
    parser.add_argument("--data", help="ask these conversations: file, folder or data set of the hub")
    parser.add_argument(
        "--bfcl", type=Path, metavar="FOLDER", help="ask the leaderboard's questions: data folder of bfcl-eval"
    )
    parser.add_argument("--categories", help="of the leaderboard, with commas between (all)")
    parser.add_argument("--failures", type=int, default=3, help="how many wrong answers to show (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    args = parser.parse(argv)
    require_option(args.cases is None or args.cases >= 2, "cases", args.cases, "must be at least 2")
    require_option(args.most_tokens >= 1, "most-tokens", args.most_tokens, "must be at least 1")
    if args.data and args.bfcl:
        raise OptionError("--data and --bfcl ask different questions; give one of them")
    for name, used in (
        ("categories", args.bfcl),
        ("sentences", not (args.data or args.bfcl)),
        ("test_seed", args.beside or not (args.data or args.bfcl)),
    ):
        value, option = getattr(args, name), name.replace("_", "-")
        require_option(value is None or used, option, value, "has no effect on these questions")

    groups = questions(args)
    located = locate_from(args)
    adapter = located.adapter
    model, tokenizer = load_base(located, args.dtype, args.device)
    require_finite(model, located.base.path)
    tags = tokenizer.control | (read_added_tokens(adapter) if adapter else {})
    if True in HOW[args.how] and not tags.keys() >= {TOOL_CALL, END_TOOL_CALL}:
        raise OptionError(f"--how {args.how}: neither model nor adapter has the token {TOOL_CALL}, where a call begins")
    exams = {name: CallExam(group, located.format, most_tokens=args.most_tokens) for name, group in groups.items()}

    def sit(name: str, worked: Sequence[Worked] = (), constrained: bool = False) -> None:
        for group, exam in exams.items():
            if len(exams) > 1 and exam.progress:
                print(group, file=sys.stderr)
            exam.sit(name, model, tokenizer, worked, constrained)

    if args.beside:
        sit("untaught")
        sit("untaught, 3 examples", toy_examples(args.test_seed or 0))
    if adapter:
        load_adapter(model, tokenizer, adapter)
    for constrained in HOW[args.how]:
        sit("constrained" if constrained else "free", constrained=constrained)

    if args.json:
        print(json.dumps({group: {n: asdict(a.score) for n, a in e.sittings.items()} for group, e in exams.items()}))
        return
    for exam in exams.values():
        if failures := exam.failures(args.failures):
            print(text_samples(failures), end="\n\n")
    print(text_table(summary(exams)))


def questions(args: Namespace) -> dict[str, list[Question]]:
    """What to ask, by groups with names."""
    if args.bfcl:
        categories = [name.strip() for name in (args.categories or ",".join(CATEGORIES)).split(",")]
        if unknown := [name for name in categories if name not in CATEGORIES]:
            raise OptionError(f"--categories {unknown[0]}: not one of {', '.join(CATEGORIES)}")
        groups = {c: [bfcl_question(entry) for entry in read_bfcl(args.bfcl, [c])] for c in categories}
    elif args.data:
        groups = {args.data: data_questions(read_conversations(find_data(args.data).files))}
        if not groups[args.data]:
            raise DataError(f"{args.data}: no conversation in it has tools to ask about")
    else:
        cases = toy.held_out_cases(args.cases or 400, args.test_seed or 0, args.sentences or "known")
        groups = {"embedded world": [toy_question(case) for case in cases]}
    return {name: asked[: args.cases] for name, asked in groups.items()}


def summary(exams: Mapping[str, CallExam]) -> Table:
    """All shares of one group; of several the share of right answers in each."""
    if len(exams) == 1:
        (exam,) = exams.values()
        return exam.table()
    sittings = list(next(iter(exams.values())).sittings)
    rows = [[group, *(str(e.sittings[name].score.right) for name in sittings)] for group, e in exams.items()]
    return [["right answers", *sittings], *rows]


if __name__ == "__main__":
    run_command(main)
