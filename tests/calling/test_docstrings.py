"""Descriptions out of docstrings, in the ways in which people write them."""

import inspect

import pytest

from minifc.calling.docstrings import read_docstring

OWN = """Look a city up.

Uses the national register.
It is slow: give it time.

city: the city to look up,
    as it is written there
limit: how many at most
other: is no parameter
    limit: nor is this one
"""

GOOGLE = """Look a city up.

Uses the national register.
It is slow: give it time.

Args:
    city: the city to look up,
        as it is written there
    other: is no parameter
        limit: nor is this one
    limit (int, optional): how many at most

Returns:
    city: The city that was found.
    limit: The limit that was used.

Raises:
    city: never
"""

NUMPY = """Look a city up.

Uses the national register.
It is slow: give it time.

Parameters
----------
city : str
    the city to look up,
    as it is written there
other : str
    limit : of no parameter
limit : int, optional
    how many at most

Returns
-------
city : str
    The city that was found.
limit : int
    The limit that was used.
"""

SPHINX = """Look a city up.

Uses the national register.
It is slow: give it time.

:param city: the city to look up,
    as it is written there
:type city: str
:param int limit: how many at most
:return: something about
    city: the city that was found
:rtype: dict
"""


@pytest.mark.parametrize("text", [OWN, GOOGLE, NUMPY, SPHINX], ids=["own", "Google", "numpy", "Sphinx"])
def test_descriptions_of_a_function_and_its_parameters(text: str) -> None:
    assert read_docstring(inspect.cleandoc(text), ["city", "limit"]) == (
        "Look a city up. Uses the national register. It is slow: give it time.",
        {"city": "the city to look up, as it is written there", "limit": "how many at most"},
    )


def test_a_returns_section_describes_no_parameter() -> None:
    text = "Look a city up.\n\nReturns:\n    city: the city that was found\n\nlimit: how many"
    assert read_docstring(text, ["city", "limit"]) == ("Look a city up.", {"limit": "how many"})


def test_the_first_description_counts() -> None:
    assert read_docstring("city: one\n    or two\ncity: another\n    one", ["city"]) == ("", {"city": "one or two"})


EXPECTED = {"city": "the city, as written there", "limit": "how many"}


@pytest.mark.parametrize(
    "text",
    [
        "Look.\n\ncity: the city,\nas written there\nlimit: how many\nReturns the city.",
        "Look.\n\nargs:\n  city (str): the city,\n  as written there\n  limit: how many\nreturns:\n  city: a city",
        "Look.\n\n    Args:\n        city: the city,\n         as written there\n        limit: how many\n    Result:\n"
        "        limit: the limit used",
        "Look.\n\nKeyword Arguments:\n    city:\n        the city,\n\n        as written there\n    limit: how many",
        "Look.\n\nParameters:\n- city: the city, as written there\n- `limit` (int): how many\n\nOutput:\n- city: found",
        "Look.\n\n* **city**: the city,\n  as written there\n* **limit:** how many",
        "Look.\n\n:param str city: the city,\n  as written there\n:arg limit: how many\n:returns: x\n  city: found",
        "Look.\n\n@param city: the city, as written there\n@param limit: how many\n@return: the city\n    city: found",
        "Look.\n\nReturns\n-------\ncity : str\n    found\n\nParameters\n==========\ncity : str\n    the city,\n\n"
        "    as written there\nlimit\n    how many",
        "Look.\n\nReturn values:\n    city: found\n\nArgs:\n    city (dict[str, (int)], optional): the city,"
        " as written there\n    limit : how many\n\nExample usage:\n    city: limit: 5",
    ],
)
def test_other_ways_of_writing_the_same(text: str) -> None:
    assert read_docstring(inspect.cleandoc(text), ["city", "limit"]) == ("Look.", EXPECTED)


def test_parameters_that_share_a_description() -> None:
    google = "Args:\n    x, y (int): a place\n    z: another"
    numpy = "Parameters\n----------\nx, y : int\n    a place\nz\n    another"
    for text in (google, numpy):
        assert read_docstring(text, ["x", "y", "z"])[1] == {"x": "a place", "y": "a place", "z": "another"}


def test_a_parameter_may_have_the_name_of_a_section() -> None:
    text = "Write.\n\nArgs:\n    output:\n        where to\n    notes: what"
    assert read_docstring(text, ["output", "notes"])[1] == {"output": "where to", "notes": "what"}
    assert read_docstring("Write.\n\noutput:\n    where to", ["output"]) == ("Write.", {"output": "where to"})


def test_a_name_that_begins_with_a_parameter_s_is_none() -> None:
    assert read_docstring("Look.\n\nArgs:\n    city_name: no\n    city: yes", ["city"])[1] == {"city": "yes"}


def test_a_docstring_without_parameters() -> None:
    assert read_docstring("", []) == ("", {})
    assert read_docstring("Say when: now.\n\nThen rest.", []) == ("Say when: now. Then rest.", {})
