"""A tool's JSON Schema, read into the few kinds of value that a grammar can follow.

A keyword that is not listed here is an error when the tool is registered: to ignore it would let through
what the tool refuses. Two rules are ours. An object takes the properties that it lists and no others, unless
`additionalProperties` says so or it lists none at all. And a part of a schema that no value can satisfy is an
error, wherever it stands.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from minifc.calling.formats import language_of_format
from minifc.calling.number import LARGEST, Range, as_written
from minifc.calling.patterns import language_of
from minifc.calling.regular import ANY, Language, automaton_of, both, repeat
from minifc.errors import CallError, SchemaError
from minifc.text.calls import MAX_DEPTH, MAX_LENGTH, write_json


@dataclass(frozen=True, eq=False)
class String:
    shortest: int = 0  # in characters
    longest: int | None = None
    patterns: tuple[tuple[str, Language], ...] = ()  # by what the schema calls them: pattern ^a, format date
    form: Language | None = None  # all of that together, if there is a pattern


@dataclass(frozen=True, eq=False)
class Number:
    integer: bool = False
    within: Range = field(default_factory=Range)


@dataclass(frozen=True, eq=False)
class Constants:
    """One of these values and nothing else."""

    values: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Array:
    items: "Schema"
    fewest: int = 0
    most: int | None = None


@dataclass(frozen=True, eq=False)
class Object:
    properties: Mapping[str, "Schema"]
    required: frozenset[str]
    others: "Schema | None" = None  # of the properties that are not listed


@dataclass(frozen=True, eq=False)
class AnyOf:
    options: tuple["Schema", ...]


@dataclass(frozen=True, eq=False)
class Reference:
    """Another place in the same schema, perhaps one that this one is part of."""

    name: str
    places: Mapping[str, "Schema"]

    @property
    def target(self) -> "Schema":
        return self.places[self.name]


Schema = String | Number | Constants | Array | Object | AnyOf | Reference

_ANNOTATIONS = {
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "$comment",
    "$schema",
    "$defs",
    "definitions",
}
_KEYWORDS = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set(),
    "null": set(),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")
_anything: dict[str, Schema] = {}
ANYTHING = Reference("anything", _anything)
_anything["anything"] = AnyOf(
    (String(), Number(), Constants((True, False, None)), Array(ANYTHING), Object({}, frozenset(), ANYTHING))
)


def read_schema(schema: Any, where: str) -> Schema:
    """The schema as kinds of value. Raises SchemaError that begins with `where` and names the place in it."""
    try:
        found = _Reader(schema, where).read(schema, where)
        nesting(found, where)
    except RecursionError:
        raise SchemaError(f"{where}: its schema is nested too deeply to be followed") from None
    return found


def nesting(schema: Schema, where: str = "schema") -> dict[Schema, int]:
    """For each part, how many brackets inside brackets its shallowest value has.

    Raises SchemaError if a part has no value, because it contains itself without end, or none within MAX_DEPTH.
    """
    parts = list(_parts(schema, set()))
    depths: dict[Schema, float] = dict.fromkeys(parts, math.inf)
    changed = True
    while changed:
        found = {part: _depth(part, depths) for part in parts}
        changed, depths = found != depths, found
    if any(depth > MAX_DEPTH for depth in depths.values()):
        raise SchemaError(f"{where}: a part of it contains itself without end, so that no value has this form")
    return {part: int(depth) for part, depth in depths.items()}


def _parts(schema: Schema, seen: set[Schema]) -> Iterator[Schema]:
    if schema in seen:
        return
    seen.add(schema)
    yield schema
    inner: tuple[Schema | None, ...] = ()
    match schema:
        case Array():
            inner = (schema.items,)
        case Object():
            inner = (*schema.properties.values(), schema.others)
        case AnyOf():
            inner = schema.options
        case Reference():
            inner = (schema.target,)
    for part in inner:
        if part is not None:
            yield from _parts(part, seen)


def _depth(part: Schema, depths: Mapping[Schema, float]) -> float:
    match part:
        case Constants():
            return min(_value_depth(value) for value in part.values)
        case Array():
            return 1 + (depths[part.items] if part.fewest else 0)
        case Object():
            return 1 + max((depths[part.properties[name]] for name in part.required), default=0)
        case AnyOf():
            return min(depths[option] for option in part.options)
        case Reference():
            return depths[part.target]
    return 0


def _value_depth(value: Any) -> int:
    if not isinstance(value, (list, dict)):
        return 0
    return 1 + max(map(_value_depth, value.values() if isinstance(value, dict) else value), default=0)


class _Reader:
    def __init__(self, root: Any, name: str) -> None:
        self.root, self.name = root, name
        self.places: dict[str, Schema] = {}
        self.being_read: set[str] = set()

    def read(self, schema: Any, where: str) -> Schema:
        if schema is True:
            return ANYTHING
        if not isinstance(schema, Mapping):
            raise SchemaError(f"{where}: {str(schema)[:40]} is not a schema that a value can satisfy")
        said = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
        if "$ref" in said or "anyOf" in said:
            keyword = "$ref" if "$ref" in said else "anyOf"
            if others := sorted(set(said) - {keyword}):
                raise SchemaError(f"{where}: {others[0]!r} beside {keyword} is not supported")
            return self._reference(said["$ref"], where) if keyword == "$ref" else self._any_of(said["anyOf"], where)
        if "const" in said or "enum" in said:
            return self._constants(said, where)
        if "type" not in said:
            if said:
                raise SchemaError(f"{where}: {sorted(said)[0]!r} without a type, or not supported")
            return ANYTHING
        types = said.pop("type")
        types = types if isinstance(types, list) else [types]
        if not types or not all(isinstance(kind, str) and kind in _KEYWORDS for kind in types):
            raise SchemaError(f"{where}: type {said or types} is none of {', '.join(_KEYWORDS)}")
        known = set().union(*(_KEYWORDS[kind] for kind in types))
        if unknown := sorted(set(said) - known):
            raise SchemaError(f"{where}: {unknown[0]!r} is not supported for a value of type {' or '.join(types)}")
        options = tuple(self._typed(kind, said, where) for kind in types)
        return options[0] if len(options) == 1 else AnyOf(options)

    def _reference(self, pointer: Any, where: str) -> Schema:
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise SchemaError(
                f"{where}: $ref {pointer!r} is not supported; it can name a place in the same schema: #/$defs/x"
            )
        if pointer not in self.being_read:
            self.being_read.add(pointer)
            place = self.root
            for step in pointer.split("/")[1:]:
                step = step.replace("~1", "/").replace("~0", "~")
                if not isinstance(place, Mapping) or step not in place:
                    raise SchemaError(f"{where}: $ref {pointer!r} names nothing in this schema")
                place = place[step]
            self.places[pointer] = self.read(place, f"{self.name}{pointer[1:].replace('/', '.')}")
        return Reference(pointer, self.places)

    def _any_of(self, options: Any, where: str) -> Schema:
        if not isinstance(options, list) or not options:
            raise SchemaError(f"{where}: anyOf needs a list of schemas")
        return AnyOf(tuple(self.read(option, f"{where}.anyOf[{number}]") for number, option in enumerate(options)))

    def _constants(self, said: dict[str, Any], where: str) -> Schema:
        values = said.pop("enum", None)
        if "const" in said:
            const = said.pop("const")
            values = [const] if values is None or any(same(const, value) for value in values) else []
        if not isinstance(values, list):
            raise SchemaError(f"{where}: enum needs a list of values")
        for value in values:
            try:
                write_json(value).encode()
            except (CallError, UnicodeEncodeError):
                raise SchemaError(f"{where}: {value!r} is not a JSON value") from None
        kind = self.read(said, where)
        fitting = [value for value in values if find_error(value, kind) is None and _value_depth(value) <= MAX_DEPTH]
        if not fitting:
            raise SchemaError(f"{where}: none of its values is allowed by the rest of the schema")
        return Constants(tuple(fitting))

    def _typed(self, kind: str, said: Mapping[str, Any], where: str) -> Schema:
        match kind:
            case "string":
                return self._string(said, where)
            case "number" | "integer":
                within = self._range(said, where)
                if not (within.has_integer() or (kind == "number" and within.has_double())):
                    raise SchemaError(f"{where}: no {kind} lies within its bounds")
                return Number(kind == "integer", within)
            case "boolean":
                return Constants((True, False))
            case "null":
                return Constants((None,))
            case "array":
                items = self.read(said.get("items", True), f"{where}.items")
                return Array(items, *self._sizes(said, "minItems", "maxItems", where))
        return self._object(said, where)

    def _string(self, said: Mapping[str, Any], where: str) -> String:
        sizes = self._sizes(said, "minLength", "maxLength", where)
        patterns = []
        for keyword, read in (("pattern", language_of), ("format", language_of_format)):
            if not isinstance(said.get(keyword, ""), str):
                raise SchemaError(f"{where}: {keyword} is {said[keyword]!r}, not a text")
            try:
                language = read(said[keyword]) if keyword in said else None
            except SchemaError as error:
                raise SchemaError(f"{where}: {error}") from None
            if language is not None:
                patterns.append((f"{keyword} {said[keyword]}", language))
        if not patterns:
            return String(*sizes)
        form = both(*(language for _, language in patterns), repeat(ANY, *sizes))
        try:
            texts = automaton_of(form).accepting
        except SchemaError as error:
            raise SchemaError(f"{where}: {' and '.join(name for name, _ in patterns)}: {error}") from None
        if not texts:
            raise SchemaError(f"{where}: no text has its form, {' and '.join(name for name, _ in patterns)}")
        return String(*sizes, tuple(patterns), form)

    def _object(self, said: Mapping[str, Any], where: str) -> Object:
        listed, required = said.get("properties", {}), said.get("required", [])
        if not isinstance(listed, Mapping) or not all(isinstance(name, str) for name in listed):
            raise SchemaError(f"{where}: properties are not an object")
        if bad := [name for name in listed if _SURROGATE.search(name)]:
            raise SchemaError(f"{where}: the name {bad[0]!r} holds half a surrogate pair, which is no text")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise SchemaError(f"{where}: required is not a list of names")
        for name in required:
            if name not in listed:
                raise SchemaError(f"{where}: it requires {name!r}, which is none of its properties")
        properties = {name: self.read(value, f"{where}.{name}") for name, value in listed.items()}
        others = said.get("additionalProperties", not properties)
        return Object(
            properties,
            frozenset(required),
            None if others is False else self.read(others, f"{where}.additionalProperties"),
        )

    def _sizes(self, said: Mapping[str, Any], least: str, most: str, where: str) -> tuple[int, int | None]:
        for keyword in (least, most):
            size = said.get(keyword, 0)
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise SchemaError(f"{where}: {keyword} is {size!r}, not a number of things")
        if said.get(least, 0) > MAX_LENGTH:
            raise SchemaError(f"{where}: {least} is {said[least]}, and a call has at most {MAX_LENGTH} characters")
        fewest, most_allowed = said.get(least, 0), said.get(most)
        if most_allowed is not None and fewest > most_allowed:
            raise SchemaError(f"{where}: {least} {fewest} is above {most} {most_allowed}")
        return fewest, most_allowed

    def _range(self, said: Mapping[str, Any], where: str) -> Range:
        bounds: dict[str, Fraction] = {}
        for keyword, value in said.items():
            if keyword in _KEYWORDS["number"]:
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
                    raise SchemaError(f"{where}: {keyword} is {_shown(value)}, not a number that a double can be")
                bounds[keyword] = as_written(value)
        lows = [(bounds[k], k != "minimum") for k in ("minimum", "exclusiveMinimum") if k in bounds]
        highs = [(-bounds[k], k != "maximum") for k in ("maximum", "exclusiveMaximum") if k in bounds]
        low, low_open = max(lows, default=(None, False))
        high, high_open = max(highs, default=(None, False))
        return Range(low, None if high is None else -high, low_open, high_open)


def find_error(value: Any, schema: Schema, where: str = "") -> str | None:
    """What keeps a JSON value from being of this kind, or None: `unit: 'm' is not a number`."""
    named = f"{where}: " if where else ""
    match schema:
        case Reference():
            return find_error(value, schema.target, where)
        case AnyOf():
            misses: list[str] = []
            for option in schema.options:
                if (found := find_error(value, option, where)) is None:
                    return None
                misses.append(found)
            return misses[0] if len(misses) == 1 else f"{named}{_shown(value)} fits no option"
        case Constants():
            if any(same(value, constant) for constant in schema.values):
                return None
            return f"{named}{_shown(value)} is not {' or '.join(map(write_json, schema.values))}"
        case String():
            if not isinstance(value, str):
                return f"{named}{_shown(value)} is not a string"
            for name, language in schema.patterns:
                if not automaton_of(language).matches(value):
                    return f"{named}{_shown(value)} does not have the {name}"
            return _size_error(len(value), schema.shortest, schema.longest, "characters", named)
        case Number():
            return _number_error(value, schema, named)
        case Array():
            if not isinstance(value, list):
                return f"{named}{_shown(value)} is not an array"
            errors = [find_error(item, schema.items, f"{where}[{number}]") for number, item in enumerate(value)]
            errors.append(_size_error(len(value), schema.fewest, schema.most, "items", named))
            return next((found for found in errors if found), None)
    if not isinstance(value, dict):
        return f"{named}{_shown(value)} is not an object"
    if missing := [name for name in schema.properties if name in schema.required and name not in value]:
        return f"{named}{missing[0]} is missing"
    for name, item in value.items():
        kind = schema.properties.get(name, schema.others)
        if kind is None:
            return f"{named}{name} is unknown; there are {', '.join(schema.properties) or 'none'}"
        if found := find_error(item, kind, f"{where}.{name}" if where else name):
            return found
    return None


def _number_error(value: Any, schema: Number, named: str) -> str | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and not abs(value) <= LARGEST:
        return f"{named}{_shown(value)} is not a number that a double can be"
    if not number or (schema.integer and value != int(value)):
        return f"{named}{_shown(value)} is not {'an integer' if schema.integer else 'a number'}"
    return None if schema.within.holds(as_written(value)) else f"{named}{_shown(value)} is out of bounds"


def _size_error(size: int, fewest: int, most: int | None, what: str, named: str) -> str | None:
    if size < fewest:
        return f"{named}{size} {what}, and at least {fewest} are needed"
    if most is not None and size > most:
        return f"{named}{size} {what}, and at most {most} are allowed"
    return None


def _shown(value: Any) -> str:
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
