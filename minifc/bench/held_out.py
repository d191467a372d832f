"""python -m minifc.bench held-out: how well the embedded model calls tools it has never seen.

It is taught with three seeds, with and without new tokens, and each result, and the untaught model, is asked
three times 1,000 requests about tools that no training text contains; the taught model also in sentences unlike
those it was trained on, and with details in any order. The worst of the nine is the figure to quote.
"""

import json
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import torch

from minifc.cli import Parser, from_args, new_file
from minifc.data import toy
from minifc.evaluation.asking import ask
from minifc.evaluation.judging import Score, Share
from minifc.evaluation.questions import Demonstration, toy_demonstrations, toy_questions
from minifc.files import write_text
from minifc.gemma.checkpoint import load_model
from minifc.gemma.model import Gemma
from minifc.hub import TINY, find_model
from minifc.terminal import text_table
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.train import RECIPES, RunConfig, train_run
from minifc.tuning.adapter import load_adapter
from minifc.tuning.loop import LoopConfig
from minifc.tuning.lora import LoraConfig, merge_lora

SEEDS = (0, 1, 2)
TEST_SEEDS = (510, 511, 512)  # not used for anything else
CASES = 1000
TAUGHT = "LoRA with new tokens"
SHARES = [field.name for field in fields(Score)]


def main(argv: Sequence[str]) -> None:
    parser = Parser("bench held-out", __doc__ or "", "python -m minifc.bench held-out --to held-out.json")
    parser.add_argument("--to", type=new_file, help="JSON file for the figures")
    args = parser.parse(argv)
    results = measure()
    print(text_table(summary(results)))
    if args.to:
        write_text(args.to, json.dumps(results, indent=1) + "\n")


def measure() -> list[dict[str, Any]]:
    """A record per model, training seed, kind of sentence and test seed."""
    results: list[dict[str, Any]] = []

    def measure_model(
        name: str, seed: int | None, model: Gemma, tokenizer: Tokenizer, demonstrations: Sequence[Demonstration] = ()
    ) -> None:
        kinds: tuple[toy.Sentences, ...] = ("known", "unseen", "shuffled") if name == TAUGHT else ("known",)
        for sentences in kinds:
            for test_seed in TEST_SEEDS:
                questions = toy_questions(CASES, test_seed, sentences).questions
                bar = f"{name}, {sentences}, test {test_seed}"
                answers = ask(model, tokenizer, questions, name=bar, demonstrations=demonstrations)
                what = {"model": name, "seed": seed, "sentences": sentences, "test_seed": test_seed}
                results.append(what | asdict(answers.score))

    with tempfile.TemporaryDirectory() as folder:
        measure_model("untaught", None, *_base())
        for seed in SEEDS:
            measure_model("untaught, 3 examples in the prompt", seed, *_base(), toy_demonstrations(seed))
        for name, tokens in (("LoRA without new tokens", ("none",)), (TAUGHT, ("auto",))):
            for seed in SEEDS:
                given = Namespace(to=f"{folder}/{name}-{seed}", tokens=tokens, cases=2, seed=seed)
                recipe = RECIPES["tiny"]
                result = train_run(
                    from_args(RunConfig, given, recipe),
                    from_args(LoraConfig, given, recipe),
                    from_args(LoopConfig, given, recipe),
                )
                model, tokenizer = _base()
                load_adapter(model, tokenizer, result / "adapter")
                merge_lora(model)  # it answers the same, in less time
                measure_model(name, seed, model, tokenizer)
    return results


def summary(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """For each model the worst of its figures, over training and test seeds."""
    table = [["model", "sentences", "exact calls", "false refusals", "false calls"]]
    for name, sentences in dict.fromkeys((result["model"], result["sentences"]) for result in results):
        mine = [r for r in results if r["model"] == name and r["sentences"] == sentences]
        table.append([name, sentences, *(str(share) for share in worst_of(mine))])
    return table


def worst_of(results: Sequence[dict[str, Any]]) -> list[Any]:
    """The lowest share of exact calls and the highest of each kind of error, with their intervals."""
    scores = [Score(**{key: Share(**result[key]) for key in SHARES}) for result in results]
    return [
        min((score.exact for score in scores), key=lambda share: share.value),
        max((score.false_refusals for score in scores), key=lambda share: share.value),
        max((score.false_calls for score in scores), key=lambda share: share.value),
    ]


def _base() -> tuple[Gemma, Tokenizer]:
    folder = find_model(TINY).path
    return load_model(folder, torch.float32), load_tokenizer(folder)
