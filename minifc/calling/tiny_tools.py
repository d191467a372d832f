"""Tools that the embedded model can use: named by a verb and a noun, with one or two details each."""

from minifc.calling.tools import tool

YEAR = 2026  # not today's, so that a conversation in the documentation stays true


@tool
def find_birthday(owner: str) -> dict[str, int]:
    """Use this to find a birthday."""
    return {"month": sum(owner.encode()) % 12 + 1}  # made up: every name has one


@tool
def measure_age(year: int) -> dict[str, int]:
    """Use this to measure an age."""
    return {"age": YEAR - year}


@tool
def weigh_parcel(width: int, height: int) -> dict[str, int]:
    """Use this to weigh a parcel."""
    return {"weight": width * height}


TOOLS = [find_birthday, measure_age, weigh_parcel]
QUESTION = "Please measure an age with year 1958."
