"""python -m minifc.pretrain: make weights/tiny from nothing.

The embedded model is pretrained on plain text and then tuned as a chat model, on texts that data/toy/
generates. It reads, copies and chooses, but has never seen a tool or a tool call; `minifc.train` teaches those.
"""

import json
import math
import random
import string
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn

from minifc.cli import Parser, run_command, seed_number
from minifc.data import Example, toy
from minifc.errors import CheckpointError, OptionError
from minifc.evaluation.report import draw_loss
from minifc.files import JsonLines, is_empty, read_json, read_tensors, whole_folder, write_text
from minifc.gemma.checkpoint import save_model
from minifc.gemma.config import GemmaConfig, config_from_dict
from minifc.gemma.model import Gemma
from minifc.text.calls import write_json
from minifc.text.template import render
from minifc.text.tokenizer import BOS, END_OF_TURN, EOS, PAD, START_OF_TURN, UNK, Tokenizer, load_tokenizer
from minifc.tuning.loop import LoopConfig, Optimizers, latest_step, train

CONTROL = [PAD, EOS, BOS, UNK, "<mask>", *(f"<unused{i}>" for i in range(16)), START_OF_TURN, END_OF_TURN]
TOOLS_INTRODUCTION = "Call a tool when one fits the request. The tools are:\n"  # as the chat templates have it
LEARNED_PIECES = 700
MOST_TOKENS = 640  # documents longer than a row are passed over

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "query_pre_attn_scalar": 64,
    "sliding_window": 64,
    "max_position_embeddings": 2048,
}
TEXT = LoopConfig(
    max_steps=2500, rows=3, length=MOST_TOKENS, learning_rate=3e-3, warmup_ratio=0.04, weight_decay=0.05,
    autocast=True, compile=True, eval_every=1000, save_every=500, seed=1,
)  # fmt: skip
CHAT = replace(TEXT, max_steps=24000, seed=2)


def build_tokenizer(folder: Path) -> Tokenizer:
    """A small BPE vocabulary in which a word has the same pieces wherever it stands.

    Spaces, `_`, digits and punctuation are never in one piece with letters, so that copying a word
    from a sentence into JSON copies its ids. Most words are several pieces, seen or unseen alike.
    """
    learner = tokenizers.Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "\u2581")
    pattern = tokenizers.Regex(r"\p{L}+|\d|\n|_|[^\p{L}\d\n_]+")
    learner.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    alphabet = [*string.ascii_letters, *string.digits, *string.punctuation, "\n", "\u2581"]
    trainer = trainers.BpeTrainer(vocab_size=LEARNED_PIECES, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(_sample_texts(3000), trainer)

    data = json.loads(learner.to_str())
    learned = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    pieces = [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *learned]
    data["model"] |= {
        "vocab": {piece: id_ for id_, piece in enumerate(pieces)},
        "byte_fallback": True,
        "unk_token": UNK,
        "fuse_unk": True,
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    data["added_tokens"] = [{"id": id_, "content": name, **flags} for id_, name in enumerate(CONTROL)]
    decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    data["decoder"] = json.loads(decoder.__getstate__())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    return load_tokenizer(folder)


def _sample_texts(count: int) -> Iterator[str]:
    """Mostly invented words: else the listed ones of training become one piece each, and the unseen ones several.

    Nothing is garbled, as pieces of garbled words are found in no other.
    """
    rng = random.Random("tokenizer")
    for number in range(count):
        yield "".join(text for text, _ in toy.text_document(rng, invented=0.9, garbled=0.0))
        if number % 10 == 0:
            yield from (message["content"] for message in toy.chat_document(rng, garbled=0.0))
    for case in toy.training_cases(count // 10, seed=0, shuffled=0.4, closed=False):
        yield TOOLS_INTRODUCTION + write_json(case.tools)
        yield from (message.get("thinking", "") for message in case.messages())


Make = Callable[[Tokenizer, random.Random], Example]


class Documents(Sequence[Example]):
    """A stage's documents, generated when asked for. Document i is the same each time."""

    def __init__(self, tokenizer: Tokenizer, stage: str, seed: int, make: Make) -> None:
        self.tokenizer, self.stage, self.seed, self.make = tokenizer, stage, seed, make

    def __len__(self) -> int:
        return 10**6  # more than any run reads

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        rng = random.Random(f"{self.stage} {self.seed} {index}")
        while len((example := self.make(self.tokenizer, rng)).ids) > MOST_TOKENS:
            pass
        return example


def text_example(tokenizer: Tokenizer, rng: random.Random) -> Example:
    """A stage 1 document. What follows from the passage is learned; one in seven is learned whole."""
    whole = rng.random() < 0.15
    ids, mask = [tokenizer.bos_id], [False]
    for text, predictable in toy.text_document(rng):
        piece = tokenizer.encode(text)
        ids += piece
        mask += [predictable or whole] * len(piece)
    return Example([*ids, tokenizer.eos_id], [*mask, True])


def chat_example(tokenizer: Tokenizer, rng: random.Random) -> Example:
    """A stage 2 document: mostly a chat, learned on the model's turns; now and then plain text again."""
    if rng.random() < 0.2:
        return text_example(tokenizer, rng)
    rendered = render(toy.chat_document(rng), tokenizer, format="gemma")
    return Example(rendered.ids, rendered.mask)


STAGES = (("text", TEXT, text_example), ("chat", CHAT, chat_example))


def new_model(vocab_size: int, seed: int) -> Gemma:
    """A Gemma-2 with random weights."""
    config: GemmaConfig = config_from_dict(
        {**SHAPE, "vocab_size": vocab_size, "eos_token_id": [1, CONTROL.index(END_OF_TURN)]}
    )
    torch.manual_seed(seed)
    model = Gemma(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            # The embedding is scaled by sqrt(E) when it is read, so this gives unit vectors and unit logits.
            nn.init.normal_(parameter, std=1 / math.sqrt(config.hidden_size) if "embed" in name else 0.02)
    return model


def optimizers(trainable: dict[str, nn.Parameter], config: LoopConfig) -> Optimizers:
    """Muon for the matrices inside the model, AdamW for embedding and gains."""
    matrices = [p for name, p in trainable.items() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in trainable.items() if p.ndim != 2 or "embed" in name]
    rate = config.learning_rate
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)]


@contextmanager
def deterministic() -> Iterator[None]:
    """Sums in one order: what torch.compile makes of the table's gradient would add it up in any."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def begin(to: Path, work: Path, seed: int) -> None:
    """Refuse before hours of work what would fail after them, or go on from something else."""
    for name, folder in (("to", to), ("work", work)):
        if any(place.exists() and not place.is_dir() for place in (folder, *folder.parents)):
            raise OptionError(f"--{name} {folder}: a file is in the way; name a folder")
    settings = {"seed": seed, "stages": {name: vars(config) for name, config, _ in STAGES}}
    begun = work / "config.json"
    if begun.is_file():
        if read_json(begun, CheckpointError) != settings:
            raise OptionError(f"--work {work}: a run with another seed or recipe was begun there; name a new folder")
        return
    if work.is_dir() and not is_empty(work):
        raise OptionError(f"--work {work}: not empty, and no pretraining was begun there; name a new folder")
    work.mkdir(parents=True, exist_ok=True)
    write_text(begun, json.dumps(settings, indent=2) + "\n")


@deterministic()
def pretrain(to: Path, work: Path, seed: int = 0) -> None:
    """Both stages, and the model saved in bf16 in `to`. `work` keeps states to go on from.

    Raises OptionError where a folder cannot be used, before anything is made.
    """
    begin(to, work, seed)
    tokenizer = build_tokenizer(work / "tokenizer")
    model = new_model(tokenizer.size, seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {tokenizer.size} ids")
    for stage, config, make in STAGES:
        result = work / stage / "model.safetensors"
        if result.is_file():
            print(f"stage {stage}: done before")
            model.load_state_dict(read_tensors(result, "delete it, and its stage is learned again"))
            continue
        documents = Documents(tokenizer, stage, seed, make)
        dev = Documents(tokenizer, f"{stage} dev", seed, make)[:100]
        print(f"stage {stage}: {config.max_steps} steps")
        (work / stage).mkdir(parents=True, exist_ok=True)
        with JsonLines(work / f"{stage}.jsonl", latest_step(work / stage)) as log:
            train(model, documents, config, dev, log, work / stage, make_optimizers=optimizers)
        part = result.with_suffix(".part")
        save_file(model.state_dict(), part)
        part.replace(result)  # whole or not at all: what is there counts as learned
    model.to(torch.bfloat16)
    records: list[dict[str, Any]] = []
    for stage, _, _ in STAGES:
        done = records[-1]["step"] if records else 0
        lines = (work / f"{stage}.jsonl").read_text().splitlines()
        records += [record | {"step": done + record["step"]} for record in map(json.loads, lines)]
    with whole_folder(to) as temporary:
        save_model(model, tokenizer, temporary)
        draw_loss(records, temporary / "loss.png")


def main(argv: Sequence[str]) -> None:
    parser = Parser("pretrain", __doc__ or "", "python -m minifc.pretrain --to my-tiny")
    parser.add_argument("--to", type=Path, default=Path("runs/tiny"), help="folder to write the model to (%(default)s)")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/pretrain"),
        help="folder for logs and for states; an interrupted run goes on from there (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--seed", type=seed_number, default=0, help="(%(default)s)")
    args = parser.parse(argv)
    started = time.perf_counter()
    pretrain(args.to, args.work, args.seed)
    print(f"{args.to}: written after {(time.perf_counter() - started) / 60:.0f} minutes")


if __name__ == "__main__":
    run_command(main)
