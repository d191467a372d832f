"""Models in GGUF files: equal to transformers', which reads such files by llama.cpp's own package."""

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from gguf_files import model_metadata, model_tensors, stored, write_gguf

from minifc.errors import CheckpointError, ConfigError
from minifc.gemma.checkpoint import load_model, save_model, stored_dtype
from minifc.gemma.config import FULL, SLIDING, GemmaConfig, config_from_dict, load_config
from minifc.gemma.from_gguf import config_data, parameter_name
from minifc.gguf import read_gguf

EQUAL = 1e-5  # of the largest logit
ALL_TYPES = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "F16", "BF16", "F32")
LAYERS = 7
KINDS = {
    "gemma2": [SLIDING, FULL, SLIDING, FULL, SLIDING, FULL, SLIDING],
    "gemma3": [SLIDING, SLIDING, SLIDING, SLIDING, SLIDING, FULL, SLIDING],
}
UNSCALED = {
    FULL: {"rope_type": "default", "rope_theta": 1_000_000.0},
    SLIDING: {"rope_type": "default", "rope_theta": 10_000.0},
}
both = pytest.mark.parametrize("generation", ["gemma2", "gemma3"], indirect=True, scope="session")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(metadata, tensors) -> the file"""
    return lambda metadata, tensors: write_gguf(tmp_path / "small.gguf", metadata, tensors)


@pytest.fixture
def reference(generation: str, pair: Any) -> transformers.PreTrainedModel:
    """A small model whose scale of queries and kinds of layers are those that a file means without saying so."""
    return pair(num_hidden_layers=LAYERS, layer_types=KINDS[generation], query_pre_attn_scalar=16).reference


@pytest.fixture
def in_blocks(generation: str, pair: Any) -> transformers.PreTrainedModel:
    """One with rows of whole blocks. transformers takes 256 for the scale of queries, and reads no scaled positions."""
    rope = {"rope_parameters": UNSCALED} if generation == "gemma3" else {}
    return pair(
        hidden_size=256, intermediate_size=512, head_dim=256, query_pre_attn_scalar=256, num_attention_heads=2,
        num_key_value_heads=1, num_hidden_layers=LAYERS, layer_types=KINDS[generation], **rope,
    ).reference  # fmt: skip


@both
def test_an_unquantised_file_is_the_model_it_was_made_from(
    reference: Any, random_ids: Any, gap: Any, write: Write
) -> None:
    """For gemma3, with positions that are scaled on full layers."""
    file = write(model_metadata(reference.config), model_tensors(reference))
    ids = random_ids(2, 60)
    assert gap(load_model(file)(ids), reference(ids, use_cache=False).logits) < EQUAL


@both
def test_all_types_of_tensors_together_equal_transformers(
    in_blocks: Any, random_ids: Any, gap: Any, write: Write, tmp_path: Path
) -> None:
    tokens = {"tokenizer.ggml.tokens": [f"token {id_}" for id_ in range(in_blocks.config.vocab_size)]}
    file = write(model_metadata(in_blocks.config) | tokens, model_tensors(in_blocks, ALL_TYPES))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=file.name, dtype=torch.float32, attn_implementation="eager"
    )
    model = load_model(file)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for name, parameter in theirs.state_dict().items():
        if name != "lm_head.weight":
            assert torch.equal(parameter, model.state_dict()[name]), name
    ids = random_ids(2, 60)
    assert gap(model(ids), theirs(ids, use_cache=False).logits) < EQUAL


@both
def test_dequantised_and_saved_it_is_the_same_model(
    in_blocks: Any, random_ids: Any, write: Write, tmp_path: Path
) -> None:
    model = load_model(write(model_metadata(in_blocks.config), model_tensors(in_blocks, ALL_TYPES)))
    save_model(model, None, tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    assert again.config == model.config
    ids = random_ids(1, 20)
    assert torch.equal(again(ids), model(ids))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved", attn_implementation="eager")
    assert torch.allclose(theirs(ids).logits, model(ids), rtol=1e-4, atol=1e-4)


@both
@pytest.mark.parametrize(
    ("matrices", "expected"), [("F32", torch.float32), ("BF16", torch.bfloat16), ("F16", torch.float16), ("Q8_0", None)]
)
def test_by_default_weights_have_their_own_dtype(
    generation: str, in_blocks: Any, write: Write, matrices: str, expected: torch.dtype | None
) -> None:
    """But for Gemma 3 in float16, in which it cannot compute. All have one: a product needs two of the same."""
    file = write(model_metadata(in_blocks.config), model_tensors(in_blocks, [matrices]))
    if (generation, matrices) == ("gemma3", "F16"):
        expected = torch.bfloat16
        with pytest.raises(CheckpointError, match="Gemma 3 cannot compute in float16"):
            load_model(file, torch.float16)
    assert stored_dtype(file) == expected
    assert {parameter.dtype for parameter in load_model(file).parameters()} == {expected or torch.float32}
    assert {parameter.dtype for parameter in load_model(file, torch.bfloat16).parameters()} == {torch.bfloat16}


def test_gains_are_what_they_were_in_bfloat16(pair: Any, write: Write) -> None:
    """A file has them with their 1 added, in fp32."""
    reference = pair().reference
    gains = {name: tensor.bfloat16() for name, tensor in reference.state_dict().items() if "norm" in name}
    tensors = model_tensors(reference)
    for name, (numbers, kind) in tensors.items():
        if "norm" in name:
            gain = gains[parameter_name(name)].float() + 1
            tensors[name] = (gain.numpy(), kind)
            assert numbers.shape == gain.shape
    model = load_model(write(model_metadata(reference.config), tensors), torch.bfloat16)
    for name, gain in gains.items():
        assert torch.equal(model.state_dict()[name], gain)


@both
def test_a_head_of_its_own_is_kept(generation: str, pair: Any, random_ids: Any, gap: Any, write: Write) -> None:
    models = pair(
        num_hidden_layers=LAYERS, layer_types=KINDS[generation], query_pre_attn_scalar=16, tie_word_embeddings=False
    )
    file = write(model_metadata(models.reference.config), model_tensors(models.reference))
    ids = random_ids(1, 30)
    assert not load_config(file).tie_word_embeddings
    assert gap(load_model(file)(ids), models.expected(ids)) < EQUAL


# --- what a file says of the model, and what it leaves unsaid -------------------------------------------------------

OFFICIAL: dict[str, dict[str, Any]] = {
    "gemma-2-2b": {
        "general.architecture": "gemma2", "gemma2.context_length": 8192, "gemma2.embedding_length": 2304,
        "gemma2.block_count": 26, "gemma2.feed_forward_length": 9216, "gemma2.attention.head_count": 8,
        "gemma2.attention.head_count_kv": 4, "gemma2.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma2.attention.key_length": 256, "gemma2.attention.value_length": 256,
        "gemma2.attn_logit_softcapping": 50.0, "gemma2.final_logit_softcapping": 30.0,
        "gemma2.attention.sliding_window": 4096,
    },
    "gemma-3-4b": {
        "general.architecture": "gemma3", "gemma3.context_length": 131072, "gemma3.embedding_length": 2560,
        "gemma3.block_count": 34, "gemma3.feed_forward_length": 10240, "gemma3.attention.head_count": 8,
        "gemma3.attention.head_count_kv": 4, "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma3.attention.key_length": 256, "gemma3.attention.value_length": 256, "gemma3.rope.freq_base": 1000000.0,
        "gemma3.attention.sliding_window": 1024, "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    },
}  # fmt: skip
GEMMA2, GEMMA3 = OFFICIAL.values()
IDS = {"tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.padding_token_id": 0}


def described(write: Write, metadata: dict[str, Any], tensors: int = 70) -> GemmaConfig:
    """The config of a file with as many tensors as there could be layers, which hold nothing."""
    empty = stored(torch.zeros(8), "F32")
    table = stored(torch.zeros(99, 8), "F32")
    return load_config(write(metadata, {"token_embd.weight": table} | {str(i): empty for i in range(tensors)}))


def test_gemma_2(write: Write) -> None:
    assert described(write, GEMMA2 | IDS) == GemmaConfig(
        vocab_size=99, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256, query_pre_attn_scalar=256, sliding_window=4096,
        layer_types=(SLIDING, FULL) * 13, model_type="gemma2", max_position_embeddings=8192,
    )  # fmt: skip


def test_gemma_3(write: Write) -> None:
    assert described(write, GEMMA3 | IDS) == GemmaConfig(
        vocab_size=99, hidden_size=2560, intermediate_size=10240, num_hidden_layers=34, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256, query_pre_attn_scalar=256, sliding_window=1024,
        layer_types=((SLIDING,) * 5 + (FULL,)) * 5 + (SLIDING,) * 4, model_type="gemma3_text",
        max_position_embeddings=131072, attn_logit_softcapping=None, final_logit_softcapping=None,
        rope_theta=1_000_000.0, rope_local_base_freq=10_000.0, rope_factor=8.0,
    )  # fmt: skip


def test_what_a_file_may_leave_out(write: Write) -> None:
    """A Gemma 2 of an older converter; and what a newer one says beyond the defaults."""
    optional = ("attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping")
    less = {key: value for key, value in GEMMA2.items() if not key.endswith(optional)}
    assert described(write, less) == described(write, GEMMA2)
    more = {"gemma3.rope.freq_base_swa": 5000.0, "gemma3.attention.sliding_window_pattern": 2}
    config = described(write, GEMMA3 | more)
    assert config.rope_local_base_freq == 5000.0
    assert config.layer_types == (SLIDING, FULL) * 17
    assert described(write, GEMMA3 | {"gemma3.rope.scaling.type": "none"}).rope_factor == 1


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (GEMMA2 | {"gemma2.block_count": 42, "gemma2.embedding_length": 3584, "gemma2.attention.head_count": 16}, 256),
        (
            GEMMA2 | {
                "gemma2.block_count": 46, "gemma2.embedding_length": 4608, "gemma2.attention.head_count": 32,
                "gemma2.attention.head_count_kv": 16, "gemma2.attention.key_length": 128,
            },
            144,
        ),
        (
            GEMMA3 | {
                "gemma3.block_count": 62, "gemma3.embedding_length": 5376, "gemma3.attention.head_count": 32,
                "gemma3.attention.head_count_kv": 16, "gemma3.attention.key_length": 128,
            },
            168,
        ),
    ],
    ids=["gemma-2-9b", "gemma-2-27b", "gemma-3-27b"],
)  # fmt: skip
def test_the_scale_of_queries_is_that_of_the_size(write: Write, metadata: dict[str, Any], expected: int) -> None:
    assert described(write, metadata).query_pre_attn_scalar == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"tokenizer.ggml.eos_token_id": 1}, (1,)),
        ({}, (1,)),
        ({"tokenizer.ggml.eos_token_id": 106, "tokenizer.ggml.eot_token_id": 7}, (106, 7)),
        ({"tokenizer.ggml.eos_token_id": 3, "tokenizer.ggml.tokens": ["<pad>", "<eos>", "<end_of_turn>"]}, (3, 1, 2)),
        ({"tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.tokens": ["<pad>", "<eos>", "<end_of_turn>"]}, (1, 2)),
    ],
)
def test_text_ends_where_the_official_model_s_does(
    write: Write, metadata: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert described(write, GEMMA2 | metadata).eos_token_id == expected


# --- files that are refused ----------------------------------------------------------------------------------------


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in GEMMA3.items() if name != key}


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (GEMMA2 | {"general.architecture": "llama"}, "the architecture is 'llama'; minifc runs gemma2 and gemma3"),
        (GEMMA2 | {"general.architecture": "gemma3n"}, "the architecture is 'gemma3n'"),
        (GEMMA3 | {"tokenizer.ggml.eos_token_id": [1, 106]}, "eos_token_id is [[1, 106]]"),
        (without("gemma3.attention.key_length"), "gemma3.attention.key_length is None; it must be a number above 0"),
        (without("gemma3.attention.sliding_window"), "gemma3.attention.sliding_window is None"),
        (without("gemma3.rope.freq_base"), "gemma3.rope.freq_base is None"),
        (GEMMA2 | {"gemma2.block_count": "many"}, "gemma2.block_count is 'many'"),
        (GEMMA2 | {"gemma2.block_count": 2**31}, "gemma2.block_count is 2,147,483,648, but there are 71 tensors"),
        (GEMMA2 | {"gemma2.block_count": 2.5}, "num_hidden_layers is 2.5"),
        (GEMMA2 | {"gemma2.attention.head_count": [8, 8]}, "gemma2.attention.head_count is [8, 8]"),
        (GEMMA2 | {"gemma2.attention.head_count": 0}, "gemma2.attention.head_count is 0"),
        (GEMMA2 | {"gemma2.attention.head_count_kv": 3}, "is not a multiple of num_key_value_heads=3"),
        (GEMMA2 | {"gemma2.attention.key_length": 3}, "head_dim=3 is odd"),
        (GEMMA2 | {"gemma2.attn_logit_softcapping": 0.0}, "attn_logit_softcapping is 0.0"),
        (GEMMA2 | {"gemma2.attention.layer_norm_rms_epsilon": float("nan")}, "rms_norm_eps is nan"),
        (GEMMA3 | {"gemma3.rope.scaling.type": "yarn"}, "rope_type is 'yarn'"),
        (GEMMA3 | {"gemma3.rope.scaling.factor": -8.0}, "rope_factor is -8.0"),
        (GEMMA3 | {"gemma3.attention.sliding_window_pattern": [True, False]}, "sliding_window_pattern is [True"),
        (GEMMA3 | {"tokenizer.ggml.eos_token_id": 0}, "pad_token_id=0 is a stop token too"),
        (GEMMA3 | {"tokenizer.ggml.eos_token_id": "x"}, "eos_token_id is ['x']"),
    ],
)  # fmt: skip
def test_metadata_of_another_model_are_refused(write: Write, metadata: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        described(write, metadata)
    assert "small.gguf: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_metadata_of_any_other_type_are_refused(write: Write) -> None:
    """Whatever stands there: a number, a string or a list."""
    for metadata in (GEMMA2 | IDS, GEMMA3 | IDS):
        kinds: tuple[Any, ...] = (7, 0.5, float("inf"), True, "x", [1, 2], ["x"])
        table = {"token_embd.weight": stored(torch.zeros(99, 8), "F32")}
        file = read_gguf(write(metadata, table | {str(i): stored(torch.zeros(8), "F32") for i in range(70)}))
        for key in list(metadata):
            for value in kinds:
                changed = replace(file, metadata=file.metadata | {key: value})
                with contextlib.suppress(ConfigError):
                    config_from_dict(config_data(changed))


def test_sizes_that_nothing_holds_are_refused(write: Write) -> None:
    """Before anything of that size is made."""
    file = write(GEMMA2 | {"gemma2.block_count": 1}, {"token_embd.weight": stored(torch.zeros(9, 8), "F32")})
    with pytest.raises(CheckpointError, match=re.escape("token_embd.weight has shape [9, 8]; its metadata calls for")):
        load_model(file)
    huge = {f"gemma2.{key}": 2**31 for key in ("embedding_length", "attention.head_count", "attention.key_length")}
    huge |= {"gemma2.attention.head_count_kv": 1, "gemma2.block_count": 1}
    with pytest.raises(ConfigError, match="sizes are out of all proportion"):
        load_model(write(GEMMA2 | huge, {"token_embd.weight": stored(torch.zeros(9, 8), "F32")}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("blk.1.attn_q.weight"), "1 tensors are in no file, model.layers.1.self_attn.q_"),
        (lambda tensors: tensors.pop("token_embd.weight"), "there is no tensor token_embd.weight; a file with a vocab"),
        (
            lambda tensors: tensors.update({"blk.1.attn_q_norm.weight": tensors["output_norm.weight"]}),
            "blk.1.attn_q_norm.weight is no part of the model that its metadata",
        ),
        (lambda tensors: tensors.update({"v": tensors["output_norm.weight"]}), "v is no part of the model"),
        (
            lambda tensors: tensors.update({"blk.1.attn_q.weight": tensors["blk.1.attn_k.weight"]}),
            "blk.1.attn_q.weight has shape [32, 48]; its metadata calls for [64, 48]",
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_the_metadata_are_named(
    pair: Any, write: Write, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    reference = pair().reference
    tensors = model_tensors(reference)
    change(tensors)
    with pytest.raises((CheckpointError, ConfigError), match=re.escape(words)) as caught:
        load_model(write(model_metadata(reference.config), tensors))
    assert len(str(caught.value).splitlines()) == 1


def test_names_of_tensors_are_exact() -> None:
    assert parameter_name("blk.10.post_ffw_norm.weight") == "model.layers.10.post_feedforward_layernorm.weight"
    assert parameter_name("output.weight") == "lm_head.weight"
    for name in ("blk.01.ffn_up.weight", "blk.1.ffn_up.bias", "blk.1.ffn_gate_inp.weight", "blk.1.ffn_up.weight2", ""):
        assert parameter_name(name) == ""
