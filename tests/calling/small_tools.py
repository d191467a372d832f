"""Tools such as the embedded model's world has, for README's conversation."""

from minifc import tool


@tool
def find_birthday(owner: str) -> dict:
    """Use this to find a birthday."""
    return {"month": {"Ada": 12, "Nina": 2}.get(owner, 1)}


@tool
def measure_age(year: int) -> dict:
    """Use this to measure an age."""
    return {"age": 2026 - year}


@tool
def weigh_parcel(width: int, height: int) -> dict:
    """Use this to weigh a parcel."""
    return {"weight": width * height}
