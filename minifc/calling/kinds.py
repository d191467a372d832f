"""The kinds of value that a JSON Schema is read into.

A grammar follows them token by token. What it cannot follow so, that no item comes twice for example, is a check beside
a kind, to be made when the value is complete.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

from minifc.calling.number import Range
from minifc.calling.regular import ANYTHING as ANY_TEXT
from minifc.calling.regular import Language, automaton_of, untaken


@dataclass(frozen=True, eq=False)
class String:
    shortest: int = 0  # in characters
    longest: int | None = None
    patterns: tuple[tuple[str, Language], ...] = ()  # by what the schema calls them: pattern ^a, format date
    form: Language | None = None  # all of that together, or more strings than that, if there is a pattern


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
    items: "Schema | None"  # of those behind the first ones; None: there are no others
    fewest: int = 0
    most: int | None = None
    first: tuple["Schema", ...] = ()

    def kind_at(self, place: int) -> "Schema | None":
        """What the item at a place is; None if there is none."""
        return self.first[place] if place < len(self.first) else self.items


@dataclass(frozen=True, eq=False)
class Object:
    properties: Mapping[str, "Schema"]
    required: frozenset[str] = frozenset()
    groups: tuple[tuple[Language, "Schema"], ...] = ()  # of names that are not listed; a name is in one group, or none
    fewest: int = 0
    most: int | None = None

    @cached_property
    def others(self) -> tuple[tuple[Language, "Schema"], ...]:
        """The groups of names that it takes. What the schema does not speak of is taken only if it lists nothing."""
        stated = tuple(group for group in self.groups if group[1] is not UNSTATED)
        return stated if self.properties or stated else self.groups


@dataclass(frozen=True, eq=False)
class AnyOf:
    """Without options it is no value."""

    options: tuple["Schema", ...]


@dataclass(frozen=True, eq=False)
class AllOf:
    """Only while a schema is read: in what is read there is none left."""

    parts: tuple["Schema", ...]


@dataclass(frozen=True, eq=False)
class Reference:
    """Another place in the same schema, perhaps one that this one is part of."""

    name: str
    places: Mapping[str, "Schema"]

    @property
    def target(self) -> "Schema":
        return self.places[self.name]


@dataclass(frozen=True, eq=False)
class Checked:
    """A kind, and what is checked when a value is complete."""

    schema: "Schema"
    checks: tuple["Check", ...]


Schema = String | Number | Constants | Array | Object | AnyOf | AllOf | Reference | Checked


# --- checks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ExactlyOne:
    options: tuple[Schema, ...]


@dataclass(frozen=True, eq=False)
class Not:
    schema: Schema


@dataclass(frozen=True, eq=False)
class If:
    condition: Schema
    then: Schema
    otherwise: Schema


@dataclass(frozen=True, eq=False)
class Unique:
    """No two items of an array are equal."""


@dataclass(frozen=True, eq=False)
class MultipleOf:
    step: Fraction


@dataclass(frozen=True, eq=False)
class Contains:
    item: Schema
    fewest: int
    most: int | None


@dataclass(frozen=True, eq=False)
class Names:
    """Of every property."""

    schema: Schema


@dataclass(frozen=True, eq=False)
class Dependent:
    """What an object must be that has this property."""

    name: str
    schema: Schema


Check = ExactlyOne | Not | If | Unique | MultipleOf | Contains | Names | Dependent

NEVER: Schema = AnyOf(())
_anything: dict[str, Schema] = {}
ANYTHING: Schema = Reference("anything", _anything)
UNSTATED: Schema = Reference("anything", _anything)  # where a schema says nothing; see Object.others
TYPES: dict[str, Schema] = {
    "string": String(),
    "number": Number(),
    "integer": Number(integer=True),
    "boolean": Constants((True, False)),
    "null": Constants((None,)),
    "array": Array(ANYTHING),
    "object": Object({}, groups=((ANY_TEXT, ANYTHING),)),
}
_anything["anything"] = AnyOf(tuple(kind for name, kind in TYPES.items() if name != "integer"))


def bare(schema: Schema) -> Schema:
    """The kind itself, behind references and checks."""
    while isinstance(schema, (Reference, Checked)):
        schema = schema.target if isinstance(schema, Reference) else schema.schema
    return schema


def parts(schema: Schema) -> list[Schema]:
    """A schema and all that it is made of, as far as values are; each part once."""
    found: dict[Schema, None] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if part not in found:
            found[part] = None
            waiting += reversed(list(_inner(part)))
    return list(found)


def _inner(schema: Schema) -> Iterator[Schema]:
    match schema:
        case Array():
            yield from schema.first
            if schema.items is not None:
                yield schema.items
        case Object():
            yield from schema.properties.values()
            yield from (kind for _, kind in schema.others)
        case AnyOf():
            yield from schema.options
        case Reference():
            yield schema.target
        case Checked():
            yield schema.schema


def nesting(schema: Schema) -> dict[Schema, float]:
    """For each part, how many brackets inside brackets its shallowest value has; inf if it has no value.

    A part has none if it contains itself without end, or contradicts itself.
    """
    found = parts(schema)
    depths: dict[Schema, float] = dict.fromkeys(found, math.inf)
    changed = True
    while changed:
        changed = False
        for part in reversed(found):
            depth = _depth(part, depths)
            if depth < depths[part]:
                depths[part], changed = depth, True
    return depths


def _depth(part: Schema, depths: Mapping[Schema, float]) -> float:
    match part:
        case Constants():
            return min(map(value_depth, part.values), default=math.inf)
        case Array():
            needed = [*part.first[: part.fewest]]
            if part.fewest > len(part.first):
                needed.append(part.items if part.items is not None else NEVER)
            return 1 + max((depths.get(item, math.inf) for item in needed), default=0)
        case Object():
            return 1 + _object_depth(part, depths)
        case AnyOf():
            return min((depths[option] for option in part.options), default=math.inf)
        case Reference():
            return depths[part.target]
        case Checked():
            return depths[part.schema]
    return 0


def _object_depth(part: Object, depths: Mapping[Schema, float]) -> float:
    """The same of what an object cannot do without: the properties that it requires, and as many more as it needs."""
    required = [depths[part.properties[name]] for name in part.required]
    more = max(part.fewest - len(required), 0)
    if part.most is not None and part.most < len(required) + more:
        return math.inf
    possible = [depths[kind] for name, kind in part.properties.items() if name not in part.required]
    for names, kind in part.others if more else ():
        possible += [depths[kind]] * automaton_of(untaken(names, part.properties)).count(more)
    possible = sorted(depth for depth in possible if depth < math.inf)
    return max([*required, *possible[:more]], default=0) if len(possible) >= more else math.inf


def leads_to_itself(schema: Schema) -> bool:
    """Whether a part leads back to itself by references and options alone, so that following it would not end."""
    begun: set[Schema] = set()
    ended: set[Schema] = set()

    def returns(part: Schema) -> bool:
        if part in ended or not isinstance(part, (AnyOf, Reference, Checked)):
            return False
        if part in begun:
            return True
        begun.add(part)
        found = any(map(returns, _inner(part)))
        ended.add(part)
        return found

    return any(map(returns, parts(schema)))


def value_depth(value: Any) -> int:
    """How many brackets inside brackets a JSON value has."""
    if not isinstance(value, (list, dict)):
        return 0
    return 1 + max(map(value_depth, value.values() if isinstance(value, dict) else value), default=0)
