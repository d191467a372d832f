"""Patterns and formats: regular languages against Python's own expressions, and followed by the grammar."""

import itertools
import random
import re

import pytest
from random_schemas import write
from random_walks import takes, walk

from minifc.calling.formats import language_of_format
from minifc.calling.grammar import Grammar
from minifc.calling.patterns import language_of
from minifc.calling.regular import ANYTHING, EMPTY, NOTHING, automaton_of, both, characters, either, literal, without
from minifc.calling.schema import read_schema
from minifc.calling.validation import find_error
from minifc.errors import CallError, SchemaError
from minifc.text.calls import TAGS
from minifc.text.dialects.functiongemma import TOKENS
from minifc.text.tokenizer import Tokenizer, load_tokenizer
from minifc.text.turns import parse_calls

LETTERS = [
    "a",
    "b",
    "c",
    ".",
    "[ab]",
    "[^a]",
    "\\d",
    "1",
    "ab",
    "[a-c1]",
    "\\w",
    "\\W",
    "[\\db-]",
    "$",
    "",
    "^",
    "\\b",
]


def random_pattern(rng: random.Random, depth: int) -> str:
    if depth == 0:
        return rng.choice(LETTERS)

    def part() -> str:
        return random_pattern(rng, depth - 1)

    return rng.choices(
        [
            f"{part()}{part()}",
            f"({part()}|{part()})",
            f"(?:{part()}){rng.choice(['*', '+', '?', '{2}', '{1,3}', '{2,}', '*?'])}",
            f"(?={part()}){part()}",
            f"(?!{part()}){part()}",
            part(),
        ],
        [7, 3, 5, 2, 2, 3],
    )[0]


def test_random_patterns_are_found_where_python_finds_them() -> None:
    rng, found, refused = random.Random(1), [0, 0], 0
    for _ in range(1500):
        pattern = random_pattern(rng, rng.randint(1, 4))
        try:
            automaton = automaton_of(language_of(pattern))
        except SchemaError as error:
            assert "inside of a repetition" in str(error)  # noqa: PT017
            refused += 1
            continue
        python = re.compile(pattern.replace("$", "\\Z"), re.ASCII)
        for _ in range(10):
            text = "".join(rng.choice("abc1-") for _ in range(rng.randint(0, 6)))
            expected = python.search(text) is not None
            assert automaton.matches(text) == expected, (pattern, text)
            found[expected] += 1
        assert not automaton.accepting or automaton.matches(automaton.endings[0])
    assert min(found) > 2000
    assert refused < 500


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (r"^\u0041\x42\cJ\t\u{1F600}$", "AB\n\t\U0001f600", "AB\n\tx"),
        (r"^\ud83d\ude00$", "\U0001f600", "\ud83d"),
        (r"^\p{Lu}\p{L}+\P{L}$", "Ärger1", "ärger1"),
        (r"^[\w-.]+$", "a-b.c", "a b"),
        (r"^[]a]", None, "a"),
        (r"^[^]$", "]", ""),
        (r"^a{,2}$", "a{,2}", "aa"),
        (r"^\s$", "\u3000", "x"),
        (r"^.$", "\u0085", "\n"),
        (r"^(?<year>[0-9]{4})$", "1999", "199"),
        (r"^(?!.*[aeiou])[a-z]+$", "xyz", "xyza"),
        (r"^(?=.*[0-9])(?=.*[a-z]).{4,}$", "abc1", "abcd"),
        (r"a|^b|c$", "xa", "xb"),
        (r"^$", "", "a"),
        (r"\bcat\b", "a cat.", "concatenate"),
        (r"\Bcat", "a bobcat", "a cat"),
        (r"\/\-\#", "/-#", "/-"),
    ],
)
def test_what_a_pattern_means(pattern: str, right: str | None, wrong: str) -> None:
    automaton = automaton_of(language_of(pattern))
    assert right is None or automaton.matches(right)
    assert not automaton.matches(wrong)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(a)\1", "a reference to a group"),
        (r"(?<a>b)\k<a>", "a reference to a group"),
        (r"(?<=a)b", "looking behind"),
        (r"(?i)a", "looking behind and flags"),
        (r"(^a)+", "inside of a repetition"),
        (r"(a", "a bracket is not closed"),
        (r"a)", "closed that was not opened"),
        (r"[a", r"a bracket \[ is not closed"),
        (r"[z-a]", "ends before it begins"),
        (r"a{3,2}", "ends before it begins"),
        (r"a{5000}", "more than 1,000 times"),
        (r"+a", "nothing to repeat"),
        (r"\x4", "not the number of a character"),
        (r"\p{Greek}", "general categories"),
        ("a\\", "ends within an escape"),
    ],
)
def test_what_is_not_followed_is_named(pattern: str, why: str) -> None:
    with pytest.raises(SchemaError, match=why):
        language_of(pattern)


def test_laws_of_sets() -> None:
    """Trees of equal languages are one object, as far as these laws make them equal."""
    a, b = literal("a"), literal("bc")
    assert both(a, ANYTHING) is a
    assert either(a, NOTHING) is a
    assert both(a, without(ANYTHING)) is NOTHING
    assert without(without(a)) is a
    assert either(a, b) is either(b, a, a)
    assert both(EMPTY, a) is NOTHING
    assert both(characters([(1, 9)]), characters([(5, 20)])) is characters([(5, 9)])
    neither = automaton_of(both(without(a), without(b)))
    assert [text for text in ("", "a", "bc", "b", "abc") if neither.matches(text)] == ["", "b", "abc"]
    assert automaton_of(both(a, b)).accepting == []


FORMATS = {
    "date": ("2024-02-29 1999-12-31 2000-02-29", "2023-02-29 1900-02-29 2020-13-01 2020-1-1 2020-04-31 2020-01-01Z"),
    "time": ("12:00:00Z 23:59:60Z 08:30:06.28+01:00", "24:00:00Z 12:00:00 12:60:00Z 12:00:60Z 12:00:00.Z"),
    "date-time": ("1963-06-19T08:30:06.283185Z", "1963-06-19 1990-02-31T15:59:59Z 1990-01-01_15:59:59Z"),
    "duration": ("P4DT12H30M5S P1W PT1M P1Y2M3D", "P PT P1 P1D2H P2D1Y P1YT P1W1D 4D"),
    "email": (
        'joe.bloggs@example.com "joe-b"@example.com te~st@a.b a@[127.0.0.1]',
        "2962 joe@ a..b@c.d .a@b a@b_c a@[300.0.0.1]",
    ),
    "hostname": ("www.example.com a-b 1.de", "-bad a_b a- a..b .a"),
    "ipv4": ("192.168.0.1 0.0.0.0 255.255.255.255", "256.1.1.1 1.2.3 01.1.1.1 1.2.3.4.5"),
    "ipv6": (
        "::1 :: 1:2:3:4:5:6:7:8 ::ffff:1.2.3.4 1::8 1:2::7:8 1::2:3:4:5:6:7",
        "12345:: :2:3 1::2::3 1:2:3:4:5:6:7 1::1.2 ::%1",
    ),
    "uuid": ("2EB8AA08-AA98-11EA-B4AA-73B441D16380", "2eb8aa08-aa98-11ea-b4aa 2eb8aa08aa9811eab4aa73b441d16380"),
    "uri": (
        "http://foo.bar/?baz=qux#quux urn:a:b mailto:a@b.c http://[::1]:80/x ftp://a/b%20c",
        "abc //a http://[x] a:\\b bar,baz:foo http://a/%zz",
    ),
    "uri-reference": ("/abc abc #frag //foo.bar/ a/b:c ?q", "\\\\WIN #frag\\ment 1:a"),
    "iri": ("http://ƒøø.ßår/ http://a", "ƒøø http://a\ue000b"),
    "uri-template": ("http://a.org/{b}{?c,d*}{&e:20} {+x.y} %20 é", "{ } {} {a:0} a%2 {a,} <a> {-a}"),
    "json-pointer": ("/a/b~0c~1d / /a//b", "a /a~ /~2"),
    "relative-json-pointer": ("1 0/a 0#", "/a 01 -1 1a"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str) -> None:
    language = language_of_format(name)
    assert language is not None
    automaton = automaton_of(language)
    right, wrong = FORMATS[name]
    assert [text for text in right.split() if not automaton.matches(text)] == []
    assert [text for text in wrong.split() if automaton.matches(text)] == []


# --- followed by the grammar ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny: str) -> Tokenizer:
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens([*TAGS, *TOKENS])
    return tokenizer


FORMS = [
    {"format": "date"},
    {"pattern": "^[a-z]+(-[a-z]+)*$", "maxLength": 9},
    {"pattern": "^\\S+ \\S+$", "minLength": 5},
    {"pattern": '"q"\\n'},
    {"pattern": "^(ü|é|日本)+$"},
    {"pattern": "^(?!no)[^x]{2,4}$"},
    {"format": "ipv4", "pattern": "^10\\."},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("format", ["gemma", "functiongemma"])
def test_every_id_is_allowed_that_leads_on_and_no_other(tiny_tokenizer: Tokenizer, form: dict, format: str) -> None:
    """Masks, which are made for all ids at once, against each id taken alone; and every random walk has the form."""
    parameters = {"type": "object", "properties": {"v": {"type": "string"} | form}, "required": ["v"]}
    grammar = Grammar([{"name": "f", "parameters": parameters}], tiny_tokenizer, format)
    begin = {"gemma": "<tool_call>", "functiongemma": "<start_function_call>"}[format]
    rng, schema = random.Random(2), read_schema(parameters, "f")
    for budget in (60, 90, 120):
        whole = grammar.fresh()
        whole.advance(tiny_tokenizer.control[begin])
        ids = walk(whole, rng, budget)
        (call,) = parse_calls([tiny_tokenizer.control[begin], *ids], tiny_tokenizer, format)
        assert find_error(call.arguments, schema) is None
        at = grammar.fresh()
        at.advance(tiny_tokenizer.control[begin])
        for id_ in ids[:12]:
            allowed = at.allowed().tolist()
            for other in itertools.chain(range(0, tiny_tokenizer.size, 7), ids):
                assert allowed[other] == leads_on(at, other), tiny_tokenizer.decode([other])
            at.advance(id_)


def leads_on(grammar: Grammar, id_: int) -> bool:
    state = grammar._state
    try:
        grammar.advance(id_)
    except CallError:
        return False
    finally:
        grammar._state = state
    return True


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ({"format": "date"}, "2024-02-29", "2023-02-29"),
        ({"pattern": "^\\S+ \\S+$", "maxLength": 9}, "Zoë Größe", "Zoë Größer"),
        ({"pattern": '"q"\\n'}, 'a "q"\nb', 'a "q" b'),
        ({"pattern": "^[a-z]+$", "format": "of-our-own"}, "abc", "a1"),
    ],
    ids=str,
)
def test_forms_are_held_to_and_checked(tiny_tokenizer: Tokenizer, form: dict, right: str, wrong: str) -> None:
    schema = {"type": "object", "properties": {"v": {"type": "string"} | form}, "required": ["v"]}
    for text, fits in ((right, True), (wrong, False)):
        grammar = Grammar([{"name": "f", "parameters": schema}], tiny_tokenizer)
        grammar.advance(tiny_tokenizer.control["<tool_call>"])
        ids = [*tiny_tokenizer.encode(write("f", {"v": text})), tiny_tokenizer.control["</tool_call>"]]
        assert takes(grammar, ids) == fits
        error = find_error({"v": text}, read_schema(schema, "f"))
        assert (error is None) == fits, error
    assert error is not None
    assert error.startswith("v: ")
