"""GGUF files for tests, written by llama.cpp's own package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from minifc.gguf import TYPES

# Where in a block the numbers in half precision are, unless there is one, at its beginning.
SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
Stored = tuple[np.ndarray, gguf.GGMLQuantizationType]


def stored(numbers: Tensor, type_name: str) -> Stored:
    """A tensor's numbers as they stand in a file. What the package cannot quantise to is random, of about their size."""
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
