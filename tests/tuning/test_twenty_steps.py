"""Twenty optimiser steps of each recipe beside PEFT in a plain PyTorch loop: the same losses, step by step."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from measured import measured
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import Gemma2ForCausalLM

from minifc.cli import from_args
from minifc.data import IGNORED, Example
from minifc.gemma.model import Gemma
from minifc.train import RECIPES
from minifc.tuning import lora
from minifc.tuning.loop import LoopConfig, _steps, schedule, train
from minifc.tuning.vocab import extend

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]

STEPS = 20
NEW = [97, 98, 99]  # ids behind the last one
SameLora = Callable[[nn.Module, nn.Module], None]


def options(recipe: str) -> tuple[lora.LoraConfig, LoopConfig]:
    """The recipe's own values, but without dropout and small enough for random models."""
    given, values = Namespace(), RECIPES[recipe]
    adapter, loop = from_args(lora.LoraConfig, given, values), from_args(LoopConfig, given, values)
    return replace(adapter, dropout=0.0, r=4), replace(loop, max_steps=STEPS, length=40, learning_rate=3e-3)


def peft_losses(model: PeftModel, examples: list[Example], config: LoopConfig) -> list[float]:
    """A plain loop: every document by itself, full logits, the sum over what is learned divided by its number."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    losses = []
    for step, batches in zip(range(STEPS), _steps(examples, config), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(step, STEPS, config.warmup_ratio)
        learned = sum(int((batch.targets != IGNORED).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            for ids, targets, documents in zip(batch.ids, batch.targets, batch.documents, strict=True):
                for document in documents.unique().tolist():
                    if document >= 0:
                        own = documents == document
                        logits = model(ids[own][None]).logits[0]
                        loss = F.cross_entropy(logits, targets[own], ignore_index=IGNORED, reduction="sum") / learned
                        loss.backward()
                        total += loss.item()
        nn.utils.clip_grad_norm_(trainable, config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses


@pytest.mark.parametrize(("kind", "recipe"), [("gemma2", "course"), ("gemma2", "lean"), ("gemma3", "lean")])
def test_twenty_steps_equal_pefts(
    build: Callable[..., Gemma2ForCausalLM],
    convert: Callable[..., Gemma],
    make_examples: Callable[..., list[Example]],
    same_lora: SameLora,
    kind: str,
    recipe: str,
) -> None:
    adapter, config = options(recipe)
    lengths = [12, 25, 31, 18, 9, 38, 22, 14, 27, 33]
    # The course learns from every token, ours from the model's turns.
    learned = None if RECIPES[recipe].get("learn") == "all" else [6, 11, 20, 7, 5, 17, 9, 8, 13, 12]
    examples = make_examples(lengths, learned, vocab_size=100)

    hf = build(kind=kind)
    model = convert(hf)
    rows = 0.3 * torch.randn(len(NEW), 32)
    extend(model, NEW, rows.clone())
    lora.add_lora(model, adapter.r, adapter.alpha, 0.0, adapter.targets)
    hf.resize_token_embeddings(100, mean_resizing=False)
    hf.model.embed_tokens.weight.data[NEW] = rows
    on_table = "embed_tokens" in adapter.targets
    peft_options: dict[str, Any] = {"r": adapter.r, "lora_alpha": adapter.alpha, "lora_dropout": 0.0}
    if not on_table:
        peft_options["trainable_token_indices"] = {"embed_tokens": NEW}
    peft = get_peft_model(hf, LoraConfig(target_modules=list(adapter.targets), **peft_options))
    same_lora(peft, model)
    counts = [sum(p.numel() for p in side.parameters() if p.requires_grad) for side in (model, peft)]
    assert counts[0] == counts[1]

    records: list[dict[str, Any]] = []
    train(model, examples, config, log=records.append, progress=False)
    ours = [record["loss"] for record in records]
    theirs = peft_losses(peft, examples, config)
    assert len(ours) == STEPS
    assert measured(max(abs(a - b) for a, b in zip(ours, theirs, strict=True))) < 1e-4
    assert ours[-1] < ours[0] - 0.1
