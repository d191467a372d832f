"""The leaderboard's rules, on entries of our own and against its own checker on all of its own."""

import copy
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from minifc.calling.grammar import Grammar
from minifc.errors import DataError, SchemaError
from minifc.evaluation.bfcl import CATEGORIES, Entry, find_error, json_schema, read_bfcl
from minifc.evaluation.judging import Score, judge
from minifc.evaluation.questions import QuestionSet, bfcl_question, question_of
from minifc.text.calls import TAGS, Call
from minifc.text.tokenizer import load_tokenizer

PACKAGE = "bfcl-eval==2026.3.23"
AREA = {
    "name": "geo.area",
    "description": "Works out an area.",
    "parameters": {
        "type": "dict",
        "properties": {
            "base": {"type": "float"},
            "unit": {"type": "string", "default": "cm"},
            "points": {"type": "array", "items": {"type": "integer"}},
            "style": {"type": "dict", "properties": {"colour": {"type": "string"}}},
        },
        "required": ["base"],
    },
}
RIGHT = {
    "geo.area": {
        "base": [10, 10.0],
        "unit": ["", "square cm"],
        "points": ["", [1, 2]],
        "style": ["", {"colour": ["red"]}],
    }
}


def entry(category: str = "simple_python", answers: Any = (RIGHT,), functions: Any = (AREA,)) -> Entry:
    return Entry("x", category, [], list(functions), list(answers) if answers is not None else None)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"base": 10}, None),
        ({"base": 10.0, "unit": "Square-CM"}, None),
        ({"base": 10, "points": [1, 2], "style": {"colour": "RED"}}, None),
        ({"base": "10"}, "base is '10'"),
        ({"base": 11}, "base is 11"),
        ({"base": True}, "base is True"),
        ({"unit": "square cm"}, "base is missing"),
        ({"base": 10, "unit": "m"}, "unit is 'm'"),
        ({"base": 10, "points": [2, 1]}, "points is"),
        ({"base": 10, "points": ["1", 2]}, "points is"),
        ({"base": 10, "style": {"colour": "blue"}}, "style is"),
        ({"base": 10, "style": {"colour": "red", "size": 1}}, "style is"),
        ({"base": 10, "other": 1}, "other is too much"),
    ],
    ids=str,
)
def test_one_call(arguments: dict[str, Any], why: str | None) -> None:
    found = find_error([Call("geo.area", arguments)], entry())
    assert (found is None) if why is None else (found is not None and why in found)


def test_what_is_not_marked_as_optional_must_be_given() -> None:
    answer = {"geo.area": {"base": [10], "unit": ["cm"]}}
    assert find_error([Call("geo.area", {"base": 10})], entry(answers=[answer])) == "unit is missing"


def test_names_and_numbers_of_calls() -> None:
    right = Call("geo.area", {"base": 10})
    assert find_error([right, right], entry()) == "2 calls instead of 1"
    assert find_error([], entry()) == "0 calls instead of 1"
    assert find_error([Call("area", {"base": 10})], entry()) == "area was called instead of geo.area"


def test_parallel_calls_come_in_any_order() -> None:
    answers = [{"geo.area": {"base": [1]}}, {"geo.area": {"base": [2]}}]
    one, two = Call("geo.area", {"base": 1}), Call("geo.area", {"base": 2})
    assert find_error([two, one], entry("parallel", answers)) is None
    assert "no call is the one" in (find_error([one, one], entry("parallel", answers)) or "")


def test_where_no_call_is_right() -> None:
    call = [Call("geo.area", {"base": 1})]
    assert find_error(call, entry("irrelevance", None)) == "a call where none fits"
    assert find_error([], entry("irrelevance", None)) is None
    assert find_error(call, entry("live_relevance", None)) is None
    assert find_error([], entry("live_relevance", None)) == "no call"


def test_what_cannot_be_read_is_no_call() -> None:
    """The leaderboard's rule: right where none fits, as is any other text."""
    assert find_error(None, entry("irrelevance", None)) is None
    assert find_error(None, entry("live_relevance", None)) == "no call"
    assert find_error(None, entry()) is not None


def test_any_tool_is_right_where_only_a_call_is_asked_for(tiny: Path) -> None:
    question = bfcl_question(entry("live_relevance", None))
    tokenizer = load_tokenizer(tiny)
    called = judge(
        tokenizer.encode('<tool_call>{"name": "geo.area"}</tool_call>'), question.expected, question.rule, tokenizer
    )
    silent = judge(tokenizer.encode("No."), question.expected, question.rule, tokenizer)
    score = Score.of([called, silent])
    assert (score.right_tools.count, score.right_tools.total, score.false_refusals.count) == (1, 2, 1)
    assert question.right == "a call"


def test_types_become_json_schema() -> None:
    assert json_schema(AREA["parameters"])["properties"]["base"] == {"type": "number"}
    assert json_schema({"type": "any", "optional": True}) == {}
    assert json_schema({"type": "tuple", "items": {"type": "dict"}}) == {"type": "array", "items": {"type": "object"}}


def test_files_that_are_not_there_or_not_right(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no BFCL_v\*_multiple\.json"):
        read_bfcl(tmp_path, ["multiple"])
    (tmp_path / "BFCL_v4_irrelevance.json").write_text('{"id": "a"}\n')
    with pytest.raises(DataError, match="line 1: not an entry"):
        read_bfcl(tmp_path, ["irrelevance"])
    (tmp_path / "BFCL_v4_irrelevance.json").write_text("a\n")
    with pytest.raises(DataError, match="not a file of JSON lines"):
        read_bfcl(tmp_path, ["irrelevance"])


def test_a_category_is_not_taken_for_another_that_ends_alike(tmp_path: Path) -> None:
    row = {"id": "a", "question": [[]], "function": []}
    for name in ("irrelevance", "live_irrelevance"):
        (tmp_path / f"BFCL_v4_{name}.json").write_text(json.dumps(row | {"id": name}))
    assert [one.id for one in read_bfcl(tmp_path, ["irrelevance"])] == ["irrelevance"]


# --- the leaderboard's own entries -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bfcl-eval alone, without the numpy and the rest that it pins."""
    folder = tmp_path_factory.mktemp("bfcl")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), PACKAGE]
    subprocess.run(pip, check=True, capture_output=True)
    return folder


def chosen(right: Any, rng: random.Random) -> Any:
    """A right value: dictionaries hold lists of right values themselves."""
    if isinstance(right, dict):
        listed = {key: values if isinstance(values, list) else [values] for key, values in right.items()}
        picked = {key: rng.choice(values) for key, values in listed.items() if values}
        return {key: chosen(value, rng) for key, value in picked.items() if value != ""}
    if isinstance(right, list):
        return [chosen(item, rng) for item in right]
    return right


def right_calls(answers: Any, rng: random.Random) -> list[dict[str, dict[str, Any]]]:
    calls = []
    for answer in answers:
        ((name, parameters),) = answer.items()
        given = {key: rng.choice(values) for key, values in parameters.items() if values}
        calls.append({name: {key: chosen(value, rng) for key, value in given.items() if value != ""}})
    rng.shuffle(calls)
    return calls


# Each makes another value out of a right one.
CHANGES: dict[str, Any] = {
    "a string": lambda value: "other",
    "a number": lambda value: 987,
    "a fraction": lambda value: 9.5,
    "true": lambda value: True,
    "a list": lambda value: ["x"],
    "an empty list": lambda value: [],
    "a dictionary": lambda value: {"x": 1},
    "null": lambda value: None,
    "capitals": lambda value: value.upper() + " ." if isinstance(value, str) else value,
    "a whole number as a fraction": lambda value: float(value) if type(value) is int else value,
    "a number as a string": lambda value: str(value),
    "turned round": lambda value: value[::-1] if isinstance(value, list) else value,
}


def variations(calls: list[dict[str, dict[str, Any]]], rng: random.Random) -> dict[str, Any]:
    """The right calls, and what differs from them in one way each."""
    cases: dict[str, Any] = {"right": calls, "no call": [], "one call more": [*calls, copy.deepcopy(calls[0])]}

    def other() -> tuple[list[Any], str, dict[str, Any]]:
        copied = copy.deepcopy(calls)
        ((name, given),) = rng.choice(copied).items()
        return copied, name, given

    renamed, name, _ = other()
    cases["another name"] = [{key + "_" if key == name else key: given for key, given in c.items()} for c in renamed]
    cases["one argument more"], _, given = other()
    given["unheard_of"] = 1
    cases["one argument less"], _, given = other()
    if given:
        del given[rng.choice(list(given))]
    for kind, change in CHANGES.items():
        cases[kind], _, given = other()
        if given:
            key = rng.choice(list(given))
            given[key] = change(given[key])
    return cases


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_the_two_parts_of_a_category_are_the_whole_in_its_order(count: int) -> None:
    whole = QuestionSet("simple", [question_of([{"role": "user", "content": str(i)}], [], []) for i in range(count)])
    first, second = whole.part("first").questions, whole.part("second").questions
    assert [*first, *second] == whole.part("all").questions == whole.questions
    assert len(first) - len(second) in (0, 1)


@pytest.mark.slow
def test_the_checker_of_the_leaderboard_agrees_everywhere(package: Path) -> None:
    rng = random.Random(0)
    asked: list[tuple[str, Entry, Any]] = []
    for one in read_bfcl(package, [name for name in CATEGORIES if "relevance" not in name]):
        asked += [(kind, one, calls) for kind, calls in variations(right_calls(one.answers, rng), rng).items()]
    cases = [{"functions": e.functions, "calls": c, "answers": e.answers, "category": e.category} for _, e, c in asked]
    script = Path(__file__).with_name("bfcl_checker.py")
    run = subprocess.run(
        [sys.executable, str(script), str(package)], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    table: Counter[tuple[str, str]] = Counter()
    different = []
    for (kind, one, calls), theirs in zip(asked, json.loads(run.stdout), strict=True):
        ours = find_error([Call(name, given) for call in calls for name, given in call.items()], one)
        if isinstance(theirs, str):  # it crashed: that is no verdict
            table[kind, "theirs crashes"] += 1
        elif theirs == (ours is None):
            table[kind, "both right" if theirs else "both wrong"] += 1
        else:
            different.append((kind, one.id, calls, one.answers, theirs, ours))
    for (kind, what), count in sorted(table.items()):
        print(f"{kind:30} {what:15} {count:6}")
    assert not different, different[:5]
    assert sum(count for (_, what), count in table.items() if what != "theirs crashes") > 25_000
    assert table["right", "both right"] > 2000  # it refuses some of its own answers too


@pytest.mark.slow
def test_a_grammar_for_every_tool_set_of_the_leaderboard(package: Path, tiny: Path) -> None:
    """Some of their schemas contradict themselves: numbers to choose from where a string is wanted."""
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_tokens(list(TAGS))
    refused = []
    entries = read_bfcl(package)
    for one in entries:
        try:
            Grammar(one.tools, tokenizer)
        except SchemaError as error:
            refused.append(f"{one.id}: {error}")
    print(*refused, sep="\n")
    assert len(refused) < 0.04 * len(entries)
