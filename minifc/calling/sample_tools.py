"""A few tools to play with."""

import ast
import datetime
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minifc.calling.tools import Tool, tool

MOST_BITS = 4096  # of a whole number on the way to a result
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_NAMES: dict[str, Any] = {"pi": math.pi, "e": math.e, "abs": abs, "round": round, "sqrt": math.sqrt, "exp": math.exp,
    "log": math.log, "sin": math.sin, "cos": math.cos, "tan": math.tan}  # fmt: skip

# How many metres, kilograms, litres, seconds one of each is.
_UNITS: dict[str, dict[str, float]] = {
    "length": {"m": 1, "km": 1000, "cm": 0.01, "mm": 0.001, "mi": 1609.344, "yd": 0.9144, "ft": 0.3048, "in": 0.0254},
    "mass": {"kg": 1, "g": 0.001, "t": 1000, "lb": 0.45359237, "oz": 0.028349523125},
    "volume": {"l": 1, "ml": 0.001, "gal": 3.785411784, "pt": 0.473176473},
    "time": {"s": 1, "min": 60, "h": 3600, "day": 86400, "week": 604800},
}
Unit = Literal["m", "km", "cm", "mm", "mi", "yd", "ft", "in", "kg", "g", "t", "lb", "oz", "l", "ml", "gal", "pt", "s",
    "min", "h", "day", "week", "C", "F", "K"]  # fmt: skip


@tool
def calculate_value(expression: str) -> float:
    """Work out an arithmetic expression.

    expression: numbers, + - * / // % **, brackets, pi, e, and abs, round, sqrt, exp, log, sin, cos, tan
    """
    if len(expression) > 500:
        raise ValueError("longer than 500 characters")
    value: float = _value(ast.parse(expression.strip(), mode="eval").body)
    return value


def _value(node: ast.AST) -> Any:
    """By hand and not by eval: only what is listed here can be asked for."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name) if name in _NAMES and not callable(_NAMES[name]):
            return _NAMES[name]
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if callable(_NAMES.get(name)):
            return _NAMES[name](_value(argument))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, power = _value(left), _value(right)
            if isinstance(base, int) and isinstance(power, int) and base.bit_length() * abs(power) > MOST_BITS:
                raise ValueError(f"{base} ** {power} is too large")
            return base**power
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            result = _OPERATORS[type(op)](_value(left), _value(right))
            if isinstance(result, int) and result.bit_length() > MOST_BITS:
                raise ValueError("a number is too large")
            return result
    raise ValueError(f"{ast.unparse(node)} is not arithmetic")


@tool
def convert_amount(amount: float, unit: Unit, target: Unit) -> float:
    """Convert an amount from one unit to another.

    unit: what the amount is measured in
    target: what it shall be measured in
    """
    if {unit, target} <= {"C", "F", "K"}:
        kelvin = {"C": amount + 273.15, "F": (amount + 459.67) / 1.8, "K": amount}[unit]
        return round({"C": kelvin - 273.15, "F": kelvin * 1.8 - 459.67, "K": kelvin}[target], 9)
    for units in _UNITS.values():
        if {unit, target} <= units.keys():
            return amount * units[unit] / units[target]
    raise ValueError(f"{unit} and {target} do not measure the same thing")


@tool
def shift_date(date: str, days: int) -> str:
    """The date that is some days after another, or before it.

    date: written 2026-01-31
    days: negative for days before
    """
    day = datetime.date.fromisoformat(date) + datetime.timedelta(days=days)
    return f"{day.isoformat()}, a {day:%A}"


@tool
def compare_date(first: str, second: str) -> int:
    """How many days lie between two dates.

    first: written 2026-01-31
    second: written alike
    """
    return (datetime.date.fromisoformat(second) - datetime.date.fromisoformat(first)).days


def file_reader(folder: str | Path) -> Tool:
    """A tool that reads text files below one folder and nothing else."""
    return tool(_Folder(Path(folder).resolve()).read_file)


@dataclass(frozen=True)
class _Folder:
    root: Path

    def read_file(self, path: str) -> str:
        """Read a text file.

        path: relative to the folder
        """
        file = (self.root / path).resolve()  # links followed: they may lead outside
        if not file.is_relative_to(self.root):
            raise PermissionError(f"{path} is outside the folder")
        with file.open(encoding="utf-8", errors="replace") as text:
            return text.read(100_000)


TOOLS = [calculate_value, convert_amount, shift_date, compare_date]
