"""python -m minifc.evaluate: ask a model for calls that it should, or should not, make.

By default the questions come from the embedded model's world: tools whose names, slots and values occur in no
training text; half of the requests have their tool, and no tool fits the others. For a run folder they are the
questions that the run asked at its end. `--data` asks for each model turn of a data set's conversations, `--bfcl`
the questions of the Berkeley Function Calling Leaderboard.
"""

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from minifc.cli import Parser, add_data_options, require_option, run_command
from minifc.data import read_conversations
from minifc.data.bad_rows import BadRows
from minifc.errors import DataError, OptionError
from minifc.evaluation.asking import MAX_NEW_TOKENS, Answers, ask, merge_for_asking
from minifc.evaluation.bfcl import CATEGORIES
from minifc.evaluation.held_out import run_questions, run_settings
from minifc.evaluation.questions import (
    TOY_WORLD,
    Demonstration,
    Part,
    Question,
    QuestionSet,
    bfcl_questions,
    data_questions,
    tool_questions,
    toy_demonstrations,
    toy_questions,
)
from minifc.evaluation.report import as_json, failures, score_table
from minifc.gemma.checkpoint import require_finite
from minifc.hub import find_data
from minifc.loading import Located, add_model_options, is_run, load_base, locate_from
from minifc.own_tools import load_tools
from minifc.terminal import Table, text_samples, text_table
from minifc.text.dialects import dialect_of
from minifc.text.tokenizer import read_added_tokens
from minifc.tuning.adapter import load_adapter

HOW = {"free": (False,), "constrained": (True,), "both": (False, True)}
CASES = 400
AllAnswers = dict[str, dict[str, Answers]]  # for each set of questions, by the names of the columns


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    sets = question_sets(args)
    located = locate_from(args)
    answers = ask_all(args, located, sets)
    if args.json:
        print(
            json.dumps({name: {how: as_json(one) for how, one in column.items()} for name, column in answers.items()})
        )
    else:
        report(sets, answers, args.failures)


def parse(argv: Sequence[str]) -> Namespace:
    parser = Parser("evaluate", __doc__ or "", "python -m minifc.evaluate --model runs/NAME --how both")
    add_model_options(parser)
    parser.add_argument("--how", choices=list(HOW), default="free", help="hold calls to their schemas? (%(default)s)")
    parser.add_argument(
        "--beside", action="store_true", help="ask the model without its adapter too, with and without demonstrations"
    )
    parser.add_argument(
        "--cases", type=int, help=f"how many questions to ask ({CASES} of the embedded model's world, else all)"
    )
    parser.add_argument("--max-new-tokens", type=int, default=MAX_NEW_TOKENS, help="of an answer (%(default)s)")
    parser.add_argument("--test-seed", type=int, help="draws the requests (0)")
    parser.add_argument(
        "--sentences", choices=("known", "unseen", "shuffled"),
        help="forms as in training, forms that no training text has, or details in any order (known)",
    )  # fmt: skip
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER",
        help="ask what this run asked at its end, its own model unless --model or --adapter names another",
    )  # fmt: skip
    parser.add_argument("--data", help="ask about these conversations: file, folder or data set of the hub")
    add_data_options(parser)
    parser.add_argument(
        "--tools", type=Path, metavar="FILE", help="ask the examples in the docstrings of a Python file's tools"
    )
    parser.add_argument(
        "--bfcl", type=Path, metavar="FOLDER", help="ask the leaderboard's questions: data folder of bfcl-eval"
    )
    parser.add_argument("--categories", help="of the leaderboard, with commas between (all)")
    parser.add_argument(
        "--part", choices=get_args(Part),
        help="half of each category: improve on the failures of the first, and quote the second (all)",
    )  # fmt: skip
    parser.add_argument("--failures", type=int, default=3, help="how many wrong answers to show (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the counts and their intervals as JSON")
    args = parser.parse(argv)
    require_option(args.cases is None or args.cases >= 1, "cases", args.cases, "must be at least 1")
    require_option(args.max_new_tokens >= 1, "max-new-tokens", args.max_new_tokens, "must be at least 1")
    sources = [f"--{name}" for name in ("run", "data", "tools", "bfcl") if getattr(args, name)]
    if len(sources) > 1:
        raise OptionError(f"{' and '.join(sources)} ask different questions; give one of them")
    if not sources:
        args.run = named_run(args)
    elif args.run and not (args.model or args.adapter):
        args.model = str(args.run)
    return args


def named_run(args: Namespace) -> Path | None:
    """The run folder that --adapter or --model names, if it is one."""
    folder = Path(args.adapter or args.model or "")
    return folder if is_run(folder) and (folder / "config.json").is_file() else None


def question_sets(args: Namespace) -> list[QuestionSet]:
    """What to ask. Raises OptionError for an option that would have no effect."""
    run = run_settings(args.run)["run"] if args.run else {}
    toy_world = not (args.data or args.tools or args.bfcl or run.get("data"))
    for name in ("configuration", "split", "skip_bad"):
        value, option = getattr(args, name), name.replace("_", "-")
        require_option(not value or bool(args.data), option, value, "has no effect without --data")
    used = {"categories": args.bfcl, "part": args.bfcl, "sentences": toy_world, "test_seed": toy_world or args.beside}
    for name, has_effect in used.items():
        value, option = getattr(args, name), name.replace("_", "-")
        require_option(value is None or bool(has_effect), option, value, "has no effect on these questions")
    if args.run:
        if args.dtype == "auto" and str(args.run) in (args.model, args.adapter):
            args.dtype = run.get("dtype", "auto")  # as the run computed
        return [run_questions(args.run, args.cases, args.test_seed, args.sentences or "known")]
    if args.bfcl:
        categories = [name.strip() for name in (args.categories or ",".join(CATEGORIES)).split(",")]
        if unknown := [name for name in categories if name not in CATEGORIES]:
            raise OptionError(f"--categories {unknown[0]}: not one of {', '.join(CATEGORIES)}")
        return [one.part(args.part or "all").first(args.cases) for one in bfcl_questions(args.bfcl, categories)]
    if args.tools:
        questions = tool_questions(load_tools(args.tools))
        if not questions:
            raise OptionError(
                f'--tools {args.tools}: no tool has an example: >>> "what is said" -> name(argument=value)'
            )
        return [QuestionSet(str(args.tools), questions).first(args.cases)]
    if args.data:
        questions = questions_about(args)
        if not questions:
            raise DataError(f"{args.data}: no conversation in it has tools to ask about")
        return [QuestionSet(args.data, questions).first(args.cases)]
    return [toy_questions(args.cases or CASES, args.test_seed or 0, args.sentences or "known")]


def questions_about(args: Namespace) -> list[Question]:
    """A question for each model turn of --data. Raises DataError where more rows are bad than --skip-bad allows."""
    bad = BadRows(args.skip_bad or 0)
    questions: list[Question] = []
    for conversation in read_conversations(find_data(args.data, args.configuration, args.split).files, bad):
        with bad.left_out():
            questions += data_questions([conversation])
    bad.say()
    return questions


def ask_all(args: Namespace, located: Located, sets: Sequence[QuestionSet]) -> AllAnswers:
    """Ask every set of questions in every way that the options name."""
    answers: AllAnswers = {one.name: {} for one in sets}
    model, tokenizer = load_base(located, args.dtype, args.device)
    require_finite(model, located.base.path)
    tokens = tokenizer.control | (read_added_tokens(located.adapter) if located.adapter else {})
    dialect = dialect_of(located.format, tokenizer)
    if True in HOW[args.how] and (missing := [token for token in dialect.call_tokens if token not in tokens]):
        raise OptionError(f"--how {args.how}: neither model nor adapter has the token {missing[0]}, which calls need")

    def ask_sets(name: str, demonstrations: Sequence[Demonstration] = (), constrained: bool = False) -> None:
        for one in sets:
            answers[one.name][name] = ask(
                model,
                tokenizer,
                one.questions,
                located.format,
                name=name if len(sets) == 1 else f"{name}, {one.name}",
                max_new_tokens=args.max_new_tokens,
                demonstrations=demonstrations,
                constrained=constrained,
                conversations=() if demonstrations or constrained else one.conversations,
            )

    if args.beside:
        ask_sets("untaught")
        ask_sets("untaught, 3 examples", toy_demonstrations(args.test_seed or 0))
    if located.adapter:
        load_adapter(model, tokenizer, located.adapter)
        if sets[0].name == TOY_WORLD:  # as at the end of a run
            merge_for_asking(model)
    for constrained in HOW[args.how]:
        ask_sets("constrained" if constrained else "free", constrained=constrained)
    return answers


def report(sets: Sequence[QuestionSet], answers: AllAnswers, most_failures: int) -> None:
    """Some failures of each set, and the figures."""
    for one in sets:
        if wrong := failures(one.questions, answers[one.name], most_failures):
            print(text_samples(wrong), end="\n\n")
    print(text_table(summary(answers)))


def summary(answers: Mapping[str, Mapping[str, Answers]]) -> Table:
    """All shares of one set of questions; of several the share of right answers in each."""
    if len(answers) == 1:
        (columns,) = answers.values()
        return score_table(columns)
    names = list(next(iter(answers.values())))
    rows = [[group, *(str(columns[name].score.right) for name in names)] for group, columns in answers.items()]
    return [["right answers", *names], *rows]


if __name__ == "__main__":
    run_command(main)
