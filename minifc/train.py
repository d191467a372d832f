"""python -m minifc.train: teach a Gemma-2 to call functions.

Without options it takes the embedded model of weights/tiny through the course's third stage: asks it
to call tools it has never seen, adds the special tokens, trains LoRA beside them, and asks again.
With --model and --data it does the same for your model and your conversations.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from minifc.cli import Parser, add_options, from_args, option, require, require_option, run_command
from minifc.data import Conversation, Example, audit, draft, toy
from minifc.data.learning import fitting, named_tokens, read_readable, split, tokens_to_add
from minifc.devices import name_of, pick_device, pick_dtype
from minifc.errors import CheckpointError, DataError, OptionError
from minifc.evaluation.exam import CallExam, DataExam, toy_question
from minifc.evaluation.report import draw_loss, markdown_samples, markdown_table
from minifc.files import JsonLines, is_empty, read_json, write_text
from minifc.gemma.checkpoint import load_model, require_finite, stored_dtype
from minifc.hub import TINY, Source, find_data, find_model
from minifc.terminal import text_samples, text_settings, text_table
from minifc.text.dialects import FORMATS
from minifc.text.template import Format
from minifc.text.tokenizer import load_tokenizer
from minifc.tuning.adapter import save_adapter
from minifc.tuning.loop import LoopConfig, latest_step, train
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, VOCABULARY, LoraConfig, add_lora, find_layers, merge_lora
from minifc.tuning.vocab import RowWatch, add_tokens, check_room


@dataclass(frozen=True)
class RunConfig:
    """What to train on what, and how to look at it."""

    model: str = option(TINY, "folder or hub id of a Gemma-2 model; name@revision for another than main")
    data: str = option("", "file or hub id of conversations; without it, the embedded model's own world")
    to: str = option("", "run folder; by default a new one in runs/")
    format: str = option("gemma", "format of the turns; own is the model's own chat template", FORMATS)
    tokens: tuple[str, ...] = option(
        ("auto",), "tags to make tokens: auto is those in the data, none leaves all in pieces"
    )
    calls: str = option(
        "canonical", "calls in the data's own text: as minifc writes them, or verbatim", ("canonical", "verbatim")
    )
    learn: str = option("model", "what is learned from: the model's turns, or every token", ("model", "all"))
    cut: bool = option(False, "cut a conversation longer than a row in pieces, as the course does, not leave it out")
    init: str = option("pieces", "where the new tokens' rows start", ("pieces", "mean"))
    reuse_unused: bool = option(False, "put the new tokens on reserved <unusedN> ids, not behind the last id")
    dtype: str = option("auto", "of the frozen weights", ("auto", "float32", "bfloat16", "float16"))
    device: str = option("auto", "cpu, cuda, mps; auto is the best there is")
    eval_share: float = option(0.1, "share of --data kept for evaluation")
    cases: int = option(400, "held-out requests to ask the embedded model; no tool fits half of them")
    test_seed: int = option(0, "draws those requests; another seed draws fresh ones")
    resume: bool = option(False, "go on from the last state in --to, saved every --save-every steps")

    def __post_init__(self) -> None:
        require(0 <= self.eval_share < 1, "eval_share", self.eval_share, "must be at least 0 and less than 1")
        require(self.cases >= 2, "cases", self.cases, "must be at least 2")
        alone = len(self.tokens) == 1 or not {"auto", "none"} & set(self.tokens)
        require(alone, "tokens", ",".join(self.tokens), "auto and none stand alone")
        require(bool(self.tokens), "tokens", "", "name tags, or say auto or none")
        require(bool(self.to) or not self.resume, "resume", "", "needs --to with the run folder to go on with")


# Values that differ from the dataclasses' defaults: for the embedded model, for real ones, and the course's own.
RECIPES: dict[str, dict[str, Any]] = {
    # No dropout: hardly any conversation comes twice, and on a CPU its random numbers are a quarter of the work.
    "tiny": {
        "max_steps": 360, "rows": 2, "length": 896, "learning_rate": 2e-3, "dropout": 0.0, "dtype": "float32",
    },
    "lean": {"rows": 1, "length": 2048, "accumulation": 4, "learning_rate": 2e-4},
    "course": {
        "format": "course", "calls": "verbatim", "learn": "all", "init": "mean", "eval_share": 0.1, "seed": 42,
        "targets": ATTENTION + FEED_FORWARD + VOCABULARY, "r": 16, "alpha": 64.0, "dropout": 0.05,
        "epochs": 1, "rows": 1, "accumulation": 4, "length": 1500, "gradient_checkpointing": True,
        "learning_rate": 1e-4, "warmup_ratio": 0.1, "weight_decay": 0.1, "max_grad_norm": 1.0,
    },
}  # fmt: skip
RESUMED_FREELY = ("to", "resume", "device", "cases", "test_seed", "eval_every", "save_every")  # may change in a run
WORLD_SIZE = 5000  # conversations generated for the embedded model
HELD_OUT = 100  # of these, for the evaluation loss


def main(argv: Sequence[str]) -> None:
    parser = Parser("train", __doc__ or "", "python -m minifc.train --model FOLDER --data FILE")
    parser.add_argument("--recipe", choices=list(RECIPES), help="values to start from (tiny without --data, else lean)")
    for config in (RunConfig, LoraConfig, LoopConfig):
        add_options(parser, config, RECIPES)
    args = parser.parse(argv)
    data = getattr(args, "data", "")
    for name in ("cases", "test_seed") if data else ("eval_share", "calls"):
        where = "the embedded model's own world" if data else "--data"
        reason = f"means something only with {where}; leave it out"
        require_option(not hasattr(args, name), name.replace("_", "-"), getattr(args, name, ""), reason)
    values = RECIPES[args.recipe or ("lean" if data else "tiny")]
    if hasattr(args, "epochs"):  # asked for, they are not overruled by a recipe's steps
        values = {name: value for name, value in values.items() if name != "max_steps"}
    train_run(
        from_args(RunConfig, args, values), from_args(LoraConfig, args, values), from_args(LoopConfig, args, values)
    )


def train_run(run: RunConfig, lora: LoraConfig, loop: LoopConfig) -> Path:
    """The whole job. Returns the run folder, which is made only once model and data have been read."""
    started = time.perf_counter()
    format: Format = run.format
    source, device = find_model(run.model), pick_device(run.device)
    data = find_data(run.data) if run.data else None
    training, kept = split_data(data, run, loop.seed)
    tokenizer, taught = load_tokenizer(source.path), load_tokenizer(source.path)
    drafts = [draft(row, tokenizer, format, named_tokens(run.tokens)) for row in [*training, *kept]]
    new = tokens_to_add(run.tokens, audit(drafts, named_tokens(run.tokens)))
    dtype = pick_dtype(run.dtype, stored_dtype(source.path), device)
    model = load_model(source.path, dtype, device)
    require_finite(model, source.path)
    taught.add_tokens(new, run.reuse_unused)
    examples = fitting(drafts[: len(training)], taught, loop.length, run.learn == "all", run.cut)
    evaluation = fitting(drafts[len(training) :], taught, loop.length, run.learn == "all", run.cut)
    if not examples:
        raise DataError(f"every conversation is longer than --length {loop.length}; raise it, or --cut them")
    measured = {example.source for example in evaluation}
    kept = [conversation for conversation in kept if conversation.source in measured]
    if set(new) - set(tokenizer.control):
        check_room(model, tokenizer, run.reuse_unused)
    find_layers(model, lora.targets, bool(new))  # nothing more can be wrong with the options: now the work may begin
    print(f"{run.model}: {sum(p.numel() for p in model.parameters()):,} parameters, {name_of(dtype)} on {device}")
    settings = {"run": asdict(run), "lora": asdict(lora), "loop": asdict(loop)}
    commits = {"model": source.commit, "data": data.commit if data else "", "examples": digest(examples)}
    resolved = settings | {"commits": commits}
    folder = old_folder(run, resolved) if run.resume else new_folder(run)
    if not run.resume:
        write_text(folder / "config.json", json.dumps(resolved, indent=2) + "\n")
    print(text_settings(settings))

    exam: CallExam | DataExam
    if run.data:
        exam = DataExam(kept, format)
    else:
        exam = CallExam([toy_question(case) for case in toy.held_out_cases(run.cases, run.test_seed)], format)
    exam.sit("before", model, tokenizer)

    torch.manual_seed(loop.seed)
    add_tokens(model, tokenizer, new, run.init, run.reuse_unused)  # first: LoRA freezes all but what is new
    layers = add_lora(model, lora.r, lora.alpha, lora.dropout, lora.targets, lora.rslora)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"new tokens: {' '.join(new) or 'none'}")
    print(f"LoRA on {len(layers)} layers; {trainable:,} numbers to train, an adapter of {4 * trainable / 1e6:.1f} MB")
    if set(lora.targets) & set(VOCABULARY):
        table = model.model.embed_tokens.size * model.config.hidden_size * dtype.itemsize
        print(
            f"LoRA on the table, which reading and writing share: merged, it is two tables, {table / 1e6:,.0f} MB more"
        )
    watch = RowWatch(model, tokenizer, examples)

    states = folder / "states"
    first = latest_step(states)  # not 0 where it goes on
    with JsonLines(folder / "metrics.jsonl", first) as metrics:
        for record in metrics.kept:
            watch(record)

        def log(record: dict[str, Any]) -> None:
            metrics(record)
            watch(record)

        train(model, examples, loop, evaluation, log, states)
    save_adapter(model, tokenizer, folder / "adapter", source.name, format)
    if not run.data:  # hundreds of questions follow
        merge_lora(model)  # it answers the same, in less time
    exam.sit("after", model, tokenizer)

    tables = [exam.table(), *([watch.table()] if new else [])]
    took = f"{(time.perf_counter() - started) / 60:.1f} minutes" + (f" from step {first} on" if first else "")
    write_report(folder, tables, exam.samples(), resolved, took)
    shutil.rmtree(states, ignore_errors=True)
    print("", text_samples(exam.samples()), text_table(exam.table()), sep="\n\n")
    print(f"\n{folder}: config.json, metrics.jsonl, loss.png, report.md, adapter ({took})")
    if run.data:
        print(f"next: python -m minifc.export {folder} --to my-model")
    else:
        print(f"next: python -m minifc.evaluate --adapter {folder / 'adapter'} --test-seed 1 --sentences unseen")
    return folder


def split_data(data: Source | None, run: RunConfig, seed: int) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations to train on and to evaluate on: of a data set, or else of the embedded model's world."""
    if data is None:
        cases = toy.training_cases(WORLD_SIZE, seed)
        rows = [Conversation(case.messages(), case.tools, source=f"toy {i}") for i, case in enumerate(cases)]
        return rows[HELD_OUT:], rows[:HELD_OUT]
    return split(read_readable(data.files, run.calls == "canonical"), run.eval_share, seed)


def digest(examples: Sequence[Example]) -> str:
    """Tells whether a resumed run learns from what it began with."""
    whole = hashlib.sha256()
    for example in examples:
        whole.update(json.dumps([example.ids, example.mask]).encode())
    return whole.hexdigest()[:16]


def new_folder(run: RunConfig) -> Path:
    """An empty folder for a run."""
    folder = Path(run.to) if run.to else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if folder.exists() and (not folder.is_dir() or not is_empty(folder)):
        raise OptionError(f"--to {folder}: not empty; name a new folder, or go on with its run by --resume")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def old_folder(run: RunConfig, resolved: Mapping[str, Any]) -> Path:
    """The folder of an unfinished run of the same settings."""
    folder = Path(run.to)
    if not folder.is_dir():
        raise OptionError(f"--to {folder}: no such run to go on with")
    if (folder / "report.md").exists():
        raise OptionError(f"--to {folder}: this run is finished; name a new folder for another")
    begun = read_json(folder / "config.json", CheckpointError)
    for group, values in json.loads(json.dumps(resolved)).items():
        for name, value in values.items():
            before = begun.get(group, {}).get(name)
            if name not in RESUMED_FREELY and before != value:
                raise OptionError(
                    f"--to {folder}: begun with {name}={before!r}, not {value!r}; resume it with the same"
                )
    if not latest_step(folder / "states"):
        print(f"{folder}: no state was saved yet (--save-every); it starts at the first step")
    return folder


def write_report(folder: Path, tables: Sequence[Any], samples: Sequence[Any], resolved: Any, took: str) -> None:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if not draw_loss(records, folder / "loss.png"):
        print("loss.png: not drawn; pip install matplotlib for it")
    parts = [
        f"# {folder.name}",
        f"{took}, {sum('loss' in record for record in records)} optimiser steps.",
        *(markdown_table(table) for table in tables),
        "![loss](loss.png)",
        "## Conversations",
        markdown_samples(samples),
        "## Configuration",
        f"```json\n{json.dumps(resolved, indent=2)}\n```",
    ]
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    run_command(main)
