"""Gemma in a GGUF file: llama.cpp's names, and what it leaves unsaid, in Hugging Face's words.

The names are those of gguf-py/gguf/constants.py in llama.cpp; what a file does not say, src/models/gemma2.cpp and
gemma3.cpp there decide.
"""

import re
from typing import Any

from minifc.errors import ConfigError
from minifc.gguf import Gguf

_MODEL_TYPES = {"gemma2": "gemma2", "gemma3": "gemma3_text"}
# Entries of the metadata, below the name of the architecture, and config.json's names for them.
REQUIRED = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "context_length": "max_position_embeddings",
}
IN_GEMMA3 = {"attention.sliding_window": "sliding_window", "rope.freq_base": "rope_theta"}  # required there
OPTIONAL = {  # llama.cpp's defaults are Hugging Face's
    "attention.sliding_window_pattern": "sliding_window_pattern",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base_swa": "rope_local_base_freq",
}
# The largest model of each generation, by its number of layers, scales queries by hidden_size / num_attention_heads.
# The file does not say so: llama.cpp knows it by that number, too.
_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
_ENDS = ("<eos>", "<end_of_turn>")

_LAYER = re.compile(r"blk\.(0|[1-9]\d*)\.(\w+)\.weight")
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
INSIDE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def parameter_name(tensor: str) -> str:
    """Hugging Face's name for a tensor of a GGUF file; "" if Gemma has none of that name."""
    match = _LAYER.fullmatch(tensor)
    if match is None:
        return OUTSIDE.get(tensor, "")
    part = INSIDE.get(match[2])
    return f"model.layers.{match[1]}.{part}.weight" if part else ""


def holds_gain(tensor: str) -> bool:
    """Whether a tensor is the gain of a norm, which llama.cpp stores whole; Hugging Face's is its distance from 1."""
    return tensor.endswith("norm.weight")


def config_data(file: Gguf) -> dict[str, Any]:
    """What config.json would say, as far as the file has it. Raises ConfigError for a model that is no Gemma 2 or 3."""
    architecture = file.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in _MODEL_TYPES:
        raise ConfigError(
            f"{file.path}: the architecture is {architecture!r}; minifc runs {' and '.join(_MODEL_TYPES)}"
        )
    settings: dict[str, Any] = {
        key.removeprefix(f"{architecture}."): float(f"{value:.7g}") if isinstance(value, float) else value  # from fp32
        for key, value in file.metadata.items()
        if key.startswith(f"{architecture}.")
    }
    required = REQUIRED | (IN_GEMMA3 if architecture == "gemma3" else {})
    for key in required:
        value = settings.get(key)
        if not isinstance(value, int | float) or value <= 0:
            raise ConfigError(f"{file.path}: {architecture}.{key} is {value!r}; it must be a number above 0")
    if (table := file.tensors.get("token_embd.weight")) is None:
        raise ConfigError(
            f"{file.path}: there is no tensor token_embd.weight; a file with a vocabulary alone is no model"
        )
    if (layers := settings["block_count"]) > len(file.tensors):
        raise ConfigError(
            f"{file.path}: {architecture}.block_count is {layers:,}, but there are {len(file.tensors)} tensors"
        )
    data = {name: settings[key] for key, name in (REQUIRED | IN_GEMMA3 | OPTIONAL).items() if key in settings}
    scale = data["hidden_size"] // data["num_attention_heads"] if layers == _LAYERS_OF_27B[architecture] else None
    return (
        data
        | _rope_scaling(settings)
        | _ids(file.metadata)
        | {
            "model_type": _MODEL_TYPES[architecture],
            "vocab_size": table.shape[0],
            "query_pre_attn_scalar": scale or data["head_dim"],
            "tie_word_embeddings": "output.weight" not in file.tensors,
        }
    )


def _rope_scaling(settings: dict[str, Any]) -> dict[str, Any]:
    kind, factor = settings.get("rope.scaling.type", "linear"), settings.get("rope.scaling.factor", 0)
    return {} if kind == "none" or factor in (0, 1) else {"rope_scaling": {"rope_type": kind, "factor": factor}}


def _ids(metadata: dict[str, Any]) -> dict[str, Any]:
    """The ids that begin a text, fill it up, and end it.

    A file names one end of text, and not always an end of turn. The official models end at either, and llama.cpp at
    <end_of_turn> whatever the file says.
    """
    tokens = metadata.get("tokenizer.ggml.tokens")
    ends = [metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    ends += [tokens.index(name) for name in _ENDS if isinstance(tokens, list) and name in tokens]
    ends = [id_ for place, id_ in enumerate(ends) if id_ is not None and id_ not in ends[:place]]
    return {
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id", 2),
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id", 0),
        "eos_token_id": ends or None,
    }
