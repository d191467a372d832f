"""The pieces of a SentencePiece model: out of a GGUF file's metadata, and into the file tokenizer.model.

tokenizer.model is a protocol buffer, sentencepiece_model.proto. SentencePiece has no function that makes one out of
pieces, and the classes for it need another package; so the few fields that matter are written and read by hand.
"""

import math
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from minifc.errors import TokenizerError

# What a piece is for. SentencePiece's numbers, which are GGUF's too. Text is never split into control pieces.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
Piece = tuple[str, float, int]  # spelling, score, what it is for
T = TypeVar("T")
_SPACE = "\u2581"
BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
_VARINT, _BYTES, _FLOAT = 0, 2, 5  # protocol buffers' ways to write a value
_BPE = 2
_LARGEST = 2.0**127  # a float32 holds it


def gguf_pieces(metadata: Mapping[str, Any]) -> list[Piece]:
    """The pieces in a GGUF file's metadata, one for each id. Raises TokenizerError."""
    if (model := metadata.get("tokenizer.ggml.model")) != "llama":
        raise TokenizerError(f"its tokenizer is of the kind {model!r}; minifc reads 'llama', which is SentencePiece's")
    spellings, scores = _array(metadata, "tokens", str), _array(metadata, "scores", float)
    kinds = _array(metadata, "token_type", int)
    if not len(spellings) == len(scores) == len(kinds):
        raise TokenizerError(f"{len(spellings)} tokens, but {len(scores)} scores and {len(kinds)} token types")
    if not all(abs(score) < _LARGEST for score in scores):  # nor NaN
        raise TokenizerError("a token's score is not finite, or too large for 32 bits")
    if not set(kinds) <= set(range(NORMAL, BYTE + 1)):
        raise TokenizerError(f"token types from {min(kinds)} to {max(kinds)}; there are {NORMAL} to {BYTE}")
    unk = metadata.get("tokenizer.ggml.unknown_token_id", 3)
    return [
        # llama.cpp's converter spells spaces in user-defined pieces as themselves, and makes <unk> a control piece.
        (piece.replace(" ", _SPACE) if kind == USER_DEFINED else piece, score, UNKNOWN if id_ == unk else kind)
        for id_, (piece, score, kind) in enumerate(zip(spellings, scores, kinds, strict=True))
    ]


def _array(metadata: Mapping[str, Any], name: str, kind: type[T]) -> list[T]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise TokenizerError(f"tokenizer.ggml.{name} is missing, or no array of {kind.__name__}")
    return values


def model_proto(pieces: Iterable[Piece]) -> bytes:
    """tokenizer.model: byte-pair encoding that takes text as it is, as Gemma's does."""
    written = [_piece(*piece) for piece in pieces]
    trainer = [
        _number(3, _BPE),
        _number(4, len(written)),
        _number(35, True),  # byte_fallback: characters without a piece become bytes
        *(_number(40 + place, id_) for place, id_ in enumerate((3, 2, 1, 0))),  # of <unk>, <bos>, <eos>, <pad>
        *(_bytes(45 + place, name) for place, name in enumerate((b"<unk>", b"<bos>", b"<eos>", b"<pad>"))),
    ]
    normalizer = [
        _bytes(1, b"identity"),
        _number(3, False),  # add_dummy_prefix
        _number(4, False),  # remove_extra_whitespaces
        _number(5, True),  # escape_whitespaces: as U+2581
    ]
    return b"".join([*written, _bytes(2, b"".join(trainer)), _bytes(3, b"".join(normalizer))])


def unused_piece(id_: int) -> Piece:
    """What stands for an id that has no spelling."""
    return f"<unused piece {id_}>", 0.0, UNUSED


def _piece(spelling: str, score: float, kind: int) -> bytes:
    """Field 1 is the spelling, field 2 the score, a float, and field 3 what it is for."""
    rest = struct.pack("<BfBB", 2 << 3 | _FLOAT, score, 3 << 3 | _VARINT, kind)
    return _bytes(1, _bytes(1, spelling.encode()) + rest)


def with_new_pieces(proto: bytes, named: Mapping[int, str]) -> bytes:
    """tokenizer.model in which these ids have these spellings, as pieces that text is searched for first. Ids behind
    the last piece are appended; what is between them and it is unused."""
    written: list[bytes] = []
    count = at = 0
    while at < len(proto):
        field, value = _read(proto, at)
        is_new = field == 1 and count in named
        written.append(_piece(named[count], 0.0, USER_DEFINED) if is_new else proto[at : value.stop])
        count, at = count + (field == 1), value.stop
    for id_ in range(count, max(named, default=0) + 1):
        written.append(_piece(*((named[id_], 0.0, USER_DEFINED) if id_ in named else unused_piece(id_))))
    return b"".join(written)


def with_control_pieces(proto: bytes, control: Iterable[str]) -> bytes:
    """tokenizer.model with the named pieces as control pieces, where they are user-defined ones."""
    names = {name.encode() for name in control}
    out = bytearray(proto)
    for fields in _piece_fields(proto):
        spelling, kind = fields[1], fields.get(3)
        if kind is not None and out[kind.start] == USER_DEFINED and proto[spelling] in names:
            out[kind.start] = CONTROL
    return bytes(out)


def read_pieces(proto: bytes) -> list[Piece]:
    """The pieces in tokenizer.model. Raises TokenizerError if one is not as SentencePiece writes it."""
    try:
        return [
            (
                proto[fields[1]].decode(),
                struct.unpack("<f", proto[fields[2]])[0],
                proto[fields[3].start] if 3 in fields else NORMAL,
            )
            for fields in _piece_fields(proto)
        ]
    except (LookupError, ValueError, struct.error) as error:
        raise TokenizerError(f"tokenizer.model has a piece that is not whole ({error})") from None


def json_pieces(data: Mapping[str, Any], size: int) -> list[Piece]:
    """The pieces of a tokenizer.json, one for each of `size` ids: the first pair to be joined has the highest score."""
    merges = data["model"]["merges"]
    joined = ["".join(merge) if isinstance(merge, list) else merge.replace(" ", "") for merge in merges]
    ranks = {piece: -float(rank) for rank, piece in reversed(list(enumerate(joined)))}
    pieces: list[Piece] = []
    spelled = {id_: piece for piece, id_ in data["model"]["vocab"].items()}
    bytes_too = data["model"].get("byte_fallback", False)
    for id_ in range(size):
        if (piece := spelled.get(id_)) is None:
            pieces.append(unused_piece(id_))
            continue
        kind = BYTE if bytes_too and BYTE_PIECE.fullmatch(piece) else NORMAL
        pieces.append((piece, ranks.get(piece, -float(len(ranks))), kind))
    return pieces


def tokenizer_json(pieces: Sequence[Piece]) -> dict[str, Any]:
    """What tokenizer.json says so that it does the same, without the added tokens.

    SentencePiece joins the two neighbours whose joint piece has the highest score. tokenizers has a list of pairs
    instead, the first of them to be joined first. Of user-defined pieces, runs of spaces are found so as well, the
    longest first, since tokenizers sees spaces only as the model's own mark of one.
    """
    ranks = {piece: -score for piece, score, kind in pieces if kind == NORMAL}
    ranks |= {piece: -math.inf for piece, _, kind in pieces if kind == USER_DEFINED}
    merges = sorted(
        (rank, -len(piece), piece[:cut], piece[cut:])
        for piece, rank in ranks.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ranks and piece[cut:] in ranks
    )
    vocab = {piece: id_ for id_, (piece, _, _) in enumerate(pieces)}
    single, second = (
        [{"SpecialToken": {"id": "<bos>", "type_id": number}}, {"Sequence": {"id": text, "type_id": number}}]
        for number, text in enumerate("AB")
    )
    spaces = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single + second,
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [vocab["<bos>"]], "tokens": ["<bos>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": [[left, right] for _, _, left, right in merges],
        },
    }


def _piece_fields(proto: bytes) -> Iterator[dict[int, slice]]:
    """Of each piece, where its fields are."""
    at = 0
    while at < len(proto):
        field, value = _read(proto, at)
        at = value.stop
        if field == 1:
            fields, inner = {}, value.start
            while inner < value.stop:
                number, fields[number] = _read(proto, inner)
                inner = fields[number].stop
            yield fields


def _number(field: int, value: int) -> bytes:
    """A field of a protocol buffer that is a whole number."""
    return _varint(field << 3 | _VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    """A field that is a string, or a message of fields of its own."""
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


@cache  # the same few lengths a quarter of a million times
def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth bit says that more follow."""
    if value < 0x80:
        return bytes((value,))
    return bytes((value & 0x7F | 0x80,)) + _varint(value >> 7)


def _read(data: bytes, at: int) -> tuple[int, slice]:
    """One field of a protocol buffer at `at`: its number, and where its value is."""
    key, at = _decode_varint(data, at)
    match key & 7:
        case 0:
            return key >> 3, slice(at, _decode_varint(data, at)[1])
        case 1:
            return key >> 3, slice(at, at + 8)
        case 2:
            length, at = _decode_varint(data, at)
            return key >> 3, slice(at, at + length)
        case 5:
            return key >> 3, slice(at, at + 4)
    raise ValueError(f"wire type {key & 7} at byte {at}")


def _decode_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
