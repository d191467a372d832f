"""python -m minifc.train: teach a Gemma to call functions.

Without options it fine-tunes the embedded model of weights/tiny: asks it to call tools it has never
seen, adds the special tokens, trains LoRA beside them, and asks again.
With --model and --data it does the same for your model and your conversations.
"""

import hashlib
import json
import shutil
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from minifc.cli import Parser, add_options, from_args, new_folder, option, require, require_option, run_command
from minifc.data import Conversation, Draft, Example, audit, draft, toy
from minifc.data.bad_rows import BadRows
from minifc.data.learning import fitting, named_tokens, read_readable, split, tokens_to_add
from minifc.devices import name_of, pick_device
from minifc.errors import DataError, OptionError
from minifc.evaluation.asking import Answers, ask, merge_for_asking
from minifc.evaluation.held_out import HELD_OUT as HELD_OUT_FILE
from minifc.evaluation.held_out import run_settings, write_conversations
from minifc.evaluation.questions import QuestionSet, held_out_questions, toy_questions
from minifc.evaluation.report import draw_loss, markdown_samples, markdown_table, samples, score_table
from minifc.files import JsonLines, read_records, write_text
from minifc.gemma.checkpoint import require_finite
from minifc.gemma.model import Gemma
from minifc.hub import TINY, Source, find_data
from minifc.loading import Located, load_base, locate
from minifc.terminal import Sample, Table, colourful, note, progress, text_samples, text_settings, text_table
from minifc.text.dialects import FORMATS, dialect_of
from minifc.text.tokenizer import Tokenizer
from minifc.tuning.adapter import load_adapter, lora_config, save_adapter
from minifc.tuning.loop import LoopConfig, latest_step, train
from minifc.tuning.lora import ATTENTION, FEED_FORWARD, VOCABULARY, LoraConfig, add_lora, find_layers, lora_layers
from minifc.tuning.vocab import RowWatch, add_tokens, check_room, extended


@dataclass(frozen=True)
class RunConfig:
    """What to train on what, and how to look at it."""

    model: str = option(
        TINY, "model folder, GGUF file, or hub id as name or name@revision; or a run or adapter to train further"
    )
    data: str = option("", "file, folder or hub id of conversations; without it, the toy world of the embedded model")
    configuration: str = option("", "which configuration of a data set; by default the one that its card marks")
    split: str = option("", "which split of --data to train on; by default train, and no other in its place")
    skip_bad: int = option(0, "rows of --data that are left out if they cannot be learned from; one more is an error")
    to: str = option("", "run folder; by default a new one in runs/")
    format: str = option(
        "auto", "format of the turns; auto is an adapter's own, else gemma; own is the model's chat template",
        ("auto", *FORMATS),
    )  # fmt: skip
    tokens: tuple[str, ...] = option(
        ("auto",),
        "tags to register as tokens; auto takes those in the data, none leaves all as text",
    )
    calls: str = option(
        "canonical", "calls in the data's own text: as minifc writes them, or verbatim", ("canonical", "verbatim")
    )
    learn: str = option("model", "what is learned from: the model's turns, or every token", ("model", "all"))
    cut: bool = option(False, "cut a conversation that is longer than a row instead of leaving it out")
    init: str = option("pieces", "where the new tokens' rows start", ("pieces", "mean"))
    reuse_unused: bool = option(False, "give the new tokens reserved <unusedN> ids instead of ids after the last one")
    dtype: str = option("auto", "dtype of the frozen weights", ("auto", "float32", "bfloat16", "float16"))
    device: str = option("auto", "cpu, cuda, mps; auto is the best there is")
    eval_share: float = option(0.1, "share of --data kept for evaluation")
    cases: int = option(100, "held-out questions to ask before and after training; 0 asks none")
    test_seed: int = option(0, "random seed of the questions about the toy world")
    resume: bool = option(False, "continue the run in --to from its last saved state (--save-every)")

    def __post_init__(self) -> None:
        require(0 <= self.eval_share < 1, "eval_share", self.eval_share, "must be at least 0 and less than 1")
        require(self.skip_bad >= 0, "skip_bad", self.skip_bad, "must be 0 or more")
        require(self.cases >= 0, "cases", self.cases, "must be 0 or more")
        alone = len(self.tokens) == 1 or not {"auto", "none"} & set(self.tokens)
        require(alone, "tokens", ",".join(self.tokens), "auto and none stand alone")
        require(bool(self.tokens), "tokens", "", "name tags, or say auto or none")
        require(bool(self.to) or not self.resume, "resume", "", "needs --to with the run folder to go on with")


# Values that differ from the dataclasses' defaults: for the embedded model, for real ones, for a real one on a computer
# without a GPU, and the course's own.
RECIPES: dict[str, dict[str, Any]] = {
    # No dropout: hardly any conversation comes twice, and on a CPU its random numbers are a quarter of the work.
    "tiny": {
        "max_steps": 360, "rows": 2, "length": 896, "learning_rate": 2e-3, "dropout": 0.0, "dtype": "float32",
        "cases": 400,
    },
    "lean": {"rows": 1, "length": 2048, "accumulation": 4, "learning_rate": 2e-4},
    # Measured on two cores with Gemma 3 270M (LOG.md): two rows share the work of each step and fit into 4 GB.
    "laptop": {
        "rows": 2, "length": 1024, "r": 32, "alpha": 64.0, "dropout": 0.0, "learning_rate": 6e-4, "warmup_ratio": 0.06,
        "reuse_unused": True, "eval_share": 0.02, "compile": True, "save_every": 100,
    },
    "course": {
        "format": "course", "calls": "verbatim", "learn": "all", "init": "mean", "eval_share": 0.1, "seed": 42,
        "targets": ATTENTION + FEED_FORWARD + VOCABULARY, "r": 16, "alpha": 64.0, "dropout": 0.05,
        "epochs": 1, "rows": 1, "accumulation": 4, "length": 1500, "gradient_checkpointing": True,
        "learning_rate": 1e-4, "warmup_ratio": 0.1, "weight_decay": 0.1, "max_grad_norm": 1.0,
    },
}  # fmt: skip
RESUMED_FREELY = ("to", "resume", "device", "cases", "test_seed", "eval_every", "save_every")  # may change in a run
METRICS = "metrics.jsonl"  # a record per step and per evaluation
WORLD_SIZE = 5000  # conversations generated for the embedded model
SLOW_TO_READ = 5000  # rows, of which a core reads some hundreds a second
HELD_OUT = 100  # of these, for the evaluation loss


def main(argv: Sequence[str]) -> None:
    parser = Parser("train", __doc__ or "", "python -m minifc.train --model FOLDER --data FILE")
    parser.add_argument("--recipe", choices=list(RECIPES), help="values to start from (tiny without --data, else lean)")
    for config in (RunConfig, LoraConfig, LoopConfig):
        add_options(parser, config, RECIPES)
    args = parser.parse(argv)
    data = getattr(args, "data", "")
    for name in ("test_seed",) if data else ("eval_share", "calls", "configuration", "split", "skip_bad"):
        where = "the embedded model's own world" if data else "--data"
        reason = f"means something only with {where}; leave it out"
        require_option(not hasattr(args, name), name.replace("_", "-"), getattr(args, name, ""), reason)
    if hasattr(args, "epochs") and hasattr(args, "max_steps") and args.max_steps:
        raise OptionError(f"--epochs {args.epochs} and --max-steps {args.max_steps}: give only one of them")
    given = [field.name for field in fields(LoraConfig) if hasattr(args, field.name)]
    if given and locate(getattr(args, "model", TINY)).adapter:
        reason = f"{args.model} is trained further, with the LoRA that it has; leave it out"
        require_option(False, "rank" if given[0] == "r" else given[0], getattr(args, given[0]), reason)
    values = RECIPES[args.recipe or ("lean" if data else "tiny")]
    if hasattr(args, "epochs"):  # asked for, they are not overruled by a recipe's steps
        values = {name: value for name, value in values.items() if name != "max_steps"}
    train_run(
        from_args(RunConfig, args, values), from_args(LoraConfig, args, values), from_args(LoopConfig, args, values)
    )


@dataclass(frozen=True)
class Job:
    """What a run works with, read and checked; nothing is written yet."""

    source: Located
    model: Gemma
    tokenizer: Tokenizer  # without the new tokens
    new_tokens: list[str]
    frozen_tokens: list[str]  # those of the data that the model has already, with rows that this run does not train
    training: list[Example]
    evaluation: list[Example]  # for the loss
    held_out: list[Conversation]  # the conversations of these examples
    settings: dict[str, dict[str, Any]]


def train_run(run: RunConfig, lora: LoraConfig, loop: LoopConfig) -> Path:
    """The whole job. Returns the run folder, which is made only once model and data have been read."""
    started = time.perf_counter()
    folder = unfinished_run(run) if run.resume else new_place(run)
    print(plan(run, loop, folder))
    job = prepare(run, lora, loop)
    if run.resume:
        require_same(folder, job.settings)
    print(facts(job), dimmed(text_settings({name: job.settings[name] for name in ("run", "lora", "loop")})), sep="\n")
    open_folder(folder, job)
    questions = questions_for(run, job)

    answers = {"before": ask_all("before", job, questions)}
    watch = extend(run, lora, loop, job)
    first = teach(folder, loop, job, watch)
    save_adapter(job.model, job.tokenizer, folder / "adapter", job.source.base.name, job.source.format)
    if not run.data:
        merge_for_asking(job.model)
    answers["after"] = ask_all("after", job, questions)

    took = f"{(time.perf_counter() - started) / 60:.1f} minutes" + (f" from step {first} on" if first else "")
    scores, shown = score_table(answers), samples(questions.questions, answers)
    tables = [table for table in (scores, watch.table()) if len(table) > 1]
    write_report(folder, tables, shown, job.settings, took)
    shutil.rmtree(folder / "states", ignore_errors=True)
    if shown:
        print(f"\n\n{text_samples(shown)}")
    if len(scores) > 1:
        print(f"\n{text_table(scores)}")
    print()
    note(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))} ({took})")
    print(f"next: {next_command(run, folder)}")
    return folder


# --- before anything is read ---------------------------------------------------------------------------------------


def new_place(run: RunConfig) -> Path:
    """A folder that a run can be written to, not made yet. Raises OptionError."""
    folder = Path(run.to) if run.to else Path("runs") / datetime.now().strftime("%Y-%m-%d-%H%M%S")
    if (folder / "config.json").is_file():
        raise OptionError(f"--to {folder}: not empty; name a new folder, or go on with its run by --resume")
    try:
        return new_folder(str(folder))
    except ArgumentTypeError as error:
        raise OptionError(f"--to {error}") from None


def unfinished_run(run: RunConfig) -> Path:
    """The folder of a run to go on with. Raises OptionError, or CheckpointError for files that are damaged."""
    folder = Path(run.to)
    if not folder.is_dir():
        raise OptionError(f"--to {folder}: no such run to go on with")
    if (folder / "report.md").exists():
        raise OptionError(f"--to {folder}: this run is finished; name a new folder for another")
    run_settings(folder)
    if (folder / METRICS).is_file():
        read_records(folder / METRICS)
    return folder


def plan(run: RunConfig, loop: LoopConfig, folder: Path) -> str:
    """What is about to happen, for people."""
    asked = f"questions about {'conversations kept out of training' if run.data else 'functions it has never seen'}"
    steps = f"{loop.max_steps:,} steps" if loop.max_steps else f"{loop.epochs} epoch{'s' * (loop.epochs > 1)}"
    rows = f"the conversations of {run.data}" if run.data else f"{WORLD_SIZE - HELD_OUT:,} generated conversations"
    lines = [
        f"The language model {run.model} is taught to call functions:",
        f"  1. It is asked {'' if run.data else f'{run.cases} '}{asked}.",
        f"  2. It is trained for {steps} on {rows}.",
        "  3. It is asked the same again, and both results are shown side by side.",
    ]
    if not run.cases:
        lines[1:] = [f"  It is trained for {steps} on {rows}."]
    if run.model == TINY and not run.data:
        lines.append("With the default settings this takes about five minutes on two CPU cores.")
    return "\n".join([*lines, f"Everything is kept in {folder}.", ""])


# --- reading and checking ------------------------------------------------------------------------------------------


def prepare(run: RunConfig, lora: LoraConfig, loop: LoopConfig) -> Job:
    """Read model and data, and check every option against them."""
    source, device = locate(run.model, format=None if run.format == "auto" else run.format), pick_device(run.device)
    run = replace(run, format=source.format)
    data = find_data(run.data, run.configuration, run.split) if run.data else None
    bad = BadRows(run.skip_bad)
    training, kept = split_data(data, run, loop.seed, bad)
    model, tokenizer = load_base(source, run.dtype, device)
    require_finite(model, source.base.path)
    if source.adapter:
        load_adapter(model, tokenizer, source.adapter)
        lora = lora_config(source.adapter)
    drafts = drafts_of([*training, *kept], tokenizer, run.format, run.tokens, bad)
    bad.say()
    apart = {conversation.source for conversation in kept}
    taught_from = [draft for draft in drafts if draft.conversation.source not in apart]
    asked_about = [draft for draft in drafts if draft.conversation.source in apart]
    dialect = dialect_of(run.format, tokenizer)
    new = tokens_to_add(run.tokens, audit(drafts, named_tokens(run.tokens), dialect.tokens), dialect.ids)
    taught, places = tokenizer.copy(), tokenizer.places(new, run.reuse_unused, dialect.ids)
    taught.register(places)
    examples = fitting(taught_from, taught, loop.length, run.learn == "all", run.cut)
    evaluation = fitting(asked_about, taught, loop.length, run.learn == "all", run.cut)
    if not examples:
        raise DataError(f"every conversation is longer than --length {loop.length}; raise it, or --cut them")
    if places:
        check_room(model, tokenizer, places)
    if not source.adapter:
        find_layers(model, lora.targets, bool(places))
    measured = {example.source for example in evaluation}
    held_out = [conversation for conversation in kept if conversation.source in measured]
    commits = {"model": source.base.commit, "data": data.commit if data else "", "examples": digest(examples)}
    settings = {"run": asdict(run), "lora": asdict(lora), "loop": asdict(loop), "commits": commits}
    frozen = frozen_tokens(model, tokenizer, new, lora)
    return Job(source, model, tokenizer, list(places), frozen, examples, evaluation, held_out, settings)


def frozen_tokens(model: Gemma, tokenizer: Tokenizer, tokens: Sequence[str], lora: LoraConfig) -> list[str]:
    """The tokens that the model has already, as an exported one does, and whose rows nothing will train."""
    if set(lora.targets) & set(VOCABULARY):
        return []
    rows = extended(model)  # of an adapter that is trained further
    trained = rows.ids if rows else ()
    return [token for token in tokens if token in tokenizer.control and tokenizer.control[token] not in trained]


def drafts_of(
    rows: Sequence[Conversation], tokenizer: Tokenizer, format: str, tokens: Sequence[str], bad: BadRows
) -> list[Draft]:
    """Every row as its chat template writes it; with progress where that takes a while."""
    drafts: list[Draft] = []
    with progress(len(rows), "reading", "row", show=len(rows) > SLOW_TO_READ) as bar:
        for row in rows:
            with bad.left_out():
                drafts.append(draft(row, tokenizer, format, named_tokens(tokens)))
            bar.update()
    return drafts


def split_data(
    data: Source | None, run: RunConfig, seed: int, bad: BadRows
) -> tuple[list[Conversation], list[Conversation]]:
    """Conversations to train on and to evaluate on: of a data set, or else of the embedded model's world."""
    if data is None:
        cases = toy.training_cases(WORLD_SIZE, seed)
        rows = [Conversation(case.messages(), case.tools, source=f"toy {i}") for i, case in enumerate(cases)]
        return rows[HELD_OUT:], rows[:HELD_OUT]
    return split(read_readable(data.files, run.calls == "canonical", bad), run.eval_share, seed)


def digest(examples: Sequence[Example]) -> str:
    """Tells whether a resumed run learns from what it began with."""
    whole = hashlib.sha256()
    for example in examples:
        whole.update(json.dumps([example.ids, example.mask]).encode())
    return whole.hexdigest()[:16]


def require_same(folder: Path, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise OptionError unless an unfinished run was begun with the same settings."""
    begun = run_settings(folder)
    for group, values in json.loads(json.dumps(settings)).items():
        for name, value in values.items():
            before = begun[group].get(name)
            if name not in RESUMED_FREELY and before != value:
                raise OptionError(
                    f"--to {folder}: begun with {name}={before!r}, not {value!r}; resume it with the same"
                )


def facts(job: Job) -> str:
    """Size, dtype and device of the model."""
    frozen = job.model.model.norm.weight  # what trains is fp32 in any model
    numbers = sum(p.numel() for p in job.model.parameters())
    return f"{job.source.base.name}: {numbers:,} parameters, {name_of(frozen.dtype)} on {frozen.device}"


def dimmed(text: str) -> str:
    """Less bright, where the terminal has colours."""
    return f"\033[2m{text}\033[0m" if colourful(sys.stdout) else text


def open_folder(folder: Path, job: Job) -> None:
    """Make the run folder, or go on in it: settings, and for a data set the conversations kept out of training."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(job.settings, indent=2) + "\n")
    if job.settings["run"]["data"]:
        write_conversations(job.held_out, folder / HELD_OUT_FILE)
    if job.settings["run"]["resume"] and not latest_step(folder / "states"):
        print(f"{folder}: no state was saved yet (--save-every); it starts at the first step")


# --- asking, training, reporting -----------------------------------------------------------------------------------


def questions_for(run: RunConfig, job: Job) -> QuestionSet:
    """The questions to ask before and after training."""
    if not run.data:
        return toy_questions(run.cases, run.test_seed)
    found = held_out_questions(run.data, job.held_out)
    asked = found.first(run.cases)
    print(
        f"{len(asked.questions):,} of {len(found.questions):,} questions about {len(job.held_out):,} held-out "
        "conversations are asked (--cases)"
    )
    return asked


def ask_all(name: str, job: Job, questions: QuestionSet) -> Answers:
    return ask(
        job.model,
        job.tokenizer,
        questions.questions,
        job.source.format,
        name=name,
        conversations=questions.conversations,
    )


def extend(run: RunConfig, lora: LoraConfig, loop: LoopConfig, job: Job) -> RowWatch:
    """Add the new tokens and LoRA, which are what is trained; what is returned watches the new tokens' rows.

    An adapter that is trained further has both.
    """
    model = job.model
    torch.manual_seed(loop.seed)
    ids = dialect_of(job.source.format, job.tokenizer).ids
    add_tokens(model, job.tokenizer, job.new_tokens, run.init, run.reuse_unused, ids)  # first: LoRA freezes all else
    if not job.source.adapter:
        add_lora(model, lora.r, lora.alpha, lora.dropout, lora.targets, lora.rslora)
    layers = list(lora_layers(model))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    note(f"new tokens: {' '.join(job.new_tokens) or 'none'}")
    if job.frozen_tokens:
        note(f"the model has these tokens already, and their rows stay as they are: {' '.join(job.frozen_tokens)}")
    note(f"LoRA on {len(layers)} layers; {trainable:,} numbers to train, an adapter of {4 * trainable / 1e6:.1f} MB")
    if set(lora.targets) & set(VOCABULARY):
        itemsize = model.model.norm.weight.dtype.itemsize
        table = model.model.embed_tokens.size * model.config.hidden_size * itemsize
        note(
            f"LoRA on the table, which reading and writing share: merged, it is two tables, {table / 1e6:,.0f} MB more"
        )
    return RowWatch(model, job.tokenizer, job.training)


def teach(folder: Path, loop: LoopConfig, job: Job, watch: RowWatch) -> int:
    """Train. Returns the step that a resumed run went on from, else 0."""
    first = latest_step(folder / "states")
    with JsonLines(folder / METRICS, first) as metrics:
        for record in metrics.kept:
            watch(record)

        def log(record: dict[str, Any]) -> None:
            metrics(record)
            watch(record)

        train(job.model, job.training, loop, job.evaluation, log, folder / "states")
    return first


def write_report(folder: Path, tables: Sequence[Table], shown: Sequence[Sample], settings: Any, took: str) -> None:
    records = read_records(folder / METRICS)
    if not draw_loss(records, folder / "loss.png"):
        print("loss.png: not drawn; pip install matplotlib for it")
    parts = [
        f"# {folder.name}",
        f"{took}, {sum('loss' in record for record in records)} optimiser steps.",
        *(markdown_table(table) for table in tables),
        "![loss](loss.png)",
        "## Conversations",
        markdown_samples(shown),
        "## Configuration",
        f"```json\n{json.dumps(settings, indent=2)}\n```",
    ]
    write_text(folder / "report.md", "\n\n".join(parts) + "\n")


def next_command(run: RunConfig, folder: Path) -> str:
    if run.data:
        return f"python -m minifc.export {folder} --to my-model"
    return f"python -m minifc.evaluate --model {folder} --test-seed 1 --sentences unseen"


if __name__ == "__main__":
    run_command(main)
