"""What keeps a JSON value from being what a schema says, in a line that a model or a person can act on."""

from typing import Any

from minifc.calling.kinds import (
    AnyOf,
    Array,
    Check,
    Checked,
    Constants,
    Contains,
    Dependent,
    ExactlyOne,
    If,
    MultipleOf,
    Names,
    Not,
    Number,
    Object,
    Reference,
    Schema,
    String,
    Unique,
)
from minifc.calling.number import LARGEST, as_written
from minifc.calling.regular import automaton_of, matches
from minifc.errors import CallError
from minifc.text.calls import write_json


def find_error(value: Any, schema: Schema, where: str = "") -> str | None:
    """What keeps a JSON value from being of this kind, or None: `unit: 'm' is not a number`."""
    named = f"{where}: " if where else ""
    match schema:
        case Reference():
            return find_error(value, schema.target, where)
        case Checked():
            found = find_error(value, schema.schema, where)
            missed = (_check_error(value, check, where, named) for check in schema.checks)
            return found or next((error for error in missed if error), None)
        case AnyOf():
            return _option_error(value, schema.options, where, named)
        case Constants():
            if any(same(value, constant) for constant in schema.values):
                return None
            return f"{named}{shown(value)} is not {' or '.join(map(write_json, schema.values))}"
        case String():
            if not isinstance(value, str):
                return f"{named}{shown(value)} is not a string"
            for name, language in schema.patterns:
                if not matches(language, value):
                    return f"{named}{shown(value)} does not have the {name}"
            return _size_error(len(value), schema.shortest, schema.longest, "characters", named)
        case Number():
            return _number_error(value, schema, named)
        case Array():
            return _array_error(value, schema, where, named)
    assert isinstance(schema, Object)  # AllOf is only there while a schema is read
    return _object_error(value, schema, where, named)


def _option_error(value: Any, options: tuple[Schema, ...], where: str, named: str) -> str | None:
    misses: list[str] = []
    for option in options:
        if (found := find_error(value, option, where)) is None:
            return None
        misses.append(found)
    if not misses:
        return f"{named}{shown(value)} is not allowed"
    return misses[0] if len(misses) == 1 else f"{named}{shown(value)} fits no option"


def _array_error(value: Any, schema: Array, where: str, named: str) -> str | None:
    if not isinstance(value, list):
        return f"{named}{shown(value)} is not an array"
    for number, item in enumerate(value):
        kind = schema.first[number] if number < len(schema.first) else schema.items
        if kind is not None and (found := find_error(item, kind, f"{where}[{number}]")):
            return found
    return _size_error(len(value), schema.fewest, schema.most, "items", named)


def _object_error(value: Any, schema: Object, where: str, named: str) -> str | None:
    if not isinstance(value, dict):
        return f"{named}{shown(value)} is not an object"
    if missing := [name for name in schema.properties if name in schema.required and name not in value]:
        return f"{named}{missing[0]} is missing"
    for name, item in value.items():
        kind = schema.properties.get(name)
        if kind is None:
            kind = next((kind for names, kind in schema.others if automaton_of(names).matches(name)), None)
        if kind is None:
            return f"{named}{name} is unknown; there are {', '.join(schema.properties) or 'none'}"
        if found := find_error(item, kind, f"{where}.{name}" if where else name):
            return found
    return _size_error(len(value), schema.fewest, schema.most, "properties", named)


def _number_error(value: Any, schema: Number, named: str) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and not abs(value) <= LARGEST:
        return f"{named}{shown(value)} is not a number that a double can be"
    if not number or (schema.integer and value != int(value)):
        return f"{named}{shown(value)} is not {'an integer' if schema.integer else 'a number'}"
    if schema.within.step and value % schema.within.step:
        return f"{named}{shown(value)} is no multiple of {schema.within.step}"
    return None if schema.within.holds(as_written(value)) else f"{named}{shown(value)} is out of bounds"


def _check_error(value: Any, check: Check, where: str, named: str) -> str | None:
    """What a complete value lacks. A check that is about another type of value has nothing to say."""
    match check:
        case ExactlyOne():
            fitting = sum(find_error(value, option) is None for option in check.options)
            return f"{named}{shown(value)} fits {fitting} options of oneOf, not one" if fitting != 1 else None
        case Not():
            return f"{named}{shown(value)} is what it must not be" if find_error(value, check.schema) is None else None
        case If():
            fits = find_error(value, check.condition) is None
            return find_error(value, check.then if fits else check.otherwise, where)
        case Unique() if isinstance(value, list):
            twice = [item for number, item in enumerate(value) if any(same(item, other) for other in value[:number])]
            return f"{named}{shown(twice[0])} is in it twice" if twice else None
        case MultipleOf() if isinstance(value, (int, float)) and not isinstance(value, bool):
            return (
                f"{named}{shown(value)} is no multiple of {float(check.step)}"
                if as_written(value) % check.step
                else None
            )
        case Contains() if isinstance(value, list):
            count = sum(find_error(item, check.item) is None for item in value)
            return _size_error(count, check.fewest, check.most, "items as contains wants them", named)
        case Names() if isinstance(value, dict):
            errors = (find_error(name, check.schema) for name in value)
            return next((f"{named}the name {error}" for error in errors if error), None)
        case Dependent() if isinstance(value, dict) and check.name in value:
            return find_error(value, check.schema, where)
    return None


def _size_error(size: int, fewest: int, most: int | None, what: str, named: str) -> str | None:
    if size < fewest:
        return f"{named}{size} {what}, and at least {fewest} are needed"
    if most is not None and size > most:
        return f"{named}{size} {what}, and at most {most} are allowed"
    return None


def shown(value: Any) -> str:
    """A value in an error, not too long."""
    try:
        text = write_json(value)
    except CallError:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)
