"""Small random Gemmas beside transformers' own, for every test of this room.

A module whose tests hold for Gemma 3 too says so: it parametrizes `generation`.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from measured import measured
from torch import Tensor

from minifc.gemma.config import FULL, SLIDING, config_from_dict
from minifc.gemma.model import Gemma

transformers.utils.logging.disable_progress_bar()

# Nothing here equals anything else by chance: H D is not E, the query scale is not D, W is far below T.
SMALL: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "query_pre_attn_scalar": 24,
    "sliding_window": 8,
}
# What else is different in Gemma 3: fewer full layers, with rotary positions of their own, which are scaled.
SMALL3 = SMALL | {
    "layer_types": [SLIDING, SLIDING, FULL, SLIDING],
    "rope_parameters": {
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
    },
}


@dataclass(frozen=True)
class Pair:
    """transformers' model and ours, with the same weights."""

    reference: transformers.Gemma2ForCausalLM | transformers.Gemma3ForCausalLM
    ours: Gemma

    def expected(self, ids: Tensor, **inputs: Tensor) -> Tensor:
        """transformers' logits, computed without a cache."""
        return self.reference(ids, use_cache=False, **inputs).logits


@cache
def _pair(generation: str, overrides: str) -> Pair:
    given = (SMALL if generation == "gemma2" else SMALL3) | json.loads(overrides) | {"attn_implementation": "eager"}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        if generation == "gemma2":
            config = transformers.Gemma2Config(**given)
            reference = transformers.Gemma2ForCausalLM(config).eval()
        else:
            config = transformers.Gemma3TextConfig(**given)
            reference = transformers.Gemma3ForCausalLM(config).eval()
        # So large that attention scores and logits reach both caps; test_mutations holds it to that.
        for parameter in reference.parameters():
            parameter.normal_(0, 0.5)
    ours = Gemma(config_from_dict(config.to_dict())).eval()
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items() if name != "lm_head.weight"}
    if not config.tie_word_embeddings:
        state["model.embed_tokens.head"] = reference.lm_head.weight.clone()
    ours.load_state_dict(state)
    return Pair(reference, ours)


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def generation(request: pytest.FixtureRequest) -> str:
    """Which Gemma `pair` makes: gemma2, and gemma3 where a module asks for both."""
    return str(getattr(request, "param", "gemma2"))


@pytest.fixture(scope="session")
def pair(generation: str) -> Callable[..., Pair]:
    """pair(num_key_value_heads=1, ...) -> Pair, the same one each time: don't change its weights."""
    return lambda **overrides: _pair(generation, json.dumps(overrides, sort_keys=True))


@pytest.fixture(scope="session")
def random_ids() -> Callable[[int, int], Tensor]:
    """random_ids(B, T) -> int64 [B, T]"""
    return lambda B, T: torch.randint(1, SMALL["vocab_size"], (B, T))


@pytest.fixture(scope="session")
def gap() -> Callable[[Tensor, Tensor], float]:
    """gap(ours, expected): the largest difference, as a part of the largest expected value."""

    def measure(ours: Tensor, expected: Tensor) -> float:
        assert ours.shape == expected.shape
        share = ((ours - expected).abs().max() / expected.abs().max()).item()
        return measured(share) if share < 1e-4 else share  # a larger one is wanted where something was taken out

    return measure


@pytest.fixture(scope="session")
def config_data(pair: Callable[..., Pair]) -> dict[str, Any]:
    """The small model's config.json as transformers writes it."""
    data: dict[str, Any] = json.loads(pair().reference.config.to_json_string(use_diff=False))
    return data


@pytest.fixture(scope="session")
def written_by_transformers(pair: Callable[..., Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in a folder written by save_pretrained; copy it before you change it."""
    folder = tmp_path_factory.mktemp("transformers") / "model"
    pair().reference.save_pretrained(folder)
    return folder
