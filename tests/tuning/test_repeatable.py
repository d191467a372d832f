"""A run repeats bit for bit, on several threads too."""

from typing import Any

import pytest
import torch

from minifc.data import Conversation, make_examples, toy
from minifc.gemma.checkpoint import load_model
from minifc.hub import TINY, find_model
from minifc.text.tokenizer import load_tokenizer
from minifc.tuning.loop import LoopConfig, train
from minifc.tuning.lora import add_lora
from minifc.tuning.vocab import add_tokens

TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>"]


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_a_run_repeats_bit_for_bit_on_two_threads() -> None:
    """Whatever adds up gradients from several threads does so in one order: also those of the few new rows,
    which occur in thousands of places of a batch. Looked up by plain indexing they differ within a few steps."""
    folder = find_model(TINY).path

    def run() -> list[dict[str, Any]]:
        model, tokenizer = load_model(folder, torch.float32), load_tokenizer(folder)
        torch.manual_seed(0)
        add_tokens(model, tokenizer, TAGS)
        add_lora(model)
        rows = [Conversation(case.messages(), case.tools, source="toy") for case in toy.training_cases(60, 0)]
        examples = make_examples(rows, tokenizer, "gemma", 896).fitting
        records: list[dict[str, Any]] = []
        train(model, examples, LoopConfig(max_steps=12, rows=2, length=896), log=records.append, progress=False)
        return [{key: record[key] for key in ("loss", "gradient_norm", "row_gradients")} for record in records]

    assert run() == run()
