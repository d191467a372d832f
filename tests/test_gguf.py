"""GGUF: the container, and quantised numbers bit for bit as llama.cpp's own package reads them."""

import os
import random
import re
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_files import random_blocks, stored, write_gguf

from minifc.errors import CheckpointError
from minifc.gguf import TYPES, is_gguf, read_gguf

BY_NAME = {known.name: known for known in TYPES.values()}
QUANTISED = [name for name, known in BY_NAME.items() if known.dequantize]
PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

# --- numbers -------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", BY_NAME)
def test_a_tensor_of_a_file_is_the_package_s(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minifc.gguf._AT_ONCE", 1024)  # so that there are several parts, the last of them smaller
    data, kind = stored(torch.randn(3, 5, 256), name)
    file = read_gguf(write_gguf(tmp_path / "one.gguf", {"general.architecture": "x"}, {"t": (data, kind)}))
    theirs = torch.from_numpy(gguf.quants.dequantize(data, kind).copy())
    ours = file.tensor("t")
    assert ours.shape == (3, 5, 256)
    assert ours.dtype == PLAIN.get(name, torch.float32)
    assert torch.equal(ours.float(), theirs)
    assert torch.equal(file.tensor("t", torch.bfloat16), theirs.bfloat16())
    assert torch.equal(file.tensor("t", torch.float32), theirs)


def test_numbers_as_they_are_stored_are_mapped(tmp_path: Path) -> None:
    """Neither read nor copied; and what is written to them stays out of the file."""
    path = write_gguf(tmp_path / "one.gguf", {"general.architecture": "x"}, {"t": stored(torch.ones(2, 32), "F32")})
    before = path.read_bytes()
    file = read_gguf(path)
    first, second = file.tensor("t"), file.tensor("t")
    assert first.data_ptr() == second.data_ptr()
    first.zero_()
    assert second.sum() == 0
    assert path.read_bytes() == before
    assert read_gguf(path).tensor("t").sum() == 64


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("F16", "F16"), torch.float16),
        (("BF16", "BF16"), torch.bfloat16),
        (("F32", "F32"), torch.float32),
        (("F16", "BF16"), None),
        (("F16", "Q8_0"), None),
        (("Q4_0", "Q4_0"), None),
    ],
)
def test_stored_dtype_is_that_of_the_matrices(
    types: Sequence[str], expected: torch.dtype | None, tmp_path: Path
) -> None:
    tensors = {str(number): stored(torch.ones(2, 32), name) for number, name in enumerate(types)}
    tensors["gain"] = stored(torch.ones(32), "F32")
    assert read_gguf(write_gguf(tmp_path / "a.gguf", {"general.architecture": "x"}, tensors)).stored_dtype() == expected


# --- the container -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [0, 8, 256])
@pytest.mark.parametrize("version", [2, 3])
def test_all_kinds_of_metadata_and_tensors_come_back(alignment: int, version: int, tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "general.architecture": "gemma2",
        "a.bool": True,
        "a.string": "päivä 🤗",
        "a.float": 0.1,
        "a.uint32": 2**32 - 1,
        "a.strings": ["", "x", "▁the"],
        "a.ints": [-1, 0, 2**31 - 1],
        "a.floats": [0.5, -1000.0],
        "a.bools": [True, False],
    }
    tensors = {f"{len(shape)}": stored(torch.randn(shape), "F32") for shape in [(1,), (2, 3), (4, 3, 2), (1, 2, 3, 5)]}
    path = write_gguf(tmp_path / "all.gguf", values, tensors, alignment)
    data = path.read_bytes()
    path.write_bytes(data[:4] + struct.pack("<I", version) + data[8:])
    file = read_gguf(path)
    read = dict(file.metadata)
    assert read.pop("general.alignment", 0) == alignment
    assert read.pop("a.float") == np.float32(values.pop("a.float"))
    assert read == values
    assert [type(value) for value in read.values()] == [type(value) for value in values.values()]
    for name, (numbers, _) in tensors.items():
        assert torch.equal(file.tensor(name), torch.from_numpy(numbers))


@pytest.mark.parametrize("code", "BbHhIif?Qqd")
def test_numbers_of_each_type(code: str, tmp_path: Path) -> None:
    number = {code: kind for kind, code in zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True)}[code]
    size = 8 * struct.calcsize(code)
    value = {"?": True, "f": 0.5, "d": 0.1}.get(code, 2**size - 1 if code.isupper() else -(2 ** (size - 1)))
    packed = struct.pack(f"<{code}", value)
    entries = [
        text("one") + struct.pack("<I", number) + packed,
        text("three") + struct.pack("<IIQ", 9, number, 3) + 3 * packed,
    ]
    metadata = read_gguf(hostile(tmp_path, entries)).metadata
    assert metadata == {"one": value, "three": [value] * 3}
    assert type(metadata["one"]) is type(value)


def test_what_is_taken_for_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    assert is_gguf("there/is/none.gguf")
    assert not is_gguf(tmp_path / "folder.gguf")
    assert not is_gguf("model.safetensors")
    assert not is_gguf("gguf")


# --- hostile files -------------------------------------------------------------------------------------------------


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def info(name: str = "t", shape: Sequence[int] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    """A tensor, its dimensions as the file has them: the fastest first."""
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def hostile(
    folder: Path,
    entries: Sequence[bytes] = (),
    infos: Sequence[bytes] = (),
    *,
    start: bytes = b"GGUF\3\0\0\0",
    tensors: int = -1,
    count: int = -1,
    data: int = 1024,
) -> Path:
    """A file of any bytes, with counts that may be lies."""
    head = start + struct.pack(
        "<QQ", len(infos) if tensors < 0 else tensors, len(entries) if count < 0 else count
    ) + b"".join([*entries, *infos])  # fmt: skip
    path = folder / "hostile.gguf"
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(data))
    return path


HUGE = 2**60
U32, STRING, ARRAY = 4, 8, 9
Case = tuple[str, dict[str, Any], str]
CASES: list[Case] = [
    ("magic", {"start": b"GGJT\3\0\0\0"}, "does not begin as a GGUF file does"),
    ("version 1", {"start": b"GGUF\1\0\0\0"}, "a GGUF file of version 1; minifc reads little-endian ones of version 2"),
    ("version 4", {"start": b"GGUF\4\0\0\0"}, "of version 4"),
    ("big-endian", {"start": b"GGUF\0\0\0\3"}, "a GGUF file big-endian"),
    ("tensors", {"tensors": HUGE}, f"speaks of {HUGE:,} tensors, more than its"),
    ("entries", {"count": HUGE}, f"speaks of {HUGE:,} entries of metadata, more than its"),
    ("more tensors than there are", {"infos": [info()], "tensors": 3}, "hostile.gguf: "),
    ("key", {"entries": [struct.pack("<Q", HUGE)]}, "cut short, or damaged at byte 24"),
    ("string", {"entries": [text("k") + struct.pack("<IQ", STRING, HUGE)]}, "cut short, or damaged"),
    ("strings", {"entries": [text("k") + struct.pack("<IIQ", ARRAY, STRING, HUGE)]}, f"{HUGE:,} strings in 'k'"),
    ("numbers", {"entries": [text("k") + struct.pack("<IIQ", ARRAY, U32, HUGE)]}, f"{HUGE:,} numbers in 'k'"),
    ("nested", {"entries": [text("k") + struct.pack("<IIQIQ", ARRAY, ARRAY, 1, U32, 0)]}, "'k' is an array of type 9"),
    ("type", {"entries": [text("k") + struct.pack("<II", 13, 0)]}, "the type of 'k' is 13, which GGUF does not have"),
    ("utf-8", {"entries": [text("k") + struct.pack("<I", STRING) + text(b"\xff\xfe")]}, "not UTF-8"),
    ("utf-8 key", {"entries": [text(b"\xff") + struct.pack("<II", U32, 0)]}, "not UTF-8"),
    ("key twice", {"entries": 2 * [text("k") + struct.pack("<II", U32, 0)]}, "has two entries 'k'"),
    ("split", {"entries": [text("split.count") + struct.pack("<IH", 2, 3)]}, "one of 3 parts of a model; join them"),
    ("alignment 0", {"entries": [text("general.alignment") + struct.pack("<II", U32, 0)]}, "general.alignment is 0"),
    ("alignment 24", {"entries": [text("general.alignment") + struct.pack("<II", U32, 24)]}, "general.alignment is 24"),
    ("alignment x", {"entries": [text("general.alignment") + struct.pack("<I", STRING) + text("x")]}, "is 'x', not a"),
    ("tensor twice", {"infos": [info(), info(offset=128)]}, "has two tensors 't'"),
    ("no dimension", {"infos": [info(shape=())]}, "'t' has 0 dimensions; GGUF has 1 to 4"),
    ("five dimensions", {"infos": [info(shape=(1, 1, 1, 1, 1))]}, "'t' has 5 dimensions"),
    ("dimension 0", {"infos": [info(shape=(32, 0))]}, "'t' has shape [0, 32]"),
    ("overflow", {"infos": [info(shape=(2**32, 2**32))]}, "cut short: 't' ends at byte"),
    ("overflow to 0", {"infos": [info(shape=(2**62, 4))]}, "cut short: 't' ends at byte"),
    ("unread type", {"infos": [info(kind=10)]}, "'t' is of type Q2_K; minifc reads F32, F16, BF16, Q4_0"),
    ("unknown type", {"infos": [info(kind=999)]}, "'t' is of type 999; minifc reads"),
    ("integers", {"infos": [info(kind=26)]}, "'t' is of type 26; minifc reads"),
    ("blocks", {"infos": [info(shape=(33,), kind=8)]}, "'t' has shape [33], whose rows are not whole blocks of 32"),
    ("rows of blocks", {"infos": [info(shape=(128, 2), kind=12)]}, "whose rows are not whole blocks of 256"),
    ("unaligned", {"infos": [info(offset=4)]}, "'t' begins at byte 4 of the data, which is no multiple of 32"),
    ("outside", {"infos": [info(offset=1024)]}, "cut short: 't' ends at byte"),
    ("far outside", {"infos": [info(offset=2**64 - 32)]}, "cut short: 't' ends at byte"),
    ("overlap", {"infos": [info("a", (64,)), info("b", offset=128)]}, "the tensors 'a' and 'b' overlap"),
    ("the same place", {"infos": [info("a"), info("b")]}, "the tensors 'a' and 'b' overlap"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_hostile_file_is_refused_in_one_line(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = hostile(tmp_path, **settings)
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        read_gguf(path)
    assert time.perf_counter() - started < 2
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


def test_what_hostile_makes_is_read_where_nothing_is_wrong(tmp_path: Path) -> None:
    """Or else the test above would refuse for the wrong reasons."""
    entries = [text("k") + struct.pack("<II", U32, 7), text("general.alignment") + struct.pack("<II", U32, 16)]
    file = read_gguf(hostile(tmp_path, entries, [info("a", (32, 2)), info("b", offset=256), info("c", offset=400)]))
    assert file.metadata == {"k": 7, "general.alignment": 16}
    assert {name: info.shape for name, info in file.tensors.items()} == {"a": (2, 32), "b": (32,), "c": (32,)}


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch], ids=["none", "folder", "empty"])
def test_what_is_no_file_is_named(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "x.gguf")
    with pytest.raises(CheckpointError, match=r"x\.gguf: (no such file|cannot be read)") as caught:
        read_gguf(tmp_path / "x.gguf")
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    metadata: Mapping[str, Any] = {
        "general.architecture": "gemma2", "s": ["a", "bc", ""], "n": [1, 2, 3], "f": [0.5], "b": True, "t": "text",
    }  # fmt: skip
    tensors = {name: stored(torch.randn(2, 256), name) for name in BY_NAME}
    return write_gguf(tmp_path / "whole.gguf", metadata, tensors).read_bytes()


def test_a_file_cut_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "whole.gguf"
    tensors = read_gguf(path).tensors.values()
    start = min(info.start for info in tensors)
    ends = max(info.start + info.size for info in tensors)  # after it there is only padding
    for size in [ends - 1, *range(ends - 100, start, -97), *range(start, -1, -1)]:
        os.truncate(path, size)
        with pytest.raises(CheckpointError) as caught:
            read_gguf(path)
        assert len(str(caught.value).splitlines()) == 1


def test_changed_bytes_are_read_or_refused_and_nothing_else(whole: bytes, tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "whole.gguf"
    refused: list[str] = []
    head = min(info.start for info in read_gguf(path).tensors.values())
    for _ in range(1500):
        data = bytearray(whole[:head])
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(head)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        with path.open("r+b") as file:
            file.write(data)
        try:
            changed = read_gguf(path)
        except CheckpointError as error:
            refused.append(str(error))
            continue
        for name in changed.tensors:
            changed.tensor(name)
    assert 300 < len(refused) < 1450
    assert all(len(why.splitlines()) == 1 for why in refused)
