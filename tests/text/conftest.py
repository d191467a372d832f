"""Tokenizers and conversations that this room's tests share. Treat the tokenizers as read-only; `fresh` copies one."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from minifc.text.calls import TAGS
from minifc.text.tokenizer import Tokenizer, load_tokenizer

Messages = list[dict[str, Any]]

# The notebook's sentence between system message and question, written out again to check ours.
THINK_SENTENCE = (
    "Also, before making a call to a function take the time to plan the function to take. "
    "Make that thinking process between <think>{your thoughts}</think>\n\n"
)


@pytest.fixture(scope="session")
def official_json(shared: Path) -> Tokenizer:
    return load_tokenizer(shared / "gemma-2-2b-it")


@pytest.fixture(scope="session")
def official_model_folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which only tokenizer.model is found (by a link: official files are never copied)."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "tokenizer.model").symlink_to(shared / "gemma-2-2b-it" / "tokenizer.model")
    return folder


@pytest.fixture(scope="session")
def official_model(official_model_folder: Path) -> Tokenizer:
    return load_tokenizer(official_model_folder)


@pytest.fixture(scope="session", params=["tokenizer.json", "tokenizer.model"])
def official(request: pytest.FixtureRequest) -> Tokenizer:
    """google/gemma-2-2b-it's tokenizer, through either library."""
    return request.getfixturevalue("official_json" if request.param == "tokenizer.json" else "official_model")


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny: Path) -> Tokenizer:
    return load_tokenizer(tiny)


@pytest.fixture(scope="session")
def fresh() -> Callable[[Tokenizer], Tokenizer]:
    """A copy that a test may add tokens to; the library underneath, slow to load, is shared."""
    return lambda tokenizer: Tokenizer(tokenizer._backend, tokenizer.added)


def _tagged(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer = Tokenizer(tokenizer._backend)
    tokenizer.add_tokens(list(TAGS))
    return tokenizer


@pytest.fixture(scope="session")
def tagged_tiny(tiny_tokenizer: Tokenizer) -> Tokenizer:
    """The tiny tokenizer with our 8 tags as tokens."""
    return _tagged(tiny_tokenizer)


@pytest.fixture(scope="session")
def tagged_official(official_json: Tokenizer) -> Tokenizer:
    """The official tokenizer with our 8 tags as tokens."""
    return _tagged(official_json)


@pytest.fixture(scope="session", params=["tiny", "official"])
def tagged(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer with our 8 tags: what must hold for one vocabulary must hold for the other."""
    return request.getfixturevalue(f"tagged_{request.param}")


@pytest.fixture(scope="session")
def any_tagged(request: pytest.FixtureRequest, shared: Path) -> list[Tokenizer]:
    """Both at once, for properties that should not draw their examples twice."""
    return [request.getfixturevalue("tagged_tiny"), request.getfixturevalue("tagged_official")]


@pytest.fixture(scope="session")
def course_rows(shared: Path) -> list[tuple[Messages, str]]:
    """The course's two rows: messages as the data set had them, and the text the notebook made of them."""
    lines = (shared / "course" / "rendered_rows.jsonl").read_text(encoding="utf-8").splitlines()
    return [(_unrender(text := json.loads(line)["text"]), text) for line in lines]


def _unrender(text: str) -> Messages:
    """The notebook's rendering undone, by splitting at the turn markers alone."""
    turns = re.findall(r"<start_of_turn>(\w+)\n(.*?)<end_of_turn><eos>\n", text, flags=re.DOTALL)
    messages = [{"role": role, "content": content} for role, content in turns]
    system, question = messages[0]["content"].split(THINK_SENTENCE)
    return [{"role": "system", "content": system}, {"role": "human", "content": question}, *messages[1:]]


# A small model of our own, in both formats: what is promised must not depend on Google's files.

SMALL_CONTROL = ["<mask>", *(f"<unused{i}>" for i in range(6)), "<start_of_turn>", "<end_of_turn>"]
SMALL_PLAIN = ["\n", "\n\n", "\t", "<table>", "</table>"]


@pytest.fixture(scope="session", params=["user_defined", "control"])
def small_model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model with Gemma's settings, its control tokens of either kind that SentencePiece has."""
    folder = tmp_path_factory.mktemp("small_model")
    as_user_defined = request.param == "user_defined"
    words = "the cat sat on a mat and sent the letter to send get_weather name arguments city".split()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(words[i:] + words[:i]) for i in range(len(words))] * 5),
        model_prefix=os.fspath(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=400,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_digits=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        control_symbols=[] if as_user_defined else SMALL_CONTROL,
        user_defined_symbols=[*SMALL_CONTROL, *SMALL_PLAIN] if as_user_defined else SMALL_PLAIN,
        num_threads=1,
        minloglevel=2,
    )
    return folder


@pytest.fixture(scope="session")
def small_model(small_model_folder: Path) -> Tokenizer:
    return load_tokenizer(small_model_folder)


@pytest.fixture(scope="session")
def small_json_folder(small_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same vocabulary as a tokenizer.json, laid out as Gemma's is."""
    processor = sentencepiece.SentencePieceProcessor(os.fspath(small_model_folder / "tokenizer.model"))
    vocab = {processor.id_to_piece(id_): id_ for id_ in range(processor.get_piece_size())}
    control = ["<pad>", "<eos>", "<bos>", "<unk>", *SMALL_CONTROL]
    reachable = {piece for piece, id_ in vocab.items() if piece not in control and not processor.is_byte(id_)}
    merges = sorted(
        (-processor.get_score(vocab[piece]), piece[:cut], piece[cut:])
        for piece in reachable - set(SMALL_PLAIN)
        for cut in range(1, len(piece))
        if {piece[:cut], piece[cut:]} <= reachable
    )
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocab[token], "content": token, **flags, "special": token in control[:4] + control[-2:]}
            for token in sorted([*control, *SMALL_PLAIN], key=vocab.__getitem__)
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocab,
            "merges": [[left, right] for _, left, right in merges],
        },
    }
    folder = tmp_path_factory.mktemp("small_json")
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def small_json(small_json_folder: Path) -> Tokenizer:
    return load_tokenizer(small_json_folder)


@pytest.fixture(scope="session", params=["json", "model"])
def small_folder(request: pytest.FixtureRequest, small_json_folder: Path, small_model_folder: Path) -> Path:
    """The small vocabulary's file, through either library."""
    return small_json_folder if request.param == "json" else small_model_folder
