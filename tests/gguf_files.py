"""GGUF files for tests, written by llama.cpp's own package."""

import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from torch import Tensor

from minifc.gguf import TYPES

# Where in a block the numbers in half precision are, unless there is one, at its beginning.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
Stored = tuple[np.ndarray, gguf.GGMLQuantizationType]


def stored(numbers: Tensor, type_name: str) -> Stored:
    """A tensor as it stands in a file. Where the package cannot quantise to that type, it is random numbers."""
    kind = gguf.GGMLQuantizationType[type_name]
    if not type_name.endswith("_K"):
        return gguf.quants.quantize(numbers.float().numpy(), kind), kind
    return random_blocks(type_name, numbers.shape, float(numbers.std()) / 100), kind


def random_blocks(type_name: str, shape: Sequence[int], scale: float = 0.01) -> np.ndarray:
    """Random bytes, but for the scales, which are finite."""
    (type_,) = (known for known in TYPES.values() if known.name == type_name)
    blocks = torch.randint(0, 256, (*shape[:-1], shape[-1] // type_.numbers, type_.bytes), dtype=torch.uint8)
    for at in SCALES.get(type_name, (0,)):
        scales = (torch.randn(blocks.shape[:-1]) * scale).half()
        blocks[..., at : at + 2] = scales[..., None].view(torch.uint8)
    return blocks.flatten(-2).numpy()


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Stored], alignment: int = 0) -> Path:
    """Metadata by their keys: of a whole number, uint32 is written, of a list of them, int32."""
    writer = gguf.GGUFWriter(path, metadata["general.architecture"])
    if alignment:
        writer.add_custom_alignment(alignment)
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tokenizer_metadata(model_file: Path, added: Mapping[int, tuple[str, bool]]) -> dict[str, Any]:
    """What llama.cpp's converter makes of a tokenizer.model, and of the added tokens beside it: spelling, and whether
    they are flagged as special."""
    processor = sentencepiece.SentencePieceProcessor(os.fspath(model_file))
    tokens, scores, kinds = [], [], []
    for id_ in range(processor.get_piece_size()):
        tokens.append(processor.id_to_piece(id_))
        scores.append(processor.get_score(id_))
        kind = (
            3 if processor.is_control(id_) else 2 if processor.is_unknown(id_) else 6 if processor.is_byte(id_) else 1
        )
        kinds.append(kind)
    for id_, (token, special) in added.items():
        if special or token in ("<pad>", "<mask>", "<2mass>", "[@BOS@]") or re.fullmatch(r"<unused.*>", token):
            kinds[id_] = 3
        else:
            token, kinds[id_] = token.replace("▁", " "), 4
        tokens[id_], scores[id_] = token, -1000.0
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_space_prefix": False,
    }


def model_metadata(config: transformers.PreTrainedConfig) -> dict[str, Any]:
    """What llama.cpp's converter writes of a model's config."""
    name = {"gemma2": "gemma2", "gemma3_text": "gemma3"}[config.model_type]
    metadata: dict[str, Any] = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.sliding_window": config.sliding_window,
    }
    if name == "gemma2":
        metadata["attn_logit_softcapping"] = config.attn_logit_softcapping
        metadata["final_logit_softcapping"] = config.final_logit_softcapping
    else:
        rope = config.rope_parameters["full_attention"]
        metadata["rope.freq_base"] = rope["rope_theta"]
        if rope["rope_type"] == "linear":
            metadata |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    return {"general.architecture": name} | {f"{name}.{key}": value for key, value in metadata.items()}


def model_tensors(model: transformers.PreTrainedModel, matrices: Sequence[str] = ("F32",)) -> dict[str, Stored]:
    """A model's tensors by llama.cpp's names; matrices are of the given types in turn, and gains have their 1."""
    config = model.config
    arch = {"gemma2": gguf.MODEL_ARCH.GEMMA2, "gemma3_text": gguf.MODEL_ARCH.GEMMA3}[config.model_type]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    types = itertools.cycle(matrices)
    tensors = {}
    for name, numbers in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        numbers = numbers + 1 if name.endswith("norm.weight") else numbers
        tensor = (
            "output.weight" if name == "lm_head.weight" else f"{names.get_name(name.removesuffix('.weight'))}.weight"
        )
        tensors[tensor] = stored(numbers, next(types) if numbers.ndim > 1 else "F32")
    return tensors


def json_metadata(tokenizer_json: Path) -> dict[str, Any]:
    """A tokenizer.json of the embedded model's kind, as the SentencePiece model that does the same."""
    data = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    ids = data["model"]["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    ranks = {"".join(merge): float(-rank) for rank, merge in enumerate(data["model"]["merges"])}
    control = {token["content"] for token in data["added_tokens"]}
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [ranks.get(token, -10000.0) for token in tokens],
        "tokenizer.ggml.token_type": [
            3 if token in control else 6 if re.fullmatch("<0x..>", token) else 1 for token in tokens
        ],
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.chat_template": json.loads(tokenizer_json.with_name("tokenizer_config.json").read_text()).get(
            "chat_template", "{{ bos_token }}"
        ),
    }


def embedded_gguf(tiny: Path, path: Path, matrices: Sequence[str] = ("BF16",)) -> Path:
    """The embedded model as one file."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    metadata = model_metadata(model.config) | json_metadata(tiny / "tokenizer.json")
    return write_gguf(path, metadata, model_tensors(model, matrices))
