"""100,000 strings, random and real, through both tokenizer files and transformers: the same ids, or a named reason."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from minifc.text.tokenizer import Tokenizer

pytestmark = pytest.mark.slow

COUNT = 100_000
# What tokenizer.json and tokenizer.model are known to split differently, with an example; see test_tokenizer.py.
CLASSES = {"a literal U+2581 beside a space or another one": (re.compile("\u2581[ \u2581]| \u2581"), " \u2581\u2581")}


def real_strings(shared: Path) -> Iterator[str]:
    """Conversations, and their paragraphs, lines and words, from the rows of the shared folder."""
    lines = (shared / "course" / "rendered_rows.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    for file in sorted((shared / "data" / "glaive").glob("*.json*")):
        rows = json.loads(file.read_text(encoding="utf-8"))
        texts += [message["value"] for row in rows for message in row["conversations"]] + [row["tools"] for row in rows]
    for separator in (None, "\n\n", "\n", ". ", " "):
        for text in texts:
            yield from [text] if separator is None else text.split(separator)


def random_strings(tokenizer: Tokenizer, rng: random.Random) -> Iterator[str]:
    """Pieces of the vocabulary in a row, any characters at all, and much white space."""
    alphabets = [range(0x20, 0x7F), range(0xA0, 0x250), range(0x370, 0x1200), range(0x2000, 0x2C00),
                 range(0x3040, 0xA000), range(0xAC00, 0xD7A4), range(0x1F300, 0x1FAFF), range(0x110000)]  # fmt: skip
    spaces = [" ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u2003", "\u3000"]
    while True:
        parts = []
        alphabet = rng.choice(alphabets)
        for _ in range(rng.randint(1, 12)):
            kind = rng.random()
            if kind < 0.5:
                parts.append(tokenizer.decode([rng.randrange(tokenizer.size)]))
            elif kind < 0.85:
                parts += [chr(rng.choice(alphabet)) for _ in range(rng.randint(1, 6))]
            else:
                parts.append(rng.choice(spaces) * rng.randint(1, 4))
        text = "".join(parts)
        if not re.search("[\ud800-\udfff]", text):  # half a character is no text
            yield text


def test_three_tokenizers_agree(shared: Path, official_json: Tokenizer, official_model: Tokenizer) -> None:
    strings = dict.fromkeys(real_strings(shared))
    real = len(strings)
    assert real > 5_000
    for text in random_strings(official_json, random.Random(0)):
        strings.setdefault(text)
        if len(strings) == COUNT:
            break
    texts = list(strings)
    theirs = AutoTokenizer.from_pretrained(shared / "gemma-2-2b-it")(texts, add_special_tokens=False)["input_ids"]
    found: Counter[str] = Counter()
    for text, expected in zip(texts, theirs, strict=True):
        as_json, as_model = (each.encode(text, control_tokens=True) for each in (official_json, official_model))
        assert as_json == expected, f"tokenizer.json: {text!r}"
        if as_model != expected:
            names = [name for name, (pattern, _) in CLASSES.items() if pattern.search(text)]
            assert names, f"tokenizer.model: {text!r}"
            found[names[0]] += 1
    print(f"{COUNT} strings, {real} of them real; different: {dict(found) or 'none'}")
    assert sum(found.values()) < COUNT // 1000


@pytest.mark.parametrize("name", CLASSES)
def test_each_named_class_is_real(official_json: Tokenizer, official_model: Tokenizer, name: str) -> None:
    pattern, example = CLASSES[name]
    assert pattern.search(example)
    assert official_json.encode(example) != official_model.encode(example)
