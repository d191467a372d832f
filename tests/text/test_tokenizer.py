"""Strings to ids and back, through both libraries, and the promise that text is data."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import minifc
from minifc.errors import TokenizerError
from minifc.text.calls import TAGS
from minifc.text.tokenizer import Tokenizer, load_tokenizer

Fresh = Callable[[Tokenizer], Tokenizer]

PROPERTY = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
# U+2581 is how both libraries write a space: it cannot come back as itself.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\u2581"))

FRAGMENTS = [
    *(" ", "  ", "   ", "\n", "\n\n", "\t", "\t\t", "\r\n", "\0", "\u00a0", "\u2028", "\ufeff"),
    *("a", "the", "Hello", " world", "get_weather", "_", "{'name': ", '"', "0", "42", "3.14", "<", ">", "</"),
    *("<table>", "</h1>", "<b>", "<s>", "é", "e\u0301", "İ", "ﬁ", "Ⅷ", "生活", "हिन्दी", "🤗", "👩‍👧", "\ufffd"),
]


def random_texts(number: int, control: list[str]) -> list[str]:
    """Strings of likely troublemakers, spellings of control tokens, and any characters at all."""
    rng = random.Random(0)
    anything = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and code != 0x2581]
    pools = [FRAGMENTS, control, anything]
    return [
        "".join(rng.choice(rng.choices(pools, (6, 2, 2))[0]) for _ in range(rng.randrange(1, 16)))
        for _ in range(number)
    ]


def control_ids(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    known = set(tokenizer.control.values())
    return [id_ for id_ in ids if id_ in known]


# The official vocabulary


def test_published_encodings(official: Tokenizer, shared: Path) -> None:
    entries = json.loads((shared / "gemma-2-2b-it" / "expected_encodings.json").read_text(encoding="utf-8"))
    encodings = [entry for entry in entries if "ids" in entry]
    assert len(encodings) == 28
    got = [official.encode(entry["text"], entry["add_bos"], control_tokens=True) for entry in encodings]
    assert got == [entry["ids"] for entry in encodings]


def test_published_decodings(official: Tokenizer, shared: Path) -> None:
    entries = json.loads((shared / "gemma-2-2b-it" / "expected_encodings.json").read_text(encoding="utf-8"))
    decodings = [entry for entry in entries if "decode" in entry]
    assert len(decodings) == 3
    got = [official.decode(entry["decode"], skip_control_tokens=True) for entry in decodings]
    assert got == [entry["text"] for entry in decodings]


def test_both_libraries_know_the_same_control_tokens(official_json: Tokenizer, official_model: Tokenizer) -> None:
    assert official_json.control == official_model.control
    assert official_json.size == official_model.size == 256000
    expected = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4, "<2mass>": 5, "[@BOS@]": 6}
    expected |= {f"<unused{i}>": 7 + i for i in range(99)} | {"<unused99>": 255999}
    expected |= {"<start_of_turn>": 106, "<end_of_turn>": 107}
    assert official_json.control == expected


def test_both_libraries_give_the_same_ids(official_json: Tokenizer, official_model: Tokenizer) -> None:
    texts = random_texts(4000, list(official_json.control))
    differing = [text for text in texts if official_json.encode(text) != official_model.encode(text)]
    assert differing == []


def test_both_libraries_give_the_same_ids_with_control_tokens(
    official_json: Tokenizer, official_model: Tokenizer
) -> None:
    texts = random_texts(1000, list(official_json.control))
    ids = [official_json.encode(text, control_tokens=True) for text in texts]
    assert ids == [official_model.encode(text, control_tokens=True) for text in texts]
    assert sum(len(control_ids(row, official_json)) for row in ids) > 1000  # so the strings did hold some


def test_the_space_mark_is_the_one_difference(official_json: Tokenizer, official_model: Tokenizer) -> None:
    """A literal U+2581 beside a space or another one: tokenizer.json finds `▁▁` before it turns spaces into marks."""
    rng = random.Random(0)
    parts = [" ", "  ", "▁", "a", "the", "\n", "<b>", "<eos>"]
    texts = ["".join(rng.choices(parts, k=8)) for _ in range(2000)]
    differing = [text for text in texts if official_json.encode(text) != official_model.encode(text)]
    assert differing, "the strings don't reach the known difference"
    assert [text for text in differing if not re.search("▁[ ▁]| ▁", text)] == []
    assert (official_json.encode(" ▁▁"), official_model.encode(" ▁▁")) == ([235248, 139], [140])


@pytest.mark.parametrize("reuse", [False, True], ids=["appended", "reused"])
def test_transformers_reads_the_added_tokens(shared: Path, tmp_path: Path, reuse: bool) -> None:
    """Its GemmaTokenizer finds tokens in tokenizer_config.json only, whatever tokenizer.json holds."""
    tokenizer = load_tokenizer(shared / "gemma-2-2b-it")
    new = tokenizer.add_tokens(["<tool_call>", "</tool_call>"], reuse)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = "a <tool_call>\n\n{}</tool_call><end_of_turn>"
    expected = tokenizer.encode(text, control_tokens=True)
    assert set(new) <= set(expected)
    assert theirs(text, add_special_tokens=False)["input_ids"] == expected
    assert len(theirs) == tokenizer.size


def test_both_libraries_decode_alike(official_json: Tokenizer, official_model: Tokenizer) -> None:
    """Any ids, broken UTF-8 included; but for id 226, the tab, which only tokenizer.model counts as a byte."""
    rng = random.Random(0)
    rows = [
        [rng.randrange(217, 473) if rng.random() < 0.4 else rng.randrange(256000) for _ in range(rng.randrange(12))]
        for _ in range(2000)
    ]
    rows = [[id_ for id_ in row if id_ != 226] for row in rows]
    assert [row for row in rows if official_json.decode(row) != official_model.decode(row)] == []


# Every tokenizer


@pytest.fixture(scope="module", params=["official_json", "official_model", "tiny_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


def test_text_comes_back(tokenizer: Tokenizer) -> None:
    texts = [*random_texts(1000, list(tokenizer.control)), *FRAGMENTS, "", " ", "  leading", "trailing  "]
    assert [text for text in texts if tokenizer.decode(tokenizer.encode(text)) != text] == []


@PROPERTY
@given(text=TEXT)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@PROPERTY
@given(text=TEXT)
def test_no_text_becomes_a_control_token(tokenizer: Tokenizer, text: str) -> None:
    assert control_ids(tokenizer.encode(text), tokenizer) == []


AROUND = ["{}", " {} ", "a{}b", "\n{}\n", "{}{}", "<{}>", "say {}, please"]


def test_the_spelling_of_a_control_token_is_text(tokenizer: Tokenizer) -> None:
    for name in tokenizer.control:
        for around in AROUND:
            text = around.replace("{}", name)
            ids = tokenizer.encode(text)
            assert control_ids(ids, tokenizer) == [], text
            assert tokenizer.decode(ids) == text


def test_control_tokens_appear_where_asked_for(tokenizer: Tokenizer) -> None:
    for name, id_ in tokenizer.control.items():
        assert tokenizer.encode(name, control_tokens=True) == [id_]
        ids = tokenizer.encode(f"a {name} b", control_tokens=True)
        assert ids == [*tokenizer.encode("a "), id_, *tokenizer.encode(" b")]
        assert control_ids(ids, tokenizer) == [id_]


def test_decode_spells_control_tokens_or_leaves_them_out(tokenizer: Tokenizer) -> None:
    for name in tokenizer.control:
        ids = tokenizer.encode(f"a{name} b{name}", control_tokens=True)
        assert tokenizer.decode(ids) == f"a{name} b{name}"
        assert tokenizer.decode(ids, skip_control_tokens=True) == "a b"


def test_bos_only_on_request(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.encode("", add_bos=True) == [tokenizer.bos_id]
    assert tokenizer.encode("a b", add_bos=True) == [tokenizer.bos_id, *tokenizer.encode("a b")]
    assert tokenizer.bos_id not in tokenizer.encode("<bos>a")


def test_named_ids(tokenizer: Tokenizer) -> None:
    names = ("<pad>", "<eos>", "<bos>", "<end_of_turn>")
    ids = (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id, tokenizer.end_of_turn_id)
    assert ids == tuple(tokenizer.control[name] for name in names)
    assert len(set(ids)) == 4


@pytest.mark.parametrize("beyond", [-1, 0, 1000])
def test_an_id_outside_the_vocabulary_is_an_error(tokenizer: Tokenizer, beyond: int) -> None:
    id_ = beyond if beyond < 0 else tokenizer.size + beyond
    with pytest.raises(TokenizerError, match=rf"id {id_} .*{tokenizer.size}"):
        tokenizer.decode([5, id_])


def test_half_a_surrogate_pair_is_a_named_error(tokenizer: Tokenizer) -> None:
    """JSON can spell one (`"\\ud83d"`), and no library can encode it."""
    with pytest.raises(TokenizerError):
        tokenizer.encode("half an emoji: \ud83d")


# Added tokens


def test_added_tokens_stand_behind_the_vocabulary(tokenizer: Tokenizer, fresh: Fresh) -> None:
    tagged, size = fresh(tokenizer), tokenizer.size
    assert tagged.add_tokens(list(TAGS)) == list(range(size, size + 8))
    assert tagged.size == size + 8
    assert {name: tagged.control[name] for name in TAGS} == tagged.added
    assert tagged.control.items() >= tokenizer.control.items()


def test_adding_again_changes_nothing(tokenizer: Tokenizer, fresh: Fresh) -> None:
    tagged = fresh(tokenizer)
    first = tagged.add_tokens(["<think>", "<tool_call>"])
    assert tagged.add_tokens(["<tool_call>", "<new>", "<think>", "<new>"]) == [
        *(first[1], first[1] + 1),
        *(first[0], first[1] + 1),
    ]
    assert tagged.size == tokenizer.size + 3
    assert tagged.add_tokens(["<eos>"]) == [tokenizer.eos_id]


def test_added_tokens_are_control_tokens(tokenizer: Tokenizer, fresh: Fresh) -> None:
    tagged = fresh(tokenizer)
    [id_] = tagged.add_tokens(["<think>"])
    before = tokenizer.encode("a<think>b")
    assert tagged.encode("a<think>b") == before
    assert tagged.encode("a<think>b", control_tokens=True) == [*tagged.encode("a"), id_, *tagged.encode("b")]
    assert tagged.decode([id_]) == "<think>"
    assert tagged.decode([id_], skip_control_tokens=True) == ""


def test_of_overlapping_names_the_longest_wins(tokenizer: Tokenizer, fresh: Fresh) -> None:
    tagged = fresh(tokenizer)
    short, long = tagged.add_tokens(["<a>", "<a><b>"])
    assert tagged.encode("<a><b><a>", control_tokens=True) == [long, short]


def test_reserved_ids_can_be_reused(tokenizer: Tokenizer, fresh: Fresh) -> None:
    tagged = fresh(tokenizer)
    reserved = [tokenizer.control[f"<unused{i}>"] for i in range(8)]
    assert tagged.add_tokens(list(TAGS), reuse_unused=True) == reserved
    assert tagged.size == tokenizer.size
    assert tagged.decode(reserved) == "".join(TAGS)
    assert tagged.encode("<think>", control_tokens=True) == [reserved[TAGS.index("<think>")]]


def test_a_reused_name_is_gone(tokenizer: Tokenizer, fresh: Fresh) -> None:
    """`<unused0>` is then ordinary text in every respect: no spelling leads to the id but the new one."""
    tagged = fresh(tokenizer)
    tagged.add_tokens(["<think>"], reuse_unused=True)
    assert "<unused0>" not in tagged.control
    for control_tokens in (False, True):
        ids = tagged.encode("a<unused0>b", control_tokens=control_tokens)
        assert control_ids(ids, tagged) == []
        assert tagged.decode(ids) == "a<unused0>b"


def test_no_reserved_ids_left(tokenizer: Tokenizer, fresh: Fresh) -> None:
    tagged = fresh(tokenizer)
    reserved = sum(name.startswith("<unused") for name in tokenizer.control)
    tagged.add_tokens(["<think>"], reuse_unused=True)
    control, size = dict(tagged.control), tagged.size
    with pytest.raises(TokenizerError, match=f"{reserved} tokens.* only {reserved - 1} "):
        tagged.add_tokens([f"<t{i}>" for i in range(reserved)], reuse_unused=True)
    assert (tagged.control, tagged.size) == (control, size)  # all or none


def test_the_empty_string_is_no_token(tokenizer: Tokenizer, fresh: Fresh) -> None:
    tagged = fresh(tokenizer)
    with pytest.raises(TokenizerError, match="empty"):
        tagged.add_tokens(["<think>", ""])
    assert "<think>" not in tagged.control


# Saved and loaded


TRICKY = "<bos>the <think>cat</think> <tool_call>{}</tool_call>\n\n<unused0><unused3> <end_of_turn>  é🤗<mask>"


@pytest.mark.parametrize("reuse_unused", [False, True])
def test_a_saved_tokenizer_is_the_same_tokenizer(small_folder: Path, tmp_path: Path, reuse_unused: bool) -> None:
    before = load_tokenizer(small_folder)
    before.add_tokens(["<think>", "</think>", "<tool_call>"], reuse_unused)
    before.save(tmp_path / "new" / "folder")
    after = load_tokenizer(tmp_path / "new" / "folder")
    assert (after.control, after.added, after.size) == (before.control, before.added, before.size)
    for control_tokens in (False, True):
        ids = before.encode(TRICKY, control_tokens=control_tokens)
        assert after.encode(TRICKY, control_tokens=control_tokens) == ids
        assert after.decode(ids) == TRICKY
    assert control_ids(after.encode(TRICKY), after) == []


@pytest.mark.parametrize("reuse_unused", [False, True])
def test_tokens_can_be_added_to_a_loaded_tokenizer(small_folder: Path, tmp_path: Path, reuse_unused: bool) -> None:
    tokenizer = load_tokenizer(small_folder)
    ids = tokenizer.add_tokens(["<a>"], reuse_unused)
    for generation in ("<b>", "<c>"):
        tokenizer.save(tmp_path)
        tokenizer = load_tokenizer(tmp_path)
        ids += tokenizer.add_tokens([generation], reuse_unused)
    first = tokenizer.added["<a>"]
    assert ids == [first, first + 1, first + 2]
    assert list(tokenizer.added.values()) == ids


@pytest.mark.parametrize("reuse_unused", [False, True])
def test_a_saved_tokenizer_json_means_the_same_to_others(
    tiny_tokenizer: Tokenizer, fresh: Fresh, tmp_path: Path, reuse_unused: bool
) -> None:
    tokenizer = fresh(tiny_tokenizer)
    tokenizer.add_tokens(list(TAGS), reuse_unused)
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(os.fspath(tmp_path / "tokenizer.json"))
    assert {name: theirs.token_to_id(name) for name in tokenizer.control} == tokenizer.control
    assert theirs.get_vocab_size() == tokenizer.size
    ids = theirs.encode(TRICKY, add_special_tokens=False).ids
    assert ids == tokenizer.encode(TRICKY, control_tokens=True)
    assert len(control_ids(ids, tokenizer)) > 5


def test_the_official_file_saved_with_tags_means_the_same_to_others(tagged_official: Tokenizer, tmp_path: Path) -> None:
    tagged_official.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(os.fspath(tmp_path / "tokenizer.json"))
    assert [theirs.token_to_id(tag) for tag in TAGS] == list(range(256000, 256008))
    texts = [TRICKY, *random_texts(200, list(tagged_official.control))]
    for text in texts:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ids == tagged_official.encode(text, control_tokens=True)
    assert theirs.encode("Hello").ids == [2, 4521]  # the file still puts <bos> in front, as Google's does


def test_a_word_of_the_vocabulary_does_not_get_a_second_id(
    tiny_tokenizer: Tokenizer, fresh: Fresh, tmp_path: Path
) -> None:
    """The file format has one id per spelling. Refusing is as good as giving the id that the file will mean."""
    tokenizer = fresh(tiny_tokenizer)
    word = tokenizer.decode(tokenizer.encode("send")[:1])
    try:
        [id_] = tokenizer.add_tokens([word])
    except TokenizerError:
        return
    tokenizer.save(tmp_path)
    assert tokenizers.Tokenizer.from_file(os.fspath(tmp_path / "tokenizer.json")).token_to_id(word) == id_


# Files that cannot be read


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(TokenizerError, match=re.escape(str(folder))):
            load_tokenizer(folder)


def other_tokenizer(model: tokenizers.models.Model) -> bytes:
    return tokenizers.Tokenizer(model).to_str().encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("tokenizer.json", b"", id="empty json"),
        pytest.param("tokenizer.json", b"\xff\xfe", id="not utf-8"),
        pytest.param("tokenizer.json", b"[]", id="a list"),
        pytest.param("tokenizer.json", b"{}", id="no model"),
        pytest.param("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', id="no vocabulary"),
        pytest.param("tokenizer.json", other_tokenizer(tokenizers.models.BPE({"a": 0}, [])), id="one piece"),
        pytest.param("tokenizer.json", other_tokenizer(tokenizers.models.Unigram([("a", 0.0)], 0)), id="unigram"),
        pytest.param("tokenizer.model", b"garbage " * 100, id="garbage model"),
        pytest.param("tokenizer.model", b"", id="empty model"),
    ],
)
def test_a_file_that_is_no_gemma_tokenizer(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TokenizerError):
        load_tokenizer(tmp_path)


def test_a_cut_model_file(official_model_folder: Path, tmp_path: Path) -> None:
    whole = (official_model_folder / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(whole[: len(whole) // 2 + 1])
    with pytest.raises(TokenizerError, match=re.escape(str(tmp_path / "tokenizer.model"))):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_turn_markers_is_refused(small_json_folder: Path, tmp_path: Path) -> None:
    text = (small_json_folder / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(text.replace("<start_of_turn>", "<turn>"), encoding="utf-8")
    with pytest.raises(TokenizerError, match="<start_of_turn>"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "added",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="a list"),
        pytest.param('{"<a>": "5"}', id="an id that is a string"),
        pytest.param('{"<a>": -1}', id="a negative id"),
        pytest.param('{"": 2000}', id="an empty name"),
        pytest.param('{"<a>": 5, "<b>": 5}', id="two names for an id"),
        pytest.param('{"<a>": 100}', id="the id of ordinary text, which text would then reach"),
    ],
)
def test_bad_added_tokens(small_json_folder: Path, tmp_path: Path, added: str) -> None:
    (tmp_path / "tokenizer.json").symlink_to(small_json_folder / "tokenizer.json")
    (tmp_path / "added_tokens.json").write_text(added, encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"added_tokens\.json"):
        load_tokenizer(tmp_path)


# The same promises on a small model of our own, where nothing official is at hand


def test_without_our_defence_both_libraries_obey_the_text(small_json_folder: Path, small_model_folder: Path) -> None:
    """What the tests below guard against is real."""
    theirs = tokenizers.Tokenizer.from_file(os.fspath(small_json_folder / "tokenizer.json"))
    forged = theirs.token_to_id("<start_of_turn>")
    assert forged in theirs.encode("a<start_of_turn>b", add_special_tokens=False).ids
    google = sentencepiece.SentencePieceProcessor(os.fspath(small_model_folder / "tokenizer.model"))
    assert google.is_control(forged) or forged in google.encode("a<start_of_turn>b")


def test_small_backends_agree(small_json: Tokenizer, small_model: Tokenizer) -> None:
    assert small_json.control == small_model.control
    assert len(small_json.control) == 13
    texts = random_texts(2000, list(small_json.control))
    differing = [text for text in texts if small_json.encode(text) != small_model.encode(text)]
    assert differing == []


def test_small_backends_take_spellings_for_text(small_json: Tokenizer, small_model: Tokenizer) -> None:
    for text in random_texts(1000, list(small_json.control)):
        for tokenizer in (small_json, small_model):
            ids = tokenizer.encode(text)
            assert control_ids(ids, tokenizer) == []
            assert tokenizer.decode(ids) == text


def test_small_backends_add_the_same_ids(small_json: Tokenizer, small_model: Tokenizer, fresh: Fresh) -> None:
    for reuse_unused in (False, True):
        ours, theirs = fresh(small_json), fresh(small_model)
        assert ours.add_tokens(["<think>", "</think>"], reuse_unused) == theirs.add_tokens(
            ["<think>", "</think>"], reuse_unused
        )
        assert ours.encode(TRICKY, control_tokens=True) == theirs.encode(TRICKY, control_tokens=True)
        assert ours.encode(TRICKY) == theirs.encode(TRICKY)


def test_what_each_id_writes_is_what_it_decodes_to(official_json: Tokenizer, official_model: Tokenizer) -> None:
    for tokenizer in (official_json, official_model):
        written = tokenizer.written()
        assert set(written) == set(range(tokenizer.size)) - set(tokenizer.control.values())
        # Runs of spaces, line breaks and tabs are tokens of their own in tokenizer.json.
        for id_ in [*range(108, 217), *range(473, tokenizer.size, 97)]:
            assert written[id_].decode() == tokenizer.decode([id_])
    assert official_json.written() == official_model.written()


def test_a_tag_that_was_appended_without_a_flag_is_a_control_token(tiny: Path, tmp_path: Path) -> None:
    """As transformers' add_tokens writes it. A word that somebody appended stays text."""
    data = json.loads((tiny / "tokenizer.json").read_text(encoding="utf-8"))
    size = len(data["model"]["vocab"])
    for number, name in enumerate(("<tool_call>", "</tool_call>", "blockchain")):
        data["added_tokens"].append(data["added_tokens"][0] | {"id": size + number, "content": name, "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.control["<tool_call>"] == size
    assert tokenizer.encode("<tool_call>", control_tokens=True) == [size]
    assert size not in tokenizer.encode("say <tool_call>")
    assert tokenizer.encode("blockchain") == [size + 2]


IMAGES = ["[multimodal]", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]  # of Gemma 3


@pytest.mark.parametrize("rows_more", [3, 4], ids=["no row for an image", "a row for an image"])
def test_gemma_3s_tokens_of_images_are_control_tokens_and_need_a_row(
    tiny: Path, tmp_path: Path, rows_more: int
) -> None:
    """Its files flag some of them as ordinary. The text models' tokenizer has <image_soft_token>, their table has no
    row for it, and new tokens then take its id."""
    data = json.loads((tiny / "tokenizer.json").read_text(encoding="utf-8"))
    size = load_tokenizer(tiny).size
    for number, name in enumerate(IMAGES):
        data["added_tokens"].append(data["added_tokens"][0] | {"id": size + number, "content": name, "special": False})
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    settings = {"image_token": IMAGES[3], "added_tokens_decoder": {str(size + 3): {"content": IMAGES[3]}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": size + rows_more}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.size == size + rows_more
    assert [name in tokenizer.control for name in IMAGES] == [True, True, True, rows_more == 4]
    assert not set(tokenizer.encode("".join(IMAGES))) & set(tokenizer.control.values())

    assert tokenizer.add_tokens(["<tool_call>"]) == [size + rows_more]
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.control == tokenizer.control
    written = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert ("image_token" in written) == (rows_more == 4)
    assert written["added_tokens_decoder"][str(size + rows_more)]["content"] == "<tool_call>"
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.convert_tokens_to_ids("<tool_call>") == size + rows_more


@pytest.mark.parametrize("config", ["", "[]", "{", '{"vocab_size": "many"}', '{"text_config": {}}'])
def test_a_config_that_does_not_say_how_many_rows_there_are_changes_nothing(
    tiny: Path, tmp_path: Path, config: str
) -> None:
    shutil.copy(tiny / "tokenizer.json", tmp_path)
    (tmp_path / "config.json").write_text(config)
    assert load_tokenizer(tmp_path).control == load_tokenizer(tiny).control


def test_of_two_tokenizers_saved_into_a_folder_the_last_is_there(tiny: Path, tmp_path: Path) -> None:
    model, tokenizer = minifc.load_model(tiny), load_tokenizer(tiny)
    minifc.add_tokens(model, tokenizer, ["<think>"])
    minifc.merge(model)
    minifc.save_model(model, tokenizer, tmp_path / "model")
    assert load_tokenizer(tmp_path / "model").size == load_tokenizer(tiny).size + 1
    minifc.save_model(minifc.load_model(tiny), load_tokenizer(tiny), tmp_path / "model")
    assert load_tokenizer(tmp_path / "model").size == load_tokenizer(tiny).size
    minifc.save_model(minifc.load_model(tiny), None, tmp_path / "model")  # weights alone leave it where it is
    assert load_tokenizer(tmp_path / "model").size == load_tokenizer(tiny).size


def test_settings_that_are_no_object_are_named(small_json_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small_json_folder, tmp_path / "copy")
    (folder / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: holds a JSON list"):
        load_tokenizer(folder)
