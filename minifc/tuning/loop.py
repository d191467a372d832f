"""The training loop: batches, gradient steps, evaluation, checkpoints, and going on from one.

The order of the data follows from the seed alone, so a checkpoint needs to hold only the step,
the trained numbers, the optimiser's state and the state of the random generators. A run that was
interrupted ends with the same weights, bit for bit, as one that was not.
"""

import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minifc.cli import option, require
from minifc.data import Batch, Example, pack
from minifc.errors import CheckpointError, TrainingError
from minifc.files import read_json, read_tensors, whole_folder
from minifc.gemma.checkpoint import first_not_finite
from minifc.gemma.model import Gemma
from minifc.terminal import note
from minifc.terminal import progress as progress_bar
from minifc.tuning.loss import batch_loss


@dataclass(frozen=True)
class LoopConfig:
    """How to train. An optimiser step sees `accumulation` batches of `rows` rows of `length` tokens."""

    epochs: int = option(1, "passes over the data")
    max_steps: int = option(0, "optimiser steps, however many epochs they are; 0 is --epochs")
    rows: int = option(8, "rows in a batch")
    length: int = option(512, "tokens in a row, filled with whole conversations")
    look_ahead: int = option(64, "how many of the next conversations to choose from when a row is filled")
    accumulation: int = option(1, "batches in an optimiser step")
    learning_rate: float = option(2e-3, "peak learning rate of AdamW")
    warmup_ratio: float = option(0.1, "share of the steps in which the learning rate rises to its peak")
    weight_decay: float = option(0.0, "weight decay of AdamW")
    max_grad_norm: float = option(1.0, "clip the norm of the gradient to this")
    gradient_checkpointing: bool = option(False, "recompute activations: less memory, a third slower")
    autocast: bool = option(False, "fp32 weights, but matrix products in bf16")
    compile: bool = option(False, "torch.compile, worth its two minutes on long runs; on a CPU it needs a C++ compiler")
    eval_every: int = option(0, "steps between evaluations; 0 is at the end only")
    save_every: int = option(0, "steps between saved states; 0 is never")
    seed: int = option(0, "random seed of LoRA's initial weights, dropout and the order of the data")

    def __post_init__(self) -> None:
        for name in ("epochs", "rows", "length", "look_ahead", "accumulation"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("max_steps", "eval_every", "save_every"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or more")
        require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "must be 0 or more, and finite")
        for name in ("learning_rate", "max_grad_norm"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "must be above 0, and finite")
        require(0 <= self.warmup_ratio <= 1, "warmup_ratio", self.warmup_ratio, "must be between 0 and 1")
        require(0 <= self.seed < 2**63, "seed", self.seed, "must be 0 or more, and less than 2^63")


Log = Callable[[dict[str, Any]], None]


def train(
    model: Gemma,
    examples: Sequence[Example],
    config: LoopConfig,
    evaluation: Sequence[Example] = (),
    log: Log = lambda record: None,
    checkpoints: Path | None = None,
    progress: bool = True,
    make_optimizers: "MakeOptimizers | None" = None,
) -> None:
    """Train what requires gradients. `log` gets a record per step and per evaluation.

    checkpoints: a folder to save states into every `save_every` steps and to go on from.
    progress: whether to show a progress bar.
    Raises TrainingError if there is nothing to train, and at a loss, a gradient or a weight that is not finite.
    """
    if not examples:
        raise TrainingError("no examples to train on")
    trainer = _Trainer(model, config, make_optimizers or adamw)
    steps = count_steps(examples, config)
    latest = latest_checkpoint(checkpoints) if checkpoints is not None else None
    first, tokens_before = trainer.restore(latest) if latest else (0, 0)  # a resumed run walks past what it has learned
    tokens, started = tokens_before, time.perf_counter()
    faster = compiled(model) if config.compile and can_compile(trainer.device) else nullcontext()
    recomputing = recompute(model) if config.gradient_checkpointing else nullcontext()
    with faster, recomputing, progress_bar(steps, None, "step", first, progress) as bar:
        model.train()
        for step, batches in islice(enumerate(_steps(examples, config), 1), first, steps):
            rate = config.learning_rate * schedule(step - 1, steps, config.warmup_ratio)
            trainer.set_learning_rate(rate)
            loss = trainer.forward_backward(step, batches)
            gradients = trainer.clip_gradients(step)
            trainer.update()

            tokens += sum(int((batch.documents >= 0).sum()) for batch in batches)
            speed = (tokens - tokens_before) / (time.perf_counter() - started)
            record = {"step": step, "loss": loss, "learning_rate": rate} | gradients
            record["supervised"] = sum(batch.supervised for batch in batches)
            log(record | {"tokens": tokens, "tokens_per_second": round(speed, 1)})
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s", refresh=False)
            bar.update()
            if evaluation and (step == steps or _due(step, config.eval_every)):
                log({"step": step, "eval_loss": evaluate_loss(model, evaluation, config)})
            if checkpoints is not None and step < steps and _due(step, config.save_every):
                trainer.save(checkpoints, step, tokens)
    model.eval()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


class _Trainer:
    """What changes from step to step: the trained parameters, their optimisers and the scale of fp16's gradients."""

    def __init__(self, model: Gemma, config: LoopConfig, make_optimizers: "MakeOptimizers") -> None:
        self.model, self.config = model, config
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.trainable:
            raise TrainingError("no parameter requires gradients; call minifc.add_lora first")
        self.optimizers = make_optimizers(self.trainable, config)
        self.device = next(model.parameters()).device
        # fp16 has no room for small gradients: they are scaled up before, and down after.
        self.half = any(p.dtype == torch.float16 for p in model.parameters())
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half)

    def set_learning_rate(self, rate: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def forward_backward(self, step: int, batches: Sequence[Batch]) -> float:
        """Add up the gradients of the mean loss over all supervised tokens of a step; that loss."""
        supervised = sum(batch.supervised for batch in batches)
        loss = 0.0
        for batch in batches:
            with torch.autocast(self.device.type, torch.bfloat16) if self.config.autocast else nullcontext():
                part = batch_loss(self.model, batch.to(self.device)) / supervised
            self.scaler.scale(part).backward()
            loss += part.item()
        if not math.isfinite(loss):
            raise TrainingError(f"step {step}: the loss is {loss}; try a lower learning rate, or --dtype float32")
        return loss

    def clip_gradients(self, step: int) -> dict[str, Any]:
        """Shorten the gradient to `max_grad_norm`. For the record: its norm before, and that of each new token's row.

        In fp16 a gradient may overflow: then nothing is recorded, and the scaler will skip the step and scale less.
        """
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = float(nn.utils.clip_grad_norm_(list(self.trainable.values()), self.config.max_grad_norm))
        if not math.isfinite(norm):
            if self.half:
                return {}
            compiled = ", or without torch.compile: weights/README.md says when g++ fails it"
            advice = f"try a lower learning rate{compiled if self.config.compile else ''}"
            raise TrainingError(f"step {step}: the gradient is {norm}; {advice}")
        rows = [p.grad for name, p in self.trainable.items() if name.endswith(".rows") and p.grad is not None]
        return {"gradient_norm": norm} | ({"row_gradients": rows[0].norm(dim=1).tolist()} if rows else {})

    def update(self) -> None:
        """Take the optimisers' step, and forget its gradients."""
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()

    def save(self, folder: Path, step: int, tokens: int) -> None:
        """One folder per state, whole or not at all; the one before it is deleted afterwards."""
        tensors: dict[str, Tensor] = {f"parameter.{name}": p.detach().cpu() for name, p in self.trainable.items()}
        states = {parameter: state for optimizer in self.optimizers for parameter, state in optimizer.state.items()}
        for name, parameter in self.trainable.items():
            for key, value in states.get(parameter, {}).items():
                tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value).cpu().clone()
        if broken := first_not_finite(tensors):
            raise TrainingError(
                f"step {step}: {broken} holds a number that is not finite; not saved, try a lower learning rate"
            )
        tensors["rng.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        before = latest_checkpoint(folder)
        state = {"step": step, "tokens": tokens, "config": _comparable(self.config)}
        state["scaler"] = self.scaler.state_dict()
        with whole_folder(folder / f"step-{step:06}") as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary / "state.safetensors")
            (temporary / "state.json").write_text(json.dumps(state, indent=1))
        if before is not None:
            shutil.rmtree(before)

    def restore(self, folder: Path) -> tuple[int, int]:
        """Put everything back where it was; the steps and the tokens that were taken before."""
        state = read_json(folder / "state.json", CheckpointError)
        if not isinstance(state, dict) or {"step", "tokens", "config", "scaler"} - set(state):
            raise CheckpointError(f"{folder / 'state.json'}: not a state that minifc saved; begin the run again")
        before, now = state["config"], _comparable(self.config)
        if changed := [name for name in now if now[name] != before.get(name)]:
            name = changed[0]
            raise CheckpointError(
                f"{folder}: made with {name}={before.get(name)!r}, not {now[name]!r}; resume with the same options"
            )
        tensors = read_tensors(folder / "state.safetensors", f"delete {folder}, and the run begins again")
        for name, parameter in self.trainable.items():
            saved = tensors.get(f"parameter.{name}")
            if saved is None or saved.shape != parameter.shape:
                raise CheckpointError(
                    f"{folder}: holds no {name} of shape {list(parameter.shape)}; it is of another run"
                )
        optimizer_of = {p: o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        for name, parameter in self.trainable.items():
            parameter.data.copy_(tensors[f"parameter.{name}"])
            prefix = f"optimizer.{name}."
            optimizer_of[parameter].state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device) if value.ndim else value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng.cuda"])
        return int(state["step"]), int(state["tokens"])


Optimizers = list[torch.optim.Optimizer]
MakeOptimizers = Callable[[dict[str, nn.Parameter], LoopConfig], Optimizers]


def adamw(trainable: dict[str, nn.Parameter], config: LoopConfig) -> Optimizers:
    """AdamW (arXiv:1711.05101); gains and other vectors do not decay."""
    groups = [
        {"params": [p for p in trainable.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)]


def evaluate_loss(model: Gemma, examples: Sequence[Example], config: LoopConfig) -> float:
    """Mean cross entropy of a supervised token."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    total, supervised = 0.0, 0
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):  # for other shapes, blocks would be compiled anew
        for batch in pack(examples, config.rows, config.length):
            total += float(batch_loss(model, batch.to(device)))
            supervised += batch.supervised
    model.train(was_training)
    return total / supervised


def schedule(step: int, steps: int, warmup_ratio: float) -> float:
    """Linear warm-up, then a cosine down to 0, as a fraction of the learning rate for step 0 .. steps - 1."""
    warmup = math.ceil(steps * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile has the C++ compiler that it needs for a CPU; if not, that is said."""
    compilers = (os.environ["CXX"],) if "CXX" in os.environ else ("g++", "clang++")
    if device.type != "cpu" or any(map(shutil.which, compilers)):
        return True
    note(f"no C++ compiler ({' or '.join(compilers)}): trained without torch.compile, which is slower")
    return False


@contextmanager
def compiled(model: Gemma) -> Iterator[None]:
    """torch.compile while the context lasts, block by block: blocks of one kind are compiled once and share the code,
    where compiling the model whole would repeat it for every layer.
    """
    with _instead_of_forward(model, lambda forward: torch.compile(forward, dynamic=False)):
        yield


@contextmanager
def recompute(model: Gemma) -> Iterator[None]:
    """Gradient checkpointing (arXiv:1604.06174) while the context lasts: keep only a block's input, and run the block
    again on the way back."""
    with _instead_of_forward(model, lambda forward: partial(checkpoint, forward, use_reentrant=False)):
        yield


@contextmanager
def _instead_of_forward(
    model: Gemma, change: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
) -> Iterator[None]:
    """Every block with a changed `forward`, which may have been changed before."""
    before = [vars(block).get("forward") for block in model.model.layers]
    for block in model.model.layers:
        block.forward = change(block.forward)
    try:
        yield
    finally:
        for block, forward in zip(model.model.layers, before, strict=True):
            vars(block).pop("forward", None)  # and the class's own is in use again
            if forward is not None:
                block.forward = forward


def count_steps(examples: Sequence[Example], config: LoopConfig) -> int:
    """How many optimiser steps a run takes."""
    if config.max_steps:
        return config.max_steps
    return sum(1 for _ in _steps(examples, config))


def _steps(examples: Sequence[Example], config: LoopConfig) -> Iterator[list[Batch]]:
    """The batches of each optimiser step, epoch after epoch, each in its own order."""
    epoch = 0
    while epoch < config.epochs or config.max_steps:
        order = list(range(len(examples)))
        random.Random(f"{config.seed} {epoch}").shuffle(order)
        group: list[Batch] = []
        for batch in pack((examples[i] for i in order), config.rows, config.length, look_ahead=config.look_ahead):
            group.append(batch)
            if len(group) == config.accumulation:
                yield group
                group = []
        if group:
            yield group
        epoch += 1


# --- checkpoints -----------------------------------------------------------------------------------------------


def latest_checkpoint(folder: Path) -> Path | None:
    saved = (path for path in folder.glob("step-*") if _step_of(path).isdecimal())
    return max(saved, key=lambda path: int(_step_of(path)), default=None)


def latest_step(folder: Path) -> int:
    """The step that a resumed run goes on from; 0 if there is no state."""
    latest = latest_checkpoint(folder)
    return int(_step_of(latest)) if latest else 0


def _step_of(folder: Path) -> str:
    return folder.name.removeprefix("step-")


def _comparable(config: LoopConfig) -> dict[str, Any]:
    """The options that a resumed run must share. How often to look and to save changes nothing."""
    return {name: value for name, value in vars(config).items() if name not in ("eval_every", "save_every")}
