"""Gemma as llama.cpp names it: what from_gguf.py reads, the other way round."""

import re
from typing import Any

from minifc.gemma.config import GEMMA2, GemmaConfig
from minifc.gemma.from_gguf import IN_GEMMA3, INSIDE, OPTIONAL, OUTSIDE, REQUIRED

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.weight")
_INSIDE = {part: tensor for tensor, part in INSIDE.items()}
_OUTSIDE = {parameter: tensor for tensor, parameter in OUTSIDE.items()}


def tensor_name(parameter: str) -> str:
    """llama.cpp's name of a parameter."""
    if match := _LAYER.fullmatch(parameter):
        return f"blk.{match[1]}.{_INSIDE[match[2]]}.weight"
    return _OUTSIDE[parameter]


def model_metadata(config: GemmaConfig) -> dict[str, Any]:
    """The entries of a file's metadata that describe the model. Layer types and the scale of queries are not among
    them: llama.cpp knows both by the architecture."""
    architecture = "gemma2" if config.model_type == GEMMA2 else "gemma3"
    entries = REQUIRED | IN_GEMMA3 | {key: name for key, name in OPTIONAL.items() if name != "sliding_window_pattern"}
    found = {key: getattr(config, name) for key, name in entries.items()}
    found["attention.value_length"] = config.head_dim
    if config.rope_factor != 1:
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": config.rope_factor}
    return {"general.architecture": architecture} | {
        f"{architecture}.{key}": value for key, value in found.items() if value is not None
    }
