"""Type hints of a tool's parameters: the JSON Schema that a hint stands for, and the value that it wants.

What a schema lets through is delivered as the hint says: an Enum's member, a tuple, a set, a date, a dataclass. A union
takes the first of its options that fits.
"""

import collections
import dataclasses
import datetime
import enum
import inspect
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Union

from minifc.calling.schema import read_schema
from minifc.calling.validation import find_error, same
from minifc.errors import CallError, SchemaError
from minifc.text.calls import write_json

_SIMPLE = {
    str: "string",
    int: "integer",
    float: "number",
    Decimal: "number",
    bool: "boolean",
    types.NoneType: "null",
    None: "null",
}
# JSON has no such values, so they are strings: what a string must be, and what makes the value of it.
_TEXTS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    datetime.date: ("a date, as 2026-01-31", datetime.date.fromisoformat),
    datetime.datetime: ("a date and time, as 2026-01-31T18:30:00", datetime.datetime.fromisoformat),
    datetime.time: ("a time, as 18:30:00", datetime.time.fromisoformat),
    uuid.UUID: ("a UUID, as 12345678-1234-5678-1234-567812345678", uuid.UUID),
    Path: ("a path", Path),
    PurePath: ("a path", PurePath),
}
_ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable), list),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    frozenset: frozenset,
    tuple: tuple,
    collections.deque: collections.deque,
}
_OBJECTS = (dict, abc.Mapping, abc.MutableMapping)
_UNIONS = (Union, types.UnionType)
_WRAPPERS = (typing.Required, typing.NotRequired, typing.Final, getattr(typing, "ReadOnly", typing.Final))  # 3.13
_ALIAS: Any = getattr(typing, "TypeAliasType", ())  # `type X = ...` of Python 3.12
Fields = dict[str, tuple[Any, bool]]  # name -> (hint, whether the field is required)


def hints_of(owner: Any) -> dict[str, Any]:
    """The hints of a function's parameters or a class's fields. Raises SchemaError for a name that is not known."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise SchemaError(f"tool {owner.__name__}: {error}; hints must be names that its module knows") from None


def hint_schema(hint: Any, where: str, description: str = "", inside: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The JSON Schema of a hint. Raises SchemaError that begins with `where` for a hint that has none.

    description: used instead of the one that Annotated gives. inside: the classes that this is a part of.
    """
    hint, annotated = _bare(hint)
    schema = _schema(hint, where, inside)
    if description := description or annotated:
        form = schema.get("description")  # what a string must look like
        schema["description"] = f"{description.rstrip('.')} ({form})" if form else description
    return schema


def from_json(value: Any, hint: Any, where: str) -> Any:
    """A JSON value, checked against the hint's schema, as the hint wants it.

    Raises CallError that begins with `where` for what no schema checks, such as a date; the code of a dataclass runs,
    and may raise anything.
    """
    hint, _ = _bare(hint)
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in _UNIONS:
        return _first_fitting(value, inner, where)
    if (choices := _choices(hint)) is not None:
        return next(member for json_value, member in choices if same(json_value, value))
    if origin in _TEXTS:
        form, make = _TEXTS[origin]
        try:
            return make(value)
        except ValueError:
            raise CallError(f"{where}: {write_json(value)} is not {form}") from None
    if origin in (int, float):
        return origin(value)
    if origin is Decimal:
        return Decimal(str(value))
    if _is_fixed(origin, inner):
        return tuple(from_json(value[n], part, f"{where}[{n}]") for n, part in enumerate(inner))
    if origin in _ARRAYS:
        return _ARRAYS[origin]([from_json(item, (*inner, Any)[0], f"{where}[{n}]") for n, item in enumerate(value)])
    if origin in _OBJECTS and inner:
        return {key: from_json(item, inner[1], f"{where}.{key}") for key, item in value.items()}
    if (fields := _fields(hint, where)) is not None:
        return hint(**{name: from_json(item, fields[name][0], f"{where}.{name}") for name, item in value.items()})
    return value


def _bare(hint: Any) -> tuple[Any, str]:
    """A hint without Annotated, NewType and the like around it, and the first description in an Annotated."""
    description = ""
    while True:
        if typing.get_origin(hint) is Annotated:
            notes = [getattr(note, "description", note) for note in hint.__metadata__]  # a text, or pydantic's Field
            description = description or next((note for note in notes if isinstance(note, str)), "")
            hint = hint.__origin__
        elif typing.get_origin(hint) in _WRAPPERS:
            (hint,) = typing.get_args(hint)
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, _ALIAS):
            hint = hint.__value__
        elif isinstance(hint, dataclasses.InitVar):
            hint = hint.type
        else:
            return hint, description


def _schema(hint: Any, where: str, inside: tuple[Any, ...]) -> dict[str, Any]:
    """The JSON Schema of a bare hint."""

    def part(hint: Any) -> dict[str, Any]:
        return hint_schema(hint, where, inside=inside)

    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint in (Any, object):
        return {}
    if origin in _SIMPLE:
        return {"type": _SIMPLE[origin]}
    if origin in _TEXTS:
        return {"type": "string", "description": _TEXTS[origin][0]}
    if (choices := _choices(hint)) is not None:
        return {"enum": [json_value for json_value, _ in choices]}
    if origin in _UNIONS:
        return {"anyOf": [part(option) for option in inner]}
    if _is_fixed(origin, inner):
        kinds = [part(kind) for kind in inner]
        alike = all(kind == kinds[0] for kind in kinds)
        items = {"items": kinds[0]} if alike else {"prefixItems": kinds, "items": False}
        return {"type": "array"} | items | {"minItems": len(inner), "maxItems": len(inner)}
    if origin in _ARRAYS:
        return {"type": "array"} | ({"items": part(inner[0])} if inner else {})
    if origin in _OBJECTS and not inner:
        return {"type": "object"}
    if origin in _OBJECTS and _bare(inner[0])[0] in (str, Any):
        return {"type": "object", "additionalProperties": part(inner[1])}
    if (fields := _fields(hint, where)) is not None:
        if hint in inside:
            raise SchemaError(f"{where}: {hint.__name__} contains itself, which a tool's parameter cannot")
        inside = (*inside, hint)
        return {
            "type": "object",
            "properties": {
                name: hint_schema(kind, f"{where}.{name}", "", inside) for name, (kind, _) in fields.items()
            },
            "required": [name for name, (_, required) in fields.items() if required],
            "additionalProperties": False,
        }
    raise SchemaError(
        f"{where}: {hint} has no JSON schema here; use str, int, float, bool, list[...], tuple[...], dict[str, ...], "
        "Literal, an Enum, a date, a dataclass or a TypedDict"
    )


def _choices(hint: Any) -> list[tuple[Any, Any]] | None:
    """Of an Enum or a Literal: each value as JSON, and the member that it stands for."""
    if typing.get_origin(hint) is Literal:
        members = typing.get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        members = tuple(hint)
    else:
        return None
    return [(_json_of(member) if isinstance(member, enum.Enum) else member, member) for member in members]


def _json_of(member: enum.Enum) -> Any:
    """The member's value, or its name if JSON has no such value."""
    return member.value if isinstance(member.value, str | int | float | None) else member.name


def _is_fixed(origin: Any, inner: tuple[Any, ...]) -> bool:
    """Whether this is a tuple with a kind for each place, `tuple[int, str]`."""
    return origin is tuple and bool(inner) and inner[-1] is not ...


def _fields(hint: Any, where: str) -> Fields | None:
    """The fields of a TypedDict, dataclass or NamedTuple; None if the hint is none of these."""
    if not isinstance(hint, type):
        return None
    if issubclass(hint, dict) and hasattr(hint, "__required_keys__"):
        return {name: (kind, _is_required(kind, name, hint)) for name, kind in hints_of(hint).items()}
    if not dataclasses.is_dataclass(hint) and not (issubclass(hint, tuple) and hasattr(hint, "_fields")):
        return None
    hints, fields = hints_of(hint), Fields()
    for name, parameter in inspect.signature(hint).parameters.items():
        if name not in hints:
            raise SchemaError(f"{where}.{name}: has no type hint")
        fields[name] = hints[name], parameter.default is parameter.empty
    return fields


def _is_required(kind: Any, name: str, owner: Any) -> bool:
    """Whether a TypedDict needs a field. Where its hints are texts, `__required_keys__` does not know NotRequired."""
    while typing.get_origin(kind) is Annotated:
        kind = kind.__origin__
    known = {typing.Required: True, typing.NotRequired: False}
    return known.get(typing.get_origin(kind), name in owner.__required_keys__)


def _first_fitting(value: Any, options: tuple[Any, ...], where: str) -> Any:
    """The value as the first option wants it whose schema takes it, and that can be made of it."""
    errors: list[CallError] = []
    for option in options:
        if _schema_error(value, option, where) is None:
            try:
                return from_json(value, option, where)
            except CallError as error:
                errors.append(error)
    raise errors[0]


def _schema_error(value: Any, hint: Any, where: str) -> str | None:
    return find_error(value, read_schema(hint_schema(hint, where), where), where)
