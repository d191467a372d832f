"""GGUF, llama.cpp's file format: a model's settings, its tokenizer and its weights in one file, most of them quantised.

header      "GGUF", version, how many tensors and entries of metadata there are
metadata    key, type and value of each entry
infos       name, dimensions, type of each tensor, and where it begins in the data
data        the tensors, each at a multiple of the alignment

All numbers are little-endian. Described in ggml's docs/gguf.md; the blocks below, in its ggml-common.h.

A file may come from anywhere: each number is checked against what is left of the file before it is used, so that
memory and time stay in proportion to the file's size. The file is mapped, not read: a tensor costs nothing until
it is asked for.
"""

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minifc.errors import CheckpointError

_MAGIC, _VERSIONS = b"GGUF", (2, 3)  # version 3 differs only in that it may be big-endian
_ALIGNMENT = 32  # unless the metadata say another one
_MOST_DIMENSIONS = 4
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # struct's codes
_STRING, _ARRAY = 8, 9
_AT_ONCE = 2**22  # numbers that are dequantised at once: the steps in between take little memory beside a model
_WHOLE = "download it again"


def is_gguf(path: str | Path) -> bool:
    """Whether a path is that of a GGUF file, by its name, whether or not it is there. A folder is none."""
    return Path(path).suffix == ".gguf" and not Path(path).is_dir()


# --- blocks of numbers ---------------------------------------------------------------------------------------------
# A quantised tensor is a row of blocks. A block holds small whole numbers q, a scale d in half precision, and in some
# types an offset m: a weight is d * q, or d * q + m. Each function takes blocks, uint8 [n, bytes of a block], to
# weights, fp32 [n, weights of a block]; products and sums are rounded in the order of llama.cpp's own.


def _half(data: Tensor) -> Tensor:
    """Two bytes uint8 [n, 2] as a number in half precision: fp32 [n, 1]."""
    return data.view(torch.float16).float()


def _nibbles(data: Tensor) -> Tensor:
    """uint8 [..., k] -> [..., 2, k]: k numbers out of the low four bits, then k out of the high four."""
    return torch.stack((data & 15, data >> 4), dim=-2)


def _bits(data: Tensor, width: int) -> Tensor:
    """uint8 [..., k] -> [..., 8 / width, k]: `width` bits of each byte, the lowest first."""
    shifts = torch.arange(0, 8, width, dtype=torch.uint8)
    return (data[..., None, :] >> shifts[:, None]) & (2**width - 1)


def _fifth_bits(data: Tensor) -> Tensor:
    """The highest bit of each of 32 five-bit numbers, at its place there: uint8 [n, 4] -> [n, 32]."""
    return _bits(data, 1).transpose(1, 2).reshape(-1, 32) << 4  # bit i of byte j belongs to number 8 j + i


def _q8_0(blocks: Tensor) -> Tensor:
    """32 numbers of 8 bits: d 2, q 32 bytes."""
    return blocks[:, 2:].view(torch.int8).float() * _half(blocks[:, :2])


def _q4_0(blocks: Tensor) -> Tensor:
    """32 numbers of 4 bits, 8 standing for 0: d 2, q 16 bytes."""
    q = _nibbles(blocks[:, 2:]).reshape(-1, 32)
    return _half(blocks[:, :2]) * (q.float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    """32 numbers of 4 bits, with an offset: d 2, m 2, q 16 bytes."""
    q = _nibbles(blocks[:, 4:]).reshape(-1, 32)
    return _half(blocks[:, :2]) * q.float() + _half(blocks[:, 2:4])


def _q5_0(blocks: Tensor) -> Tensor:
    """32 numbers of 5 bits, 16 standing for 0: d 2, highest bits 4, lower four bits 16 bytes."""
    q = _nibbles(blocks[:, 6:]).reshape(-1, 32) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks[:, :2]) * (q.float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    """32 numbers of 5 bits, with an offset: d 2, m 2, highest bits 4, lower four bits 16 bytes."""
    q = _nibbles(blocks[:, 8:]).reshape(-1, 32) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks[:, :2]) * q.float() + _half(blocks[:, 2:4])


# The K types: blocks of 256 in groups, which have scales of their own, whole numbers that are themselves scaled.


def _scales_and_offsets(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of Q4_K and Q5_K: each of 8 groups' scale and offset, fp32 [n, 8, 1], out of d 2, dmin 2 and 12 bytes.

    16 numbers of 6 bits are packed into those 12: bytes 0 to 3 hold scales 0 to 3, bytes 4 to 7 offsets 0 to 3, in
    their lower six bits. The upper two of these belong to scales and offsets 4 to 7, whose lower four are in bytes
    8 to 11, scales low, offsets high.
    """
    scales, offsets, rest = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = torch.cat((scales & 63, (rest & 15) | (scales >> 6 << 4)), dim=1)  # [n, 8]
    offsets = torch.cat((offsets & 63, (rest >> 4) | (offsets >> 6 << 4)), dim=1)
    return (_half(blocks[:, :2]) * scales)[..., None], (_half(blocks[:, 2:4]) * offsets)[..., None]


def _q4_k(blocks: Tensor) -> Tensor:
    """8 groups of 32 numbers of 4 bits: d 2, dmin 2, scales and offsets 12, q 128 bytes."""
    scales, offsets = _scales_and_offsets(blocks)
    q = _nibbles(blocks[:, 16:].view(-1, 4, 32)).reshape(-1, 8, 32)
    return (scales * q.float() - offsets).view(-1, 256)


def _q5_k(blocks: Tensor) -> Tensor:
    """8 groups of 32 numbers of 5 bits: d 2, dmin 2, scales and offsets 12, highest bits 32, lower four 128 bytes."""
    scales, offsets = _scales_and_offsets(blocks)
    high = _bits(blocks[:, 16:48], 1)  # [n, 8, 32]: bit i of byte j belongs to number j of group i
    q = _nibbles(blocks[:, 48:].view(-1, 4, 32)).reshape(-1, 8, 32) | (high << 4)
    return (scales * q.float() - offsets).view(-1, 256)


def _q6_k(blocks: Tensor) -> Tensor:
    """16 groups of 16 numbers of 6 bits, 32 standing for 0: lower four bits 128, upper two 64, scales 16, d 2 bytes."""
    low = _nibbles(blocks[:, :128].view(-1, 2, 64)).reshape(-1, 16, 16)
    high = _bits(blocks[:, 128:192].view(-1, 2, 32), 2).reshape(-1, 16, 16)
    scales = _half(blocks[:, 208:]) * blocks[:, 192:208].view(torch.int8)  # [n, 16]
    return (scales[..., None] * ((low | (high << 4)).float() - 32)).view(-1, 256)


@dataclass(frozen=True)
class TensorType:
    """How a tensor is stored: in blocks of `bytes` bytes, each of which holds `numbers` numbers."""

    name: str
    numbers: int
    bytes: int
    dequantize: Callable[[Tensor], Tensor] | None = None  # None: they are stored as numbers of the dtype
    dtype: torch.dtype = torch.float32


TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2, dtype=torch.float16),
    30: TensorType("BF16", 1, 2, dtype=torch.bfloat16),
    2: TensorType("Q4_0", 32, 18, _q4_0),
    3: TensorType("Q4_1", 32, 20, _q4_1),
    6: TensorType("Q5_0", 32, 22, _q5_0),
    7: TensorType("Q5_1", 32, 24, _q5_1),
    8: TensorType("Q8_0", 32, 34, _q8_0),
    12: TensorType("Q4_K", 256, 144, _q4_k),
    13: TensorType("Q5_K", 256, 176, _q5_k),
    14: TensorType("Q6_K", 256, 210, _q6_k),
}
# Names of types that people meet and minifc does not read.
_OTHERS = {
    10: "Q2_K", 11: "Q3_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


# --- the file ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor's bytes are in the file. Its shape is torch's; the file has the dimensions the other way round."""

    type: TensorType
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True)
class Gguf:
    """A GGUF file, mapped. Values of metadata are int, float, bool, str, or lists of one of these."""

    path: Path
    data: mmap.mmap
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]

    def stored_dtype(self) -> torch.dtype | None:
        """The dtype of the matrices; None if they are quantised, or of several."""
        kinds = {info.type for info in self.tensors.values() if len(info.shape) > 1}
        return kinds.pop().dtype if len(kinds) == 1 and not any(kind.dequantize for kind in kinds) else None

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor's numbers. By default as stored, and then mapped, not copied; in fp32 if they are quantised."""
        info = self.tensors[name]
        stored = torch.frombuffer(self.data, dtype=torch.uint8, count=info.size, offset=info.start)
        if info.type.dequantize is None:
            return stored.view(info.type.dtype).view(info.shape).to(dtype)
        numbers = torch.empty(info.shape, dtype=dtype or info.type.dtype)
        rows, blocks = numbers.view(-1, info.type.numbers), stored.view(-1, info.type.bytes)
        at_once = _AT_ONCE // info.type.numbers
        for into, part in zip(rows.split(at_once), blocks.split(at_once), strict=True):
            into.copy_(info.type.dequantize(part))
        return numbers


def read_gguf(path: str | Path) -> Gguf:
    """Map a GGUF file, and read all of it but the tensors' numbers.

    Raises CheckpointError for a file that is not whole, that contradicts itself, or that minifc does not read.
    """
    path = Path(path)
    data = _mapped(path)  # anew: what changes the numbers of one changes those of no other
    state = path.stat()
    return Gguf(path, data, *_described(path, state.st_mtime_ns, state.st_size))


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            # A private mapping: torch wants memory that it could write to, and the file stays as it is.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # a folder; an empty file
        raise CheckpointError(f"{path}: cannot be read ({error}); {_WHOLE}") from None


@lru_cache(1)
def _described(path: Path, changed: int, size: int) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
    """Metadata and tensors of a file, kept for the last one: a load asks for them five times, and a fifth of a second
    goes into reading 262,144 pieces. changed, size: the file's own, so that another one in its place is read anew."""
    reader = _Reader(path, _mapped(path))
    tensor_count, entry_count = _header(reader)
    metadata = _metadata(reader, entry_count)
    if (parts := metadata.get("split.count", 1)) not in (0, 1):
        raise CheckpointError(f"{path}: one of {parts} parts of a model; join them by llama-gguf-split --merge")
    return metadata, _infos(reader, tensor_count, _alignment(path, metadata))


class _Reader:
    """Takes numbers and strings off a file, one after the other. CheckpointError where they are not whole."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def error(self, what: str, advice: str = _WHOLE) -> CheckpointError:
        return CheckpointError(f"{self.path}: {what}; {advice}")

    def take(self, size: int) -> int:
        """Where the next `size` bytes begin, which are then behind."""
        start = self.at
        if size > len(self.data) - start:
            raise self.error(f"cut short, or damaged at byte {start:,} of {len(self.data):,}")
        self.at += size
        return start

    def number(self, code: str) -> Any:
        """A number of one of struct's types."""
        (value,) = struct.unpack_from(f"<{code}", self.data, self.take(struct.calcsize(f"<{code}")))
        return value

    def count(self, what: str, least: int) -> int:
        """How many there are of what takes at least so many bytes."""
        count: int = self.number("Q")
        if count * least > len(self.data) - self.at:
            raise self.error(f"speaks of {count:,} {what}, more than its {len(self.data):,} bytes can hold")
        return count

    def strings(self, count: int) -> list[str]:
        """Strings, each after its length in bytes. There may be a quarter of a million, so no call for each."""
        data, at, found = self.data, self.at, []
        for _ in range(count):
            start = at + 8
            at = start + int.from_bytes(data[at:start], "little")
            found.append(data[start:at])  # behind the file's end there are no bytes, and no length but 0
        if at > len(data):
            raise self.error(f"cut short, or damaged at byte {self.at:,} of {len(data):,}")
        self.at = at
        try:
            return [text.decode() for text in found]
        except UnicodeDecodeError:
            raise self.error(f"holds a string that is not UTF-8 before byte {at:,}") from None

    def string(self) -> str:
        return self.strings(1)[0]


def _header(reader: _Reader) -> tuple[int, int]:
    """How many tensors, and how many entries of metadata there are."""
    if reader.data[reader.take(4) : reader.at] != _MAGIC:
        raise reader.error("does not begin as a GGUF file does")
    version = reader.number("I")
    if version not in _VERSIONS:
        kind = "big-endian" if version & 0xFFFF == 0 else f"of version {version}"
        raise reader.error(f"a GGUF file {kind}; minifc reads little-endian ones of version 2 and 3", "convert it anew")
    tensors = reader.count("tensors", 32)  # a name's length, one dimension, and what stands before and after
    return tensors, reader.count("entries of metadata", 13)  # a key's length, a type, one byte


def _metadata(reader: _Reader, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key = reader.string()
        if key in metadata:
            raise reader.error(f"has two entries {key!r}")
        metadata[key] = _value(reader, key, reader.number("I"))
    return metadata


def _value(reader: _Reader, key: str, kind: int) -> Any:
    if code := _NUMBERS.get(kind):
        return reader.number(code)
    if kind == _STRING:
        return reader.string()
    if kind != _ARRAY:
        raise reader.error(f"the type of {key!r} is {kind}, which GGUF does not have")
    kind = reader.number("I")
    if kind == _STRING:
        return reader.strings(reader.count(f"strings in {key!r}", 8))
    if (code := _NUMBERS.get(kind)) is None:
        raise reader.error(f"{key!r} is an array of type {kind}, which minifc does not read", "convert it anew")
    size = struct.calcsize(f"<{code}")
    count = reader.count(f"numbers in {key!r}", size)
    return list(struct.unpack_from(f"<{count}{code}", reader.data, reader.take(count * size)))


def _alignment(path: Path, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
        raise CheckpointError(f"{path}: general.alignment is {alignment!r}, not a power of 2 from 8 on; {_WHOLE}")
    return alignment


def _infos(reader: _Reader, count: int, alignment: int) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    for _ in range(count):
        name = reader.string()
        if name in tensors:
            raise reader.error(f"has two tensors {name!r}")
        tensors[name] = _info(reader, name, alignment)
    # The offsets count from where the data begin, which is known only now.
    data_start = math.ceil(reader.at / alignment) * alignment
    tensors = {
        name: TensorInfo(info.type, info.shape, data_start + info.start, info.size) for name, info in tensors.items()
    }
    end, before = 0, ""
    for name, info in sorted(tensors.items(), key=lambda tensor: tensor[1].start):
        if info.start < end:
            raise reader.error(f"the tensors {before!r} and {name!r} overlap")
        end, before = info.start + info.size, name
        if end > len(reader.data):
            raise reader.error(f"cut short: {name!r} ends at byte {end:,} of {len(reader.data):,}")
    return tensors


def _info(reader: _Reader, name: str, alignment: int) -> TensorInfo:
    """A tensor, its start counted from that of the data."""
    dimensions = reader.number("I")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise reader.error(f"{name!r} has {dimensions:,} dimensions; GGUF has 1 to {_MOST_DIMENSIONS}")
    shape = tuple(reader.number("Q") for _ in range(dimensions))[::-1]
    kind, offset = reader.number("I"), reader.number("Q")
    if (type_ := TYPES.get(kind)) is None:
        known = ", ".join(known.name for known in TYPES.values())
        raise reader.error(f"{name!r} is of type {_OTHERS.get(kind, kind)}", f"minifc reads {known}")
    if 0 in shape or shape[-1] % type_.numbers:
        raise reader.error(f"{name!r} has shape {list(shape)}, whose rows are not whole blocks of {type_.numbers}")
    if offset % alignment:
        raise reader.error(f"{name!r} begins at byte {offset:,} of the data, which is no multiple of {alignment}")
    return TensorInfo(type_, shape, offset, math.prod(shape) // type_.numbers * type_.bytes)
