"""Strings to ids and back, over tokenizer.json or tokenizer.model, with one promise: text is data.

A *control token* is one that people and tools must not be able to write: `<bos>`, the turn
markers, the tags of tool calls, the reserved `<unusedN>`. Both libraries would turn a control
token's spelling into its id wherever it occurs. Here the library underneath never sees control
tokens: it encodes plain text, and this class puts ids in only where the caller asked for them
(`control_tokens=True`).
"""

import copy
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import sentencepiece
import tokenizers

from minifc.errors import TokenizerError
from minifc.files import read_json
from minifc.gguf import is_gguf, read_gguf
from minifc.text.calls import TAGS
from minifc.text.pieces import (
    BYTE_PIECE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Piece,
    gguf_pieces,
    json_pieces,
    model_proto,
    read_pieces,
    tokenizer_json,
    unused_piece,
    with_control_pieces,
    with_new_pieces,
)

PAD, EOS, BOS, UNK = "<pad>", "<eos>", "<bos>", "<unk>"
START_OF_TURN, END_OF_TURN = "<start_of_turn>", "<end_of_turn>"
# Gemma's own control tokens by name: its files flag only some of them as special.
_CONTROL = re.compile(
    r"<(pad|eos|bos|unk|mask|2mass|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|unused\d+)>"
    r"|\[(@BOS@|multimodal)\]|<(start|end)_function_(declaration|call|response)>|<escape>"
)
IMAGE = "<image_soft_token>"  # stands for an image: the tables of Gemma 3 without images have no row for it
SETTINGS = "tokenizer_config.json"
ADDED_TOKENS = "added_tokens.json"  # Hugging Face's name for the file
CHAT_TEMPLATE = "chat_template.jinja"  # where transformers keeps it, if not in the settings
# Hugging Face's flags of a control token: found as it is spelled, whatever stands around it.
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
# What transformers wants to know about the file; saved with it, so that AutoTokenizer reads the folder.
_DEFAULT_SETTINGS: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "unk_token": UNK,
    "clean_up_tokenization_spaces": False,
}  # fmt: skip
_UNUSED = re.compile(r"<unused\d+>")
_TAG = re.compile(r"</?\w+>")


class _Backend(Protocol):
    """A library that encodes plain text: `size` ids of which `control` are out of its reach."""

    size: int
    control: dict[str, int]

    @property
    def proto(self) -> bytes | None: ...
    def read_pieces(self) -> list[Piece]: ...
    def has(self, piece: str) -> bool: ...
    def written(self) -> dict[int, bytes]: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, ids: list[int]) -> str: ...
    def save(self, folder: Path, control: dict[str, int]) -> None: ...
    def save_json(self, folder: Path, control: dict[str, int]) -> None: ...


class _JsonBackend:
    """tokenizer.json, through Hugging Face's tokenizers."""

    def __init__(self, path: Path) -> None:
        self.sibling = path.with_name("tokenizer.model")
        rows = _table_rows(path.parent)
        try:
            self.data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            added = self.data.get("added_tokens", [])
            if rows is not None and any(token["content"] == IMAGE and token["id"] >= rows for token in added):
                added = [token for token in added if token["content"] != IMAGE]
                self.data |= {"added_tokens": added}
            self.pieces: dict[str, int] = self.data["model"]["vocab"]
            self.control = {
                token["content"]: token["id"]
                for token in added
                if token["special"]
                or _CONTROL.fullmatch(token["content"])
                # A tag that was appended to the vocabulary, which transformers' add_tokens does without that flag.
                or (_TAG.fullmatch(token["content"]) and token["content"] not in self.pieces)
            }
            plain = [token for token in added if token["content"] not in self.control]
            # No post-processor: it would put a <bos> in front of every piece of text. And all tokens stand in the
            # vocabulary, where text does not find them: the library would number those it is given anew.
            ids = {token["content"]: token["id"] for token in added}
            text_only = self.data | {
                "model": self.data["model"] | {"vocab": self.pieces | ids},
                "added_tokens": plain,
                "post_processor": None,
                "truncation": None,
                "padding": None,
            }
            self.tokenizer = tokenizers.Tokenizer.from_str(json.dumps(text_only))
            self.size = 1 + max([*self.pieces.values(), *(token["id"] for token in added)])
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{path}: not a tokenizer.json ({error})") from None

    @property
    def proto(self) -> bytes | None:
        """tokenizer.model beside it, if it has the same pieces."""
        if not self.sibling.is_file():
            return None
        proto = self.sibling.read_bytes()
        texts = ((piece, id_) for id_, (piece, _, kind) in enumerate(read_pieces(proto)) if kind == NORMAL)
        return proto if all(self.pieces.get(piece) == id_ for piece, id_ in texts) else None

    def read_pieces(self) -> list[Piece]:
        return json_pieces(self.data, self.size) if (proto := self.proto) is None else read_pieces(proto)

    def has(self, piece: str) -> bool:
        return piece in self.pieces

    def written(self) -> dict[int, bytes]:
        fallback = self.data["model"].get("byte_fallback", False)
        pieces = {id_: _bytes_of(piece, fallback) for piece, id_ in self.pieces.items()}
        return pieces | {token["id"]: _bytes_of(token["content"], False) for token in self.data.get("added_tokens", [])}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def save(self, folder: Path, control: dict[str, int]) -> None:
        self.save_json(folder, control)

    def save_json(self, folder: Path, control: dict[str, int]) -> None:
        plain = [token for token in self.data["added_tokens"] if token["content"] not in self.control]
        _write_json(folder, self.data, plain, control)


class _SentencePieceBackend:
    """tokenizer.model, or the pieces in a GGUF file, through SentencePiece.

    SentencePiece has no switch against control tokens in text. But it never matches those pieces that the model file
    itself marks as control; so these are marked.
    """

    def __init__(self, proto: bytes, control: dict[str, int], marked: bytes) -> None:
        self.proto, self.control = proto, control
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=marked)
        self.size = self.processor.get_piece_size()

    @classmethod
    def from_file(cls, path: Path) -> Self:
        proto = path.read_bytes()
        try:
            whole = sentencepiece.SentencePieceProcessor(model_proto=proto)
            control = {
                piece: id_
                for id_ in range(whole.get_piece_size())
                if _CONTROL.fullmatch(piece := whole.id_to_piece(id_)) or whole.is_control(id_)
            }
            return cls(proto, control, with_control_pieces(proto, control))
        except (RuntimeError, ValueError, IndexError) as error:
            raise TokenizerError(f"{path}: not a SentencePiece model ({error})") from None

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Self:
        pieces = gguf_pieces(metadata)
        text_ends = max((id_ for id_, (_, _, kind) in enumerate(pieces) if kind == NORMAL), default=0)
        control = {
            piece: id_
            for id_, (piece, _, kind) in enumerate(pieces)
            # A tag behind the last piece of text was appended, as in tokenizer.json.
            if kind == CONTROL
            or _CONTROL.fullmatch(piece)
            or piece in TAGS
            or (id_ > text_ends and _TAG.fullmatch(piece))
        }
        proto = model_proto(
            (piece, score, CONTROL if kind == USER_DEFINED and piece in control else kind)
            for piece, score, kind in pieces
        )
        try:
            return cls(proto, control, proto)
        except RuntimeError as error:
            raise TokenizerError(f"its pieces make no SentencePiece model ({error})") from None

    def read_pieces(self) -> list[Piece]:
        return read_pieces(self.proto)

    def has(self, piece: str) -> bool:
        return self.processor.id_to_piece(self.processor.piece_to_id(piece)) == piece

    def written(self) -> dict[int, bytes]:
        ids = (id_ for id_ in range(self.size) if not self.processor.is_unused(id_))
        return {id_: _bytes_of(self.processor.id_to_piece(id_), self.processor.is_byte(id_)) for id_ in ids}

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.processor.encode(text)
        return ids

    def decode(self, ids: list[int]) -> str:
        """By hand, as tokenizers does it: the library would drop a leading space."""
        text: list[str] = []
        run = bytearray()  # bytes of characters that have no piece of their own
        for id_ in [*ids, None]:
            if id_ is not None and self.processor.is_byte(id_):
                run.append(int(self.processor.id_to_piece(id_)[3:5], 16))
                continue
            if run:
                try:
                    text.append(run.decode("utf-8"))
                except UnicodeDecodeError:
                    text.append("\ufffd" * len(run))
                run = bytearray()
            if id_ is not None:
                text.append(self.processor.id_to_piece(id_).replace("\u2581", " "))
        return "".join(text)

    def save(self, folder: Path, control: dict[str, int]) -> None:
        (folder / "tokenizer.model").write_bytes(self.proto)

    def save_json(self, folder: Path, control: dict[str, int]) -> None:
        pieces = read_pieces(self.proto)
        plain = [
            {"id": id_, "content": piece, **_FLAGS, "special": False}
            for id_, (piece, _, kind) in enumerate(pieces)
            if kind == USER_DEFINED and piece not in self.control
        ]
        _write_json(folder, tokenizer_json(pieces), plain, control)


def _write_json(folder: Path, data: dict[str, Any], plain: list[dict[str, Any]], control: dict[str, int]) -> None:
    """tokenizer.json with today's control tokens: new ones appended, reused ids renamed."""
    tokens = [{"id": id_, "content": name, **_FLAGS} for name, id_ in control.items()]
    renamed = {id_: name for name, id_ in control.items()}
    vocab = {renamed.get(id_, piece): id_ for piece, id_ in data["model"]["vocab"].items()}
    data = data | {
        "added_tokens": sorted([*plain, *tokens], key=lambda token: token["id"]),
        "model": data["model"] | {"vocab": vocab},
    }
    text = json.dumps(data, ensure_ascii=False, indent=1)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")


def _bytes_of(piece: str, may_be_byte: bool) -> bytes:
    """What a piece of the vocabulary writes."""
    if may_be_byte and BYTE_PIECE.fullmatch(piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


class Tokenizer:
    """Both kinds of file behind one interface, with the same ids."""

    def __init__(
        self, backend: _Backend, added: dict[str, int] | None = None, settings: dict[str, Any] | None = None
    ) -> None:
        self._backend = backend
        self.settings = settings or dict(_DEFAULT_SETTINGS)
        self.control = dict(backend.control)  # spelling -> id
        self.size = backend.size
        self.added: dict[str, int] = {}  # what add_tokens brought in
        self._index()
        for name in (PAD, EOS, BOS, START_OF_TURN, END_OF_TURN):
            if name not in self.control:
                raise TokenizerError(f"the tokenizer has no {name}; minifc needs Gemma's control tokens")
        self.pad_id, self.eos_id, self.bos_id = (self.control[name] for name in (PAD, EOS, BOS))
        self.end_of_turn_id = self.control[END_OF_TURN]
        self.register(added or {})

    def _index(self) -> None:
        self._names = {id_: name for name, id_ in self.control.items()}
        self.names = frozenset(self.control)
        self.own_names = self.names.difference(self.added)  # the model's, without what add_tokens brought in
        longest_first = sorted(self.control, key=len, reverse=True)
        self._split = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")

    def copy(self) -> "Tokenizer":
        """Another one with the same tokens, to which more can be added."""
        other = copy.copy(self)
        other.added = dict(self.added)
        return other

    def encode(self, text: str, add_bos: bool = False, control_tokens: bool = False) -> list[int]:
        """Ids of `text`. Spellings of control tokens stay ordinary text unless `control_tokens`.

        Raises TokenizerError for half a surrogate pair, which is no text.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(f"half a surrogate pair at character {error.start} of the text") from None
        ids = [self.bos_id] if add_bos else []
        for piece in self._split.split(text) if control_tokens else [text]:
            if control_tokens and piece in self.control:
                ids.append(self.control[piece])
            elif piece:
                ids += self._backend.encode(piece)
        return ids

    def decode(self, ids: Iterable[int], skip_control_tokens: bool = False) -> str:
        """The text of `ids`, control tokens spelled out or left out."""
        parts: list[str] = []
        run: list[int] = []
        for id_ in [*ids, None]:
            if id_ is not None and id_ not in self._names:
                if not 0 <= id_ < self.size:
                    raise TokenizerError(f"id {id_} is outside the vocabulary of {self.size}")
                run.append(id_)
                continue
            if run:
                parts.append(self._backend.decode(run))
                run = []
            if id_ is not None and not skip_control_tokens:
                parts.append(self._names[id_])
        return "".join(parts)

    def written(self) -> dict[int, bytes]:
        """The UTF-8 that each id writes, of the ids that write something; control tokens write nothing."""
        return {id_: text for id_, text in self._backend.written().items() if text and id_ not in self._names}

    def add_tokens(
        self, names: Sequence[str], reuse_unused: bool = False, ids: Mapping[str, int] | None = None
    ) -> list[int]:
        """Register control tokens, as `places` has them. Returns the ids, in the order of `names`.

        Names that are registered already keep their ids.
        """
        self.register(self.places(names, reuse_unused, ids))
        return [self.control[name] for name in names]

    def places(
        self, names: Sequence[str], reuse_unused: bool = False, ids: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """The ids that new control tokens get: at the end of the vocabulary, or on reserved `<unusedN>` ids.

        ids: where some of them belong; if all of these that are new find an `<unusedN>` there, they take these.
        Raises TokenizerError if there are too few `<unusedN>`.
        """
        new = [name for name in dict.fromkeys(names) if name not in self.control]
        unused = sorted(id_ for name, id_ in self.control.items() if _UNUSED.fullmatch(name))
        found = {name: ids[name] for name in new if ids and name in ids}
        if not set(unused).issuperset(found.values()):
            found = {}
        others = [name for name in new if name not in found]
        free = [id_ for id_ in unused if id_ not in found.values()]
        if not reuse_unused:
            free = list(range(self.size, self.size + len(others)))
        elif len(free) < len(others):
            raise TokenizerError(f"{len(new)} tokens to place, but only {len(unused)} <unusedN> ids are left")
        return found | dict(zip(others, free, strict=False))

    def register(self, tokens: dict[str, int]) -> None:
        """Make these control tokens, on reserved ids, whose names are then gone, or behind the last id.

        Raises TokenizerError for an id or a name that text uses, and then registers none.
        """
        control, size = dict(self.control), self.size
        for name, id_ in sorted(tokens.items(), key=lambda token: token[1]):
            old = next((old for old, taken in control.items() if taken == id_), None)
            if not name or (name not in control and self._backend.has(name)):
                what = "a piece of ordinary text" if name else "empty"
                raise TokenizerError(f"{name!r} cannot be a control token: it is {what}")
            free = id_ == size or old == name or (old is not None and _UNUSED.fullmatch(old))
            if not free or old in tokens.keys() - {name}:
                raise TokenizerError(f"{name} cannot have id {id_}: it is taken, or leaves a gap after {size - 1}")
            if old is not None:
                del control[old]
            control[name] = id_
            size = max(size, id_ + 1)
        self.control, self.size = control, size
        self.added.update(tokens)
        self._index()

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer, added tokens included, as files that `load_tokenizer` reads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._backend.save(folder, self.control)
        settings = {name: value for name, value in self.settings.items() if value != IMAGE or IMAGE in self.control}
        if "added_tokens_decoder" in settings:  # where transformers' GemmaTokenizer looks, and not in tokenizer.json
            known = {i: token for i, token in settings["added_tokens_decoder"].items() if int(i) < self.size}
            new = {str(id_): {"content": name, **_FLAGS} for name, id_ in self.added.items()}
            settings["added_tokens_decoder"] = known | new
        (folder / SETTINGS).write_text(json.dumps(settings, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        if self.added:
            (folder / ADDED_TOKENS).write_text(json.dumps(self.added, indent=1), encoding="utf-8")

    def save_sentencepiece(self, folder: str | Path) -> None:
        """Write tokenizer.model with the added tokens in it, which llama.cpp's converter reads, if the tokenizer came
        with one. minifc itself reads the tokenizer.json beside it."""
        if (proto := self._backend.proto) is None:
            return
        pieces = read_pieces(proto)
        new = {id_: name for name, id_ in self.control.items() if id_ >= len(pieces) or pieces[id_][0] != name}
        (Path(folder) / "tokenizer.model").write_bytes(with_new_pieces(proto, new))

    def gguf_metadata(self, shown: Sequence[str]) -> dict[str, Any]:
        """The entries of a GGUF file's metadata that describe the tokenizer.

        shown: control tokens that programs see in what a model writes, such as those of calls.
        """
        pieces = self._backend.read_pieces()
        pieces += map(unused_piece, range(len(pieces), self.size))
        for name, id_ in self.control.items():
            kind = UNKNOWN if name == UNK else USER_DEFINED if name in shown else CONTROL
            pieces[id_] = (name, pieces[id_][1], kind)
        spellings, scores, kinds = zip(*pieces, strict=True)
        return {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": [
                spelling.replace("\u2581", " ") if kind == USER_DEFINED else spelling
                for spelling, kind in zip(spellings, kinds, strict=True)
            ],
            "tokenizer.ggml.scores": list(scores),
            "tokenizer.ggml.token_type": list(kinds),
            "tokenizer.ggml.bos_token_id": self.bos_id,
            "tokenizer.ggml.eos_token_id": self.eos_id,
            "tokenizer.ggml.eot_token_id": self.end_of_turn_id,
            "tokenizer.ggml.padding_token_id": self.pad_id,
            "tokenizer.ggml.add_bos_token": True,
            "tokenizer.ggml.add_space_prefix": False,
        } | ({"tokenizer.ggml.unknown_token_id": self.control[UNK]} if UNK in self.control else {})

    def save_json(self, folder: str | Path) -> None:
        """Write tokenizer.json, added tokens included, also where the tokenizer came out of a SentencePiece model."""
        self._backend.save_json(Path(folder), self.control)


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Read tokenizer.json, or else tokenizer.model, from a folder; or the tokenizer in a GGUF file.

    Raises TokenizerError, and CheckpointError for a GGUF file that is damaged.
    """
    folder = Path(folder)
    if is_gguf(folder):
        return _load_from_gguf(folder)
    for name, backend in (("tokenizer.json", _JsonBackend), ("tokenizer.model", _SentencePieceBackend.from_file)):
        if (path := folder / name).is_file():
            added = read_added_tokens(folder)
            settings = read_json(folder / SETTINGS, TokenizerError) if (folder / SETTINGS).is_file() else None
            if not isinstance(settings, dict | None):
                raise TokenizerError(f"{folder / SETTINGS}: holds a JSON {type(settings).__name__}, not an object")
            try:
                tokenizer = Tokenizer(backend(path), added, settings)
            except TokenizerError as error:
                raise TokenizerError(f"{folder / ADDED_TOKENS if added else path}: {error}") from None
            if (template := folder / CHAT_TEMPLATE).is_file():
                tokenizer.settings = tokenizer.settings | {"chat_template": template.read_text(encoding="utf-8")}
            return tokenizer
    raise TokenizerError(f"{folder}: no tokenizer.json and no tokenizer.model")


def _load_from_gguf(path: Path) -> Tokenizer:
    metadata = read_gguf(path).metadata
    settings = _DEFAULT_SETTINGS | {"tokenizer_class": "GemmaTokenizer"}  # which also reads tokenizer.model
    if template := metadata.get("tokenizer.chat_template"):
        settings["chat_template"] = template
    try:
        return Tokenizer(_SentencePieceBackend.from_gguf(metadata), settings=settings)
    except TokenizerError as error:
        raise TokenizerError(f"{path}: {error}") from None


def _table_rows(folder: Path) -> int | None:
    """How many rows the table of the model in a folder has; None where its config.json does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        rows = config["vocab_size"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
    return rows if isinstance(rows, int) else None


def read_added_tokens(folder: str | Path) -> dict[str, int]:
    """The tokens that were added to the tokenizer saved in a folder, with their ids."""
    path = Path(folder) / ADDED_TOKENS
    if not path.is_file():
        return {}
    added = read_json(path, TokenizerError)
    if not isinstance(added, dict) or not all(isinstance(id_, int) and id_ >= 0 for id_ in added.values()):
        raise TokenizerError(f"{path}: not an object of token: id")
    return added
