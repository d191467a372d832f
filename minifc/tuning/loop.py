"""The training loop: batches, gradient steps, evaluation, checkpoints, and going on from one.

The order of the data follows from the seed alone, so a checkpoint needs to hold only the step,
the trained numbers, the optimiser's state and the state of the random generators. A run that was
interrupted ends with the same weights, bit for bit, as one that was not.
"""

import json
import math
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from tqdm import tqdm

from minifc.cli import option, require
from minifc.data import Batch, Example, pack
from minifc.errors import CheckpointError, TrainingError
from minifc.files import read_json, read_tensors, whole_folder
from minifc.gemma.model import Gemma
from minifc.tuning.loss import batch_loss


@dataclass(frozen=True)
class LoopConfig:
    """How to train. An optimiser step sees `accumulation` batches of `rows` rows of `length` tokens."""

    epochs: int = option(1, "passes over the data")
    max_steps: int = option(0, "optimiser steps, however many epochs they are; 0 is --epochs")
    rows: int = option(8, "rows in a batch")
    length: int = option(512, "tokens in a row, filled with whole conversations")
    look_ahead: int = option(64, "how many of the next conversations a row may choose from, so as to leave less empty")
    accumulation: int = option(1, "batches in an optimiser step")
    learning_rate: float = option(2e-3, "of AdamW, at its highest")
    warmup_ratio: float = option(0.1, "share of the steps over which the learning rate rises")
    weight_decay: float = option(0.0, "of AdamW")
    max_grad_norm: float = option(1.0, "gradients longer than this are shortened to it")
    gradient_checkpointing: bool = option(False, "keep fewer activations and compute them again: a third slower")
    autocast: bool = option(False, "fp32 weights, but matrix products in bf16")
    compile: bool = option(False, "torch.compile, worth its minute on long runs; on CPU it needs a C++ compiler")
    eval_every: int = option(0, "steps between evaluations; 0 is at the end only")
    save_every: int = option(0, "steps between saved states; 0 is never")
    seed: int = option(0, "of LoRA's start, dropout and the order of the data")

    def __post_init__(self) -> None:
        for name in ("epochs", "rows", "length", "look_ahead", "accumulation"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        for name in ("max_steps", "eval_every", "save_every", "weight_decay"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must be 0 or more")
        for name in ("learning_rate", "max_grad_norm"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "must be above 0")
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
    Raises TrainingError if there is nothing to train, and at a loss that is not finite.
    """
    if not examples:
        raise TrainingError("no examples to train on")
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise TrainingError("no parameter requires gradients; call minifc.add_lora first")
    steps = count_steps(examples, config)
    optimizers = (make_optimizers or adamw)(trainable, config)
    device = next(model.parameters()).device
    # fp16 has no room for small gradients: they are scaled up before, and down after.
    half = any(p.dtype == torch.float16 for p in model.parameters())
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    if config.gradient_checkpointing:
        recompute(model)
    hidden = model.hidden
    if config.compile:
        hidden = torch.compile(hidden, dynamic=False)

    first = tokens_before = 0
    if checkpoints is not None and (latest := latest_checkpoint(checkpoints)):
        first, tokens_before = _restore(latest, trainable, optimizers, scaler, config)
    bar = tqdm(total=steps, initial=first, unit="step", disable=not progress, dynamic_ncols=True)
    model.train()
    started = time.perf_counter()
    tokens_seen = tokens_before
    for step, batches in enumerate(_steps(examples, config)):
        if step >= steps:
            break
        if step < first:
            continue  # a resumed run walks past what it has learned
        rate = config.learning_rate * schedule(step, steps, config.warmup_ratio)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        supervised = sum(batch.supervised for batch in batches)
        loss = 0.0
        for batch in batches:
            with torch.autocast(device.type, torch.bfloat16, enabled=config.autocast):
                part = batch_loss(model, batch.to(device), hidden) / supervised
            scaler.scale(part).backward()
            loss += part.item()
        if not math.isfinite(loss):
            raise TrainingError(f"step {step + 1}: the loss is {loss}; try a lower learning rate, or --dtype float32")
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(list(trainable.values()), config.max_grad_norm)
        if not half and not math.isfinite(norm):  # in fp16 the scaler skips such a step and scales less
            advice = ", or without torch.compile: weights/README.md says when g++ fails it" if config.compile else ""
            raise TrainingError(f"step {step + 1}: the gradient is {float(norm)}; try a lower learning rate{advice}")
        rows = [
            p.grad.norm(dim=1).tolist()
            for name, p in trainable.items()
            if name.endswith(".rows") and p.grad is not None
        ]
        for optimizer in optimizers:
            scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        scaler.update()

        tokens_seen += sum(int((batch.documents >= 0).sum()) for batch in batches)
        speed = (tokens_seen - tokens_before) / (time.perf_counter() - started)
        record: dict[str, Any] = {"step": step + 1, "loss": loss, "learning_rate": rate}
        if math.isfinite(norm):  # else the step was skipped
            record |= {"gradient_norm": float(norm)} | ({"row_gradients": rows[0]} if rows else {})
        log(record | {"supervised": supervised, "tokens": tokens_seen, "tokens_per_second": round(speed, 1)})
        bar.update()
        bar.set_postfix_str(f"loss {loss:.3f}, {speed:,.0f} tokens/s")
        done = step + 1 == steps
        if evaluation and (done or (config.eval_every and (step + 1) % config.eval_every == 0)):
            log({"step": step + 1, "eval_loss": evaluate_loss(model, evaluation, config)})
        if checkpoints is not None and not done and config.save_every and (step + 1) % config.save_every == 0:
            _save(checkpoints, step + 1, tokens_seen, trainable, optimizers, scaler, config)
    bar.close()
    model.eval()


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
    with torch.no_grad():
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


def recompute(model: Gemma) -> None:
    """Gradient checkpointing (arXiv:1604.06174): keep a block's input only, and run it again on the way back."""
    for block in model.model.layers:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


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
    return max(folder.glob("step-*"), default=None)


def latest_step(folder: Path) -> int:
    """The step that a resumed run goes on from; 0 if there is no state."""
    latest = latest_checkpoint(folder)
    return int(latest.name.removeprefix("step-")) if latest else 0


def _save(
    folder: Path,
    step: int,
    tokens: int,
    trainable: dict[str, nn.Parameter],
    optimizers: Optimizers,
    scaler: torch.amp.GradScaler,
    config: LoopConfig,
) -> None:
    """One folder per state, whole or not at all; the one before it is deleted afterwards."""
    tensors: dict[str, Tensor] = {f"parameter.{name}": p.detach().cpu() for name, p in trainable.items()}
    states = {parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()}
    for name, parameter in trainable.items():
        for key, value in states.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value).cpu().clone()
    tensors["rng.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    before = latest_checkpoint(folder)
    with whole_folder(folder / f"step-{step:06}") as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary / "state.safetensors")
        (temporary / "state.json").write_text(
            json.dumps(
                {"step": step, "tokens": tokens, "config": _comparable(config), "scaler": scaler.state_dict()},
                indent=1,
            )
        )
    if before is not None:
        shutil.rmtree(before)


def _restore(
    folder: Path,
    trainable: dict[str, nn.Parameter],
    optimizers: Optimizers,
    scaler: torch.amp.GradScaler,
    config: LoopConfig,
) -> tuple[int, int]:
    """The steps and the tokens that were taken before; everything else is put back where it was."""
    state = read_json(folder / "state.json", CheckpointError)
    if not isinstance(state, dict) or {"step", "tokens", "config", "scaler"} - set(state):
        raise CheckpointError(f"{folder / 'state.json'}: not a state that minifc saved; begin the run again")
    before, now = state["config"], _comparable(config)
    if changed := [name for name in now if now[name] != before.get(name)]:
        name = changed[0]
        raise CheckpointError(
            f"{folder}: made with {name}={before.get(name)!r}, not {now[name]!r}; resume with the same options"
        )
    tensors = read_tensors(folder / "state.safetensors", f"delete {folder}, and the run begins again")
    for name, parameter in trainable.items():
        saved = tensors.get(f"parameter.{name}")
        if saved is None or saved.shape != parameter.shape:
            raise CheckpointError(f"{folder}: holds no {name} of shape {list(parameter.shape)}; it is of another run")
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(tensors[f"parameter.{name}"])
            prefix = f"optimizer.{name}."
            optimizer = next(o for o in optimizers if any(parameter is p for g in o.param_groups for p in g["params"]))
            optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device) if value.ndim else value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
    scaler.load_state_dict(state["scaler"])
    torch.set_rng_state(tensors["rng.cpu"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    return int(state["step"]), int(state["tokens"])


def _comparable(config: LoopConfig) -> dict[str, Any]:
    """The options that a resumed run must share. How often to look and to save changes nothing."""
    return {name: value for name, value in vars(config).items() if name not in ("eval_every", "save_every")}
