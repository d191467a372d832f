"""GGUF: the container, and quantised numbers bit for bit as llama.cpp's own package reads them."""

import gguf
import numpy as np
import pytest
import torch
from gguf_files import random_blocks

from minifc.gguf import TYPES

BY_NAME = {known.name: known for known in TYPES.values()}
QUANTISED = [name for name, known in BY_NAME.items() if known.dequantize]


def test_the_types_are_those_of_the_package() -> None:
    for number, known in TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert (known.name, (known.numbers, known.bytes)) == (kind.name, gguf.GGML_QUANT_SIZES[kind])


@pytest.mark.parametrize("name", QUANTISED)
def test_random_blocks_are_dequantised_bit_for_bit(name: str) -> None:
    blocks = random_blocks(name, (40, 7 * 256)).reshape(-1, BY_NAME[name].bytes)
    theirs = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    ours = BY_NAME[name].dequantize(torch.from_numpy(blocks))
    assert ours.dtype == torch.float32
    assert np.array_equal(theirs.view(np.int32), ours.numpy().view(np.int32))
