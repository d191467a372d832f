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


def test_a_docstring_without_parameters() -> None:
    assert read_docstring("", []) == ("", {})
    assert read_docstring("Say when: now.\n\nThen rest.", []) == ("Say when: now. Then rest.", {})
