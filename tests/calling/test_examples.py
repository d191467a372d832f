"""Examples in docstrings: read without executing anything, checked when the tool is made, asked as tests."""

from pathlib import Path
from typing import Any, Literal

import pytest

from minifc import evaluate
from minifc.calling.tools import tool
from minifc.errors import OptionError, SchemaError
from minifc.evaluation.questions import tool_questions
from minifc.text.calls import Call
from minifc.text.examples import Example, read_examples


def read(text: str) -> list[Example]:
    return read_examples(text, "tool f")[1]


def set_lamp(room: Literal["kitchen", "hall"], percent: int = 100) -> str:
    """Set a lamp.

    room: where it is
    >>> "Make the kitchen half as bright" -> set_lamp(room="kitchen", percent=50)
    >>> 'Light in "the hall" -> now' -> set_lamp(room="hall")
    >>> "Both halves, please" -> set_lamp(room="hall", percent=50),
    ...     set_lamp(room="kitchen", percent=50)
    >>> "What lamps are there?" -> no call
    percent: how bright
    """
    return ""


def test_examples_are_no_part_of_the_description() -> None:
    made = tool(set_lamp)
    assert made.description == "Set a lamp."
    assert made.parameters["properties"]["room"]["description"] == "where it is"
    assert made.parameters["properties"]["percent"]["description"] == "how bright"
    assert made.examples == (
        Example("Make the kitchen half as bright", (Call("set_lamp", {"room": "kitchen", "percent": 50}),)),
        Example('Light in "the hall" -> now', (Call("set_lamp", {"room": "hall"}),)),
        Example(
            "Both halves, please",
            (Call("set_lamp", {"room": "hall", "percent": 50}), Call("set_lamp", {"room": "kitchen", "percent": 50})),
        ),
        Example("What lamps are there?", ()),
    )


def test_values_are_json() -> None:
    (example,) = read('>>> "x" -> f(a=-1, b=[1.5, None, {"c": True}], d="é", e={})')
    assert example.calls[0].arguments == {"a": -1, "b": [1.5, None, {"c": True}], "d": "é", "e": {}}


@pytest.mark.parametrize("text", [">>> f(1)\n3", ">>> 'a'.upper()\n'A'", '>>> "a" + "b"', "a -> b", ">>> x = 1 -> 2"])
def test_a_doctest_is_left_alone(text: str) -> None:
    assert read_examples(text, "tool f") == (text, [])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('>>> "x" -> g', "neither a call nor 'no call'"),
        ('>>> "x" -> f(1)', "name the arguments of f"),
        ('>>> "x" -> f(**{"a": 1})', "name the arguments of f"),
        ('>>> "x" -> f(a=open("y"))', "a is not a JSON value"),
        ('>>> "x" -> f(a=1e999)', "a is not a JSON value"),
        ('>>> "x" -> f(a=b"y")', "a is not a JSON value"),
        ('>>> "x" -> f(a=', "neither a call nor 'no call'"),
        ('>>> "x" -> a.f()', "neither a call nor 'no call'"),
        ('>>> "" -> f()', 'is not "what is said" -> call'),
        ('>>> "x" "y" z -> f()', 'is not "what is said" -> call'),
        ('>>> "x" -> ', "neither a call nor 'no call'"),
    ],
)
def test_what_is_no_example_is_one_line(line: str, why: str) -> None:
    with pytest.raises(SchemaError, match=r"^tool f, example 1: ") as raised:
        read(line)
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("example", "why"),
    [
        ('"x" -> set_lamp(room="attic")', 'room: "attic" is not "kitchen" or "hall"'),
        ('"x" -> set_lamp(percent=1)', "room is missing"),
        ('"x" -> set_lamp(room="hall", colour=1)', "colour is unknown"),
        ('"x" -> find_it()', "calls find_it; an example stands with the tool that it calls"),
    ],
)
def test_an_example_that_is_no_call_of_its_tool_is_refused(example: str, why: str) -> None:
    def set_lamp(room: Literal["kitchen", "hall"], percent: int = 100) -> str:
        return ""

    set_lamp.__doc__ = f"Set a lamp.\n\n>>> {example}"
    with pytest.raises(SchemaError) as raised:
        tool(set_lamp)
    assert str(raised.value) == f"tool set_lamp, example 1: {why}" or why in str(raised.value)


def test_examples_are_questions() -> None:
    questions = tool_questions([tool(set_lamp)])
    assert [question.expected for question in questions] == [("set_lamp",), ("set_lamp",), ("set_lamp",) * 2, ()]
    right = Call("set_lamp", {"room": "hall"})
    assert questions[1].rule is not None
    assert questions[1].rule([right]) is None
    assert questions[1].rule([right, right]) is not None


def test_evaluate_asks_the_examples(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "ages.py").write_text(
        "import minifc\n\n\n@minifc.tool\ndef measure_age(year: int) -> int:\n"
        '    """Use this to measure an age.\n\n'
        '    >>> "Please measure an age with year 1958." -> measure_age(year=1958)\n'
        '    >>> "Please bake a cake with flavour lemon." -> no call\n    """\n'
    )
    evaluate.main(["--tools", str(tmp_path / "ages.py"), "--how", "constrained"])
    out = capsys.readouterr().out
    assert "right answers" in out
    assert "100.0%" in out
    (tmp_path / "bare.py").write_text("import minifc\n\n\n@minifc.tool\ndef add(a: int) -> int:\n    return a\n")
    with pytest.raises(OptionError, match="no tool has an example"):
        evaluate.main(["--tools", str(tmp_path / "bare.py")])
