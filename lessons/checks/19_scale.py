"""Checks of lesson 19: each calls what you wrote, and says what is wrong with it."""

from dataclasses import replace

import torch

from minifc.gemma.config import config_from_dict
from minifc.gemma.model import Gemma

_SHAPE = {
    "vocab_size": 100,
    "hidden_size": 24,
    "intermediate_size": 50,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "sliding_window": 16,
}


def parameters(candidate):
    config = config_from_dict(_SHAPE)
    for name, change in (
        ("the table", {"vocab_size": 101}),
        ("the feed-forward", {"intermediate_size": 51}),
        ("the queries", {"num_attention_heads": 6}),
        ("the keys and values", {"num_key_value_heads": 4}),
    ):
        found = candidate(replace(config, **change)) - candidate(config)
        right = _count(replace(config, **change)) - _count(config)
        assert found == right, f"{name}: with {change} the model grows by {right:,} numbers; you say {found:,}"
    left = candidate(config) - _count(config)
    assert left == 0, f"off by {left:+,}, with a hidden size of 24 and 3 layers: the norms?"


def _count(config):
    with torch.device("meta"):
        return sum(p.numel() for p in Gemma(config).parameters())


def cache_bytes(candidate):
    config = config_from_dict(_SHAPE)  # sliding, full, sliding; a token in a layer: 2 x 2 heads x 10 numbers
    one = candidate(config, 1, 1)
    assert one == 3 * 40, f"one token, three layers, one byte a number: 2 x 2 x 10 x 3 = 120, not {one}"
    short = candidate(config, 10, 1)
    assert short == 3 * 10 * 40, f"ten tokens fit into the window of 16: 10 x 120 = 1,200, not {short:,}"
    long = candidate(config, 100, 1)
    assert long == (16 + 100 + 16) * 40, f"100 tokens: 16, 100 and 16 slots of 40 numbers, 5,280, not {long:,}"
    assert candidate(config, 100) == 2 * long, "two bytes a number unless told otherwise"


def training_bytes(candidate):
    per_frozen = candidate(1000, 0) / 1000
    assert per_frozen == 2, f"a frozen number costs its 2 bytes of bf16 and nothing else; you say {per_frozen:g}"
    per_trained = candidate(0, 1000) / 1000
    assert per_trained == 16, f"weight, gradient, m and v at 4 bytes each are 16 a trained number, not {per_trained:g}"
    assert candidate(2_614_341_888, 20_785_152) == 5_561_246_208, "gemma-2-2b with LoRA: 5,561,246,208 bytes"
