"""The tokenizer in a GGUF file: the ids of the files that it was converted from."""

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from gguf_files import tokenizer_metadata, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from minifc.errors import TokenizerError
from minifc.text.calls import TAGS
from minifc.text.pieces import gguf_pieces
from minifc.text.template import render
from minifc.text.tokenizer import Tokenizer, load_tokenizer

PREFIX = "tokenizer.ggml."
SMALL_CONTROL = ["<mask>", *(f"<unused{i}>" for i in range(6)), "<start_of_turn>", "<end_of_turn>"]
SMALL_PLAIN = ["\n", "\n\n", "\t", "<table>", "</table>"]
ARCHITECTURE = {"general.architecture": "gemma2"}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\u2581"))


@pytest.fixture(scope="module")
def official_gguf(shared: Path, official_json: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = shared / "gemma-2-2b-it"
    added = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["added_tokens_decoder"]
    metadata = tokenizer_metadata(
        folder / "tokenizer.model", {int(id_): (token["content"], token["special"]) for id_, token in added.items()}
    )
    metadata["tokenizer.chat_template"] = official_json.settings["chat_template"]
    file = tmp_path_factory.mktemp("official") / "vocabulary.gguf"
    return load_tokenizer(write_gguf(file, ARCHITECTURE | metadata, {}))


@pytest.fixture(scope="module")
def small_metadata(small_model_folder: Path) -> dict[str, Any]:
    file = small_model_folder / "tokenizer.model"
    processor = sentencepiece.SentencePieceProcessor(os.fspath(file))
    added = {processor.piece_to_id(token): (token, False) for token in SMALL_PLAIN}
    added |= {processor.piece_to_id(token): (token, True) for token in SMALL_CONTROL}
    return ARCHITECTURE | tokenizer_metadata(file, added)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[dict[str, Any]], Tokenizer]:
    return lambda metadata: load_tokenizer(write_gguf(tmp_path / "small.gguf", metadata, {}))


def test_published_encodings_and_decodings(official_gguf: Tokenizer, shared: Path) -> None:
    entries = json.loads((shared / "gemma-2-2b-it" / "expected_encodings.json").read_text(encoding="utf-8"))
    assert len(entries) == 31
    for entry in entries:
        if "ids" in entry:
            assert official_gguf.encode(entry["text"], entry["add_bos"], control_tokens=True) == entry["ids"]
        else:
            assert official_gguf.decode(entry["decode"], skip_control_tokens=True) == entry["text"]


def test_official_control_tokens_and_settings_are_the_same(official_gguf: Tokenizer, official_json: Tokenizer) -> None:
    assert official_gguf.control == official_json.control
    assert official_gguf.size == official_json.size
    assert official_gguf.written() == official_json.written()
    assert official_gguf.settings["chat_template"] == official_json.settings["chat_template"]


@settings(max_examples=500, deadline=None, derandomize=True)
@given(texts=st.lists(TEXT, min_size=1, max_size=20))
def test_any_text_has_the_official_ids(official_gguf: Tokenizer, official_json: Tokenizer, texts: list[str]) -> None:
    for text in texts:
        assert official_gguf.encode(text) == official_json.encode(text)


def test_likely_troublemakers_have_the_official_ids(official_gguf: Tokenizer, official_json: Tokenizer) -> None:
    rng = random.Random(0)
    parts = [
        *official_json.control,
        *(" " * n for n in range(1, 40)),
        "\n\n\n",
        "\t\t",
        "<table>",
        "</h1>",
        "the",
        "🤗",
        "हिन्दी",
    ]
    texts = ["".join(rng.choices(parts, k=rng.randrange(1, 12))) for _ in range(4000)]
    for control_tokens in (False, True):
        theirs = [official_json.encode(text, control_tokens=control_tokens) for text in texts]
        assert [official_gguf.encode(text, control_tokens=control_tokens) for text in texts] == theirs
    assert [official_gguf.decode(row) for row in theirs] == texts


def test_own_format_is_the_file_s_chat_template(official_gguf: Tokenizer, official_json: Tokenizer) -> None:
    messages = [{"role": "user", "content": "Hello <eos>"}, {"role": "assistant", "content": "Hi"}]
    ours, theirs = (render(messages, tokenizer, format="own") for tokenizer in (official_gguf, official_json))
    assert (ours.ids, ours.mask) == (theirs.ids, theirs.mask)
    assert official_gguf.eos_id not in ours.ids


def test_small_model_is_the_same(load, small_metadata: dict[str, Any], small_json: Tokenizer) -> None:
    tokenizer = load(small_metadata)
    assert tokenizer.control == small_json.control
    rng = random.Random(0)
    parts = [*SMALL_CONTROL, *SMALL_PLAIN, " ", "  ", "the cat", "é", "\0", "name", "<eos>"]
    for _ in range(1000):
        text = "".join(rng.choices(parts, k=6))
        for control_tokens in (False, True):
            assert tokenizer.encode(text, control_tokens=control_tokens) == small_json.encode(
                text, control_tokens=control_tokens
            )
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_saved_it_is_a_tokenizer_model(load, small_metadata: dict[str, Any], tmp_path: Path) -> None:
    """With the tokens that were added, and the chat template."""
    tokenizer = load(small_metadata | {"tokenizer.chat_template": "{{ bos_token }}"})
    tokenizer.add_tokens(list(TAGS)[:2])
    tokenizer.add_tokens(list(TAGS)[2:4], reuse_unused=True)
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.model").is_file()
    assert again.control == tokenizer.control
    assert again.settings["chat_template"] == "{{ bos_token }}"
    text = f"the <table>  <unused4>{''.join(TAGS)}é<mask>"
    assert again.encode(text) == tokenizer.encode(text)
    assert again.encode(text, control_tokens=True) == tokenizer.encode(text, control_tokens=True)


def same_ids(ours: Any, theirs: Any, parts: list[str], number: int) -> None:
    """Of a tokenizer of minifc, whose control tokens are wanted, and of one of transformers."""
    rng = random.Random(0)
    texts = ["".join(rng.choices(parts, k=rng.randrange(1, 9))) for _ in range(number)]
    expected = [ours.encode(text, control_tokens=True) for text in texts]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == expected
    assert theirs(texts[:9])["input_ids"] == [[ours.bos_id, *ids] for ids in expected[:9]]
    assert theirs.batch_decode(expected) == [ours.decode(ids) for ids in expected]


def test_as_tokenizer_json_transformers_reads_it(
    small_model: Tokenizer, fresh: Callable[[Tokenizer], Tokenizer], tmp_path: Path
) -> None:
    """With tokens that were appended, and others on reserved ids."""
    tokenizer = fresh(small_model)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.add_tokens(["<tool_call>"], reuse_unused=True)
    tokenizer.save_json(tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=os.fspath(tmp_path / "tokenizer.json"))
    assert len(theirs) == tokenizer.size
    same_ids(tokenizer, theirs, [*tokenizer.control, *SMALL_PLAIN, " ", "the cat", "é", "name"], 1000)
    assert load_tokenizer(tmp_path).control == tokenizer.control


@pytest.mark.slow
def test_the_official_model_as_tokenizer_json(official_gguf: Tokenizer, shared: Path, tmp_path: Path) -> None:
    """The pairs are the official file's, but for those of a tab, which is a byte here; and the ids of text are, too."""
    official_gguf.save_json(tmp_path)
    ours, theirs = (
        json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        for folder in (tmp_path, shared / "gemma-2-2b-it")
    )
    pairs = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in theirs["model"]["merges"]]
    with_tab = {pair for pair in pairs if "\t" in pair}
    assert len(with_tab) == 59
    assert {tuple(pair) for pair in ours["model"]["merges"]} == set(pairs) - with_tab
    assert ours["post_processor"] == theirs["post_processor"]
    parts = [*official_gguf.control, *(" " * number for number in range(1, 70))]
    fast = PreTrainedTokenizerFast(tokenizer_file=os.fspath(tmp_path / "tokenizer.json"))
    same_ids(official_gguf, fast, [*parts, "\n\n", "\t", "\t\t", "<table>", "the", "🤗", "हिन्दी"], 3000)


def test_an_appended_tag_that_is_no_control_token_there_is_one_here(load, small_metadata: dict[str, Any]) -> None:
    """As in tokenizer.json; a tag among the first ids, such as <table>, stays text."""
    metadata = small_metadata | {
        "tokenizer.ggml.tokens": [*small_metadata["tokenizer.ggml.tokens"], "<tool_call>", "[x]"],
        "tokenizer.ggml.scores": [*small_metadata["tokenizer.ggml.scores"], -1000.0, -1000.0],
        "tokenizer.ggml.token_type": [*small_metadata["tokenizer.ggml.token_type"], 4, 4],
    }
    tokenizer = load(metadata)
    size = len(small_metadata["tokenizer.ggml.tokens"])
    assert tokenizer.control["<tool_call>"] == size
    assert size not in tokenizer.encode("say <tool_call>")
    assert tokenizer.encode("[x]") == [size + 1]
    assert "<table>" not in tokenizer.control


def test_the_longest_run_of_spaces_is_one_piece(load, small_metadata: dict[str, Any], tmp_path: Path) -> None:
    """As in the official vocabularies; the converter spells those pieces with spaces. In tokenizer.json, too."""
    tokens, kinds = (list(small_metadata[PREFIX + name]) for name in ("tokens", "token_type"))
    for number in range(2, 6):
        tokens[300 + number], kinds[300 + number] = " " * number, 4
    tokenizer = load(small_metadata | {PREFIX + "tokens": tokens, PREFIX + "token_type": kinds})
    tokenizer.save_json(tmp_path)
    for one in (tokenizer, load_tokenizer(tmp_path)):
        assert one.encode("the" + 13 * " ")[-3:] == [305, 305, 303]
        assert one.decode(one.encode("the   \n")) == "the   \n"


def test_an_unused_piece_is_never_written(load, small_metadata: dict[str, Any]) -> None:
    """What fills a table up to a round number: the grammar must not choose it."""
    kinds = list(small_metadata[PREFIX + "token_type"])
    kinds[300] = 5
    assert 300 in load(small_metadata).written()
    assert 300 not in load(small_metadata | {PREFIX + "token_type": kinds}).written()


def test_gemma_3_s_tokens_for_images_are_control_tokens(load, small_metadata: dict[str, Any]) -> None:
    """Though the file says that they are text."""
    names = ["[multimodal]", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    tokens, kinds = (list(small_metadata[f"tokenizer.ggml.{name}"]) for name in ("tokens", "token_type"))
    for name, id_ in zip(names, range(5, 9), strict=True):
        tokens[id_], kinds[id_] = name, 4
    tokenizer = load(small_metadata | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds})
    for name, id_ in zip(names, range(5, 9), strict=True):
        assert tokenizer.control[name] == id_
        assert id_ not in tokenizer.encode(f"a{name}b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({PREFIX + "model": "gpt2"}, "its tokenizer is of the kind 'gpt2'; minifc reads 'llama'"),
        ({PREFIX + "scores": [1.0]}, "tokens, but 1 scores"),
        ({PREFIX + "scores": "none"}, "tokenizer.ggml.scores is missing, or no array of float"),
        ({PREFIX + "tokens": [1, 2]}, "tokenizer.ggml.tokens is missing, or no array of str"),
        ({PREFIX + "token_type": [1.0]}, "tokenizer.ggml.token_type is missing, or no array of int"),
        ({PREFIX + "unknown_token_id": 2}, "unk"),
    ],
)  # fmt: skip
def test_what_is_no_tokenizer_of_gemma_s_is_refused(
    load, small_metadata: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(TokenizerError, match=re.escape(words)) as caught:
        load(small_metadata | change)
    assert "small.gguf: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_score_of_64_bits_is_refused_where_32_do_not_hold_it(small_metadata: dict[str, Any]) -> None:
    scores = small_metadata[PREFIX + "scores"]
    for score in (1e300, -1e39, float("inf")):
        with pytest.raises(TokenizerError, match="too large for 32 bits"):
            gguf_pieces(small_metadata | {PREFIX + "scores": [score, *scores[1:]]})


@pytest.mark.parametrize(
    ("name", "id_", "value", "words"),
    [
        ("scores", 200, float("nan"), "a token's score is not finite"),
        ("token_type", 200, 7, "token types from 1 to 7; there are 1 to 6"),
        ("token_type", 300, 6, "its pieces make no SentencePiece model"),  # a byte of another spelling
        ("tokens", 2, "<s>", "the tokenizer has no <bos>"),
        ("tokens", 200, "", "its pieces make no SentencePiece model"),
        ("tokens", 200, "the", "its pieces make no SentencePiece model"),  # a second time
    ],
)  # fmt: skip
def test_one_wrong_entry_is_found(
    load, small_metadata: dict[str, Any], name: str, id_: int, value: object, words: str
) -> None:
    values = list(small_metadata[PREFIX + name])
    values[id_] = value
    with pytest.raises(TokenizerError, match=re.escape(words)) as caught:
        load(small_metadata | {PREFIX + name: values})
    assert len(str(caught.value).splitlines()) == 1
