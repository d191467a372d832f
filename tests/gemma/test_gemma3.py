"""Gemma 3: its official shapes made small, every spelling of its config, multimodal checkpoints, the real weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from minifc.errors import CheckpointError, ConfigError
from minifc.gemma.checkpoint import load_model, save_model, stored_dtype
from minifc.gemma.config import FULL, GEMMA3, SLIDING, config_from_dict, config_to_dict, load_config
from minifc.gemma.model import Gemma

EQUAL = 1e-5  # of the largest logit

of_gemma3 = pytest.mark.parametrize("generation", ["gemma3"], indirect=True, scope="session")

PATTERN = [SLIDING] * 5 + [FULL]
# What makes one official size different from another; the rest is small.
SHAPES: dict[str, dict[str, Any]] = {
    "270m": {"num_attention_heads": 4, "num_key_value_heads": 1, "num_hidden_layers": 18, "layer_types": PATTERN * 3},
    "1b": {
        "num_attention_heads": 4, "num_key_value_heads": 1, "num_hidden_layers": 26,
        "layer_types": PATTERN * 4 + [SLIDING] * 2,
    },
    "4b": {
        "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 8,
        "layer_types": PATTERN + [SLIDING] * 2,
    },
    "12b": {"num_attention_heads": 16, "num_key_value_heads": 8, "num_hidden_layers": 12, "layer_types": PATTERN * 2},
    "27b": {
        "num_attention_heads": 16, "num_key_value_heads": 8, "num_hidden_layers": 8, "head_dim": 12,
        "query_pre_attn_scalar": 21, "layer_types": PATTERN + [SLIDING] * 2,
    },
}  # fmt: skip
UNSCALED = {
    FULL: {"rope_type": "default", "rope_theta": 1_000_000.0},
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
}


@pytest.mark.parametrize("size", SHAPES)
@of_gemma3
def test_each_official_shape_equals_transformers(pair: Any, random_ids: Any, gap: Any, size: str) -> None:
    models = pair(**SHAPES[size] | ({"rope_parameters": UNSCALED} if size in ("270m", "1b") else {}))
    ids = random_ids(2, 100)
    assert gap(models.ours(ids), models.expected(ids)) < EQUAL


# What the official repositories say, as far as it matters here.
OFFICIAL_270M = {
    "model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048,
    "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
    "query_pre_attn_scalar": 256, "sliding_window": 512, "max_position_embeddings": 32768,
    "rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "rope_scaling": None, "eos_token_id": 1,
    "hidden_activation": "gelu_pytorch_tanh", "attention_bias": False, "use_bidirectional_attention": False,
    "attn_logit_softcapping": None, "final_logit_softcapping": None, "layer_types": PATTERN * 3,
}  # fmt: skip
OFFICIAL_1B = {
    "model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
    "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
    "query_pre_attn_scalar": 256, "sliding_window": 512, "sliding_window_pattern": 6, "rope_theta": 1000000,
    "rope_local_base_freq": 10000, "max_position_embeddings": 32768, "eos_token_id": [1, 106],
}  # fmt: skip
OFFICIAL_4B = {
    "model_type": "gemma3", "eos_token_id": [1, 106], "image_token_index": 262144,
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}  # fmt: skip
OFFICIAL_27B = {
    "model_type": "gemma3",
    "text_config": {
        "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504, "model_type": "gemma3_text",
        "num_attention_heads": 32, "num_hidden_layers": 62, "num_key_value_heads": 16, "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "data", [OFFICIAL_270M, OFFICIAL_1B, OFFICIAL_4B, OFFICIAL_27B], ids=["270m", "1b", "4b", "27b"]
)
def test_every_spelling_of_the_config_is_read_as_transformers_reads_it(data: dict[str, Any]) -> None:
    ours = config_from_dict(data)
    text = data.get("text_config", data)
    theirs = transformers.Gemma3TextConfig(**{name: value for name, value in text.items() if name != "model_type"})
    for name in (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "query_pre_attn_scalar", "sliding_window", "max_position_embeddings",
        "attn_logit_softcapping", "final_logit_softcapping", "rms_norm_eps", "tie_word_embeddings",
    ):  # fmt: skip
        assert getattr(ours, name) == getattr(theirs, name), name
    assert list(ours.layer_types) == theirs.layer_types
    for kind in (FULL, SLIDING):
        rope = theirs.rope_parameters[kind]
        assert ours.rope(kind) == (rope["rope_theta"], rope.get("factor", 1.0))
    assert ours.eos_token_id == tuple([e] if isinstance(e := data.get("eos_token_id", 1), int) else e)


@pytest.mark.parametrize("data", [OFFICIAL_270M, OFFICIAL_4B, OFFICIAL_27B], ids=["270m", "4b", "27b"])
def test_what_is_written_reads_back_as_it_was_here_and_in_transformers(data: dict[str, Any], tmp_path: Path) -> None:
    config = config_from_dict(data)
    written = json.loads(json.dumps(config_to_dict(config, "bfloat16")))
    assert config_from_dict(written) == config
    (tmp_path / "config.json").write_text(json.dumps(written))
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert isinstance(theirs, transformers.Gemma3TextConfig)
    assert {name: theirs.to_dict()[name] for name in written} == written


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, "rope_type is 'yarn'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_factor is None"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -8}}, "rope_factor is -8.0"),
        ({"rope_scaling": 8}, "rope_scaling is 8; it must be an object"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "Gemma 3 has 'full_attention'"),
        ({"rope_parameters": {SLIDING: {"rope_type": "linear", "factor": 2.0}}}, "rope_type is 'linear'"),
        ({"rope_parameters": {FULL: "default"}}, "full_attention is 'default'; it must be an object"),
        ({"rope_local_base_freq": 0}, "rope_local_base_freq is 0"),
        ({"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern is 0"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"model_type": "gemma3n_text"}, "model_type is 'gemma3n_text'"),
        ({"model_type": "gemma3"}, "text_config is None"),
    ],
)
def test_what_minifc_cannot_represent_is_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OFFICIAL_270M | change))
    with pytest.raises(ConfigError, match=match) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'config.json'}: ")


# Checkpoints


@of_gemma3
def test_what_transformers_writes_loads_and_the_other_way_round(
    pair: Any, random_ids: Any, gap: Any, written_by_transformers: Path, tmp_path: Path
) -> None:
    ids = random_ids(2, 40)
    ours = load_model(written_by_transformers)
    assert gap(ours(ids), pair().expected(ids)) < EQUAL
    save_model(ours, None, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert isinstance(theirs, transformers.Gemma3ForCausalLM)
    assert gap(theirs(ids).logits, pair().expected(ids)) < EQUAL


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."], ids=["official", "newer"])
@of_gemma3
def test_of_a_multimodal_checkpoint_the_text_part_is_loaded(
    written_by_transformers: Path,
    random_ids: Any,
    gap: Any,
    pair: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    prefix: str,
) -> None:
    tensors = load_file(written_by_transformers / "model.safetensors")
    named = {name.replace("model.", prefix, 1): tensor for name, tensor in tensors.items()}
    other = "model." if prefix.startswith("model.") else ""
    named |= {
        f"{other}vision_tower.post_layernorm.weight": torch.ones(3),
        f"{other}multi_modal_projector.x": torch.ones(2),
    }
    save_file(named, tmp_path / "model.safetensors")
    text = json.loads((written_by_transformers / "config.json").read_text())
    config = {"model_type": "gemma3", "text_config": text, "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ids = random_ids(2, 40)
    assert gap(load_model(tmp_path)(ids), pair().expected(ids)) < EQUAL
    assert "2 tensors are for images and are left out" in capsys.readouterr().err


@of_gemma3
def test_a_tensor_that_is_for_neither_text_nor_images_is_refused(written_by_transformers: Path, tmp_path: Path) -> None:
    tensors = load_file(written_by_transformers / "model.safetensors")
    save_file(tensors | {"audio_tower.x": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((written_by_transformers / "config.json").read_text())
    with pytest.raises(CheckpointError, match=r"audio_tower\.x is no part of the model"):
        load_model(tmp_path)


@of_gemma3
def test_float16_is_refused_with_the_reason(written_by_transformers: Path, pair: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Gemma 3 cannot compute in float16: .* bfloat16 or float32"):
        load_model(written_by_transformers, torch.float16)
    save_model(Gemma(pair().ours.config).to(torch.float16), None, tmp_path / "half")
    with pytest.raises(CheckpointError, match="cannot compute in float16"):
        load_model(tmp_path / "half")
    assert stored_dtype(tmp_path / "half") == torch.bfloat16  # what minifc.load and the commands then take
    assert load_model(tmp_path / "half", stored_dtype(tmp_path / "half")).config.model_type == GEMMA3
