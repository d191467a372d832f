"""What several schemas have in common: the values that belong to all of them.

Schemas that contain themselves are met as far as they are different: a reference that meets a part becomes a reference
to a new place, which holds what the two have in common and may lead back to itself.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from minifc.calling.kinds import (
    ANYTHING,
    NEVER,
    UNSTATED,
    AllOf,
    AnyOf,
    Array,
    Check,
    Checked,
    Constants,
    Contains,
    Dependent,
    ExactlyOne,
    If,
    Names,
    Not,
    Number,
    Object,
    Reference,
    Schema,
    String,
)
from minifc.calling.number import Range
from minifc.calling.regular import ANY, NOTHING, Language, automaton_of, both, compiled, relaxed, repeat
from minifc.calling.validation import find_error
from minifc.errors import SchemaError

MOST_PLACES, MOST_OPTIONS = 2000, 500  # more would be the work of a schema that is made to be expensive


class _Places(dict[str, Schema]):
    """What references lead to, found when it is first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[object, str] = {}
        self.waiting: dict[str, Callable[[], Schema]] = {}

    def __missing__(self, name: str) -> Schema:
        if name not in self.waiting:  # it is being found, and is asked for itself: it has no value without end
            return NEVER
        self[name] = self.waiting.pop(name)()
        return self[name]

    def reference(self, key: object, work: Callable[[], Schema]) -> Reference:
        """A reference to what `work` will find, which is the same for the same key."""
        if key not in self.names:
            if len(self.names) == MOST_PLACES:
                raise SchemaError(f"its parts refer to one another in more than {MOST_PLACES:,} ways")
            self.names[key] = f"place {len(self.names)}"
            self.waiting[self.names[key]] = work
        return Reference(self.names[key], self)


class Meeting:
    """Turns what was read into kinds without AllOf. Raises SchemaError where that is more work than it is worth."""

    def __init__(self) -> None:
        self._places = _Places()
        self._done: dict[Schema, Schema] = {}

    def resolved(self, schema: Schema) -> Schema:
        """The schema without AllOf, nor is there one in what it is made of."""
        if schema not in self._done:
            self._done[schema] = self._rebuilt(schema)
        return self._done[schema]

    def _rebuilt(self, schema: Schema) -> Schema:
        match schema:
            case AllOf():
                return self.meet(*map(self.resolved, schema.parts))
            case AnyOf():
                return any_of(map(self.resolved, schema.options))
            case Array():
                items = None if schema.items is None else self.resolved(schema.items)
                return replace(schema, items=items, first=tuple(map(self.resolved, schema.first)))
            case Object():
                properties = {name: self.resolved(kind) for name, kind in schema.properties.items()}
                groups = tuple((names, self.resolved(kind)) for names, kind in schema.groups)
                return replace(schema, properties=properties, groups=groups)
            case Checked():
                return Checked(self.resolved(schema.schema), tuple(map(self._resolved_check, schema.checks)))
            case Reference() if schema not in (ANYTHING, UNSTATED):
                return self._places.reference(("read", schema.name), lambda: self.resolved(schema.target))
        return schema

    def _resolved_check(self, check: Check) -> Check:
        match check:
            case ExactlyOne():
                return ExactlyOne(tuple(map(self.resolved, check.options)))
            case If():
                return If(*map(self.resolved, (check.condition, check.then, check.otherwise)))
            case Contains():
                return replace(check, item=self.resolved(check.item))
            case Not() | Names() | Dependent():
                return replace(check, schema=self.resolved(check.schema))
        return check

    # --- two by two ------------------------------------------------------------------------------------------------

    def meet(self, *schemas: Schema) -> Schema:
        """The values that belong to all of these, which are without AllOf."""
        found, *others = schemas
        for other in others:
            found = self._two(found, other)
        return found

    def _two(self, one: Schema, other: Schema) -> Schema:
        if one is other or other in (ANYTHING, UNSTATED):
            return one
        if one in (ANYTHING, UNSTATED):
            return other
        if isinstance(one, Checked) or isinstance(other, Checked):
            (first, checks), (second, more) = _unchecked(one), _unchecked(other)
            return Checked(self._two(first, second), checks + more)
        if isinstance(one, Reference) or isinstance(other, Reference):
            return self._later(one, other)
        if isinstance(one, AnyOf):
            return any_of(self._two(option, other) for option in one.options)
        if isinstance(other, AnyOf):
            return any_of(self._two(one, option) for option in other.options)
        match one, other:
            case (Constants(), _):
                return _constants(one, other)
            case (_, Constants()):
                return _constants(other, one)
            case (String(), String()):
                return _strings(one, other)
            case (Number(), Number()):
                return number(one.integer or other.integer, one.within.met(other.within))
            case (Array(), Array()):
                return self._arrays(one, other)
            case (Object(), Object()):
                return self._objects(one, other)
        return NEVER

    def _later(self, one: Schema, other: Schema) -> Reference:
        """What a reference has in common with another schema; its target is not looked at before that is needed."""
        keys = (one.name if isinstance(one, Reference) else one, other.name if isinstance(other, Reference) else other)
        return self._places.reference(keys, lambda: self._two(_target(one), _target(other)))

    def _arrays(self, one: Array, other: Array) -> Schema:
        count = max(len(one.first), len(other.first))
        first = tuple(self._two(_item(one, place), _item(other, place)) for place in range(count))
        items = None
        if one.items is not None and other.items is not None:
            items = self._two(one.items, other.items)
        return array(items, max(one.fewest, other.fewest), _least(one.most, other.most), first)

    def _objects(self, one: Object, other: Object) -> Schema:
        names = [*one.properties, *(name for name in other.properties if name not in one.properties)]
        properties = {name: self._two(self.kind_of(one, name), self.kind_of(other, name)) for name in names}
        groups = [
            (met, self._two(kind, its))
            for first, kind in one.groups
            for second, its in other.groups
            if (met := compiled(both(first, second))) is not NOTHING
        ]
        some = tuple((names, kind) for names, kind in groups if kind is not NEVER)
        fewest, most = max(one.fewest, other.fewest), _least(one.most, other.most)
        return Object(properties, one.required | other.required, some, fewest, most)

    def kind_of(self, schema: Object, name: str) -> Schema:
        """What a property of this name is."""
        if name in schema.properties:
            return schema.properties[name]
        return next((kind for names, kind in schema.groups if automaton_of(names).matches(name)), NEVER)


def _target(schema: Schema) -> Schema:
    while isinstance(schema, Reference) and schema not in (ANYTHING, UNSTATED):
        schema = schema.target
    return schema


def _unchecked(schema: Schema) -> tuple[Schema, tuple[Check, ...]]:
    return (schema.schema, schema.checks) if isinstance(schema, Checked) else (schema, ())


def any_of(options: Iterable[Schema]) -> Schema:
    """Any of these, without those that are no value."""
    found: dict[Schema, None] = {}
    for option in options:
        for one in option.options if isinstance(option, AnyOf) else (option,):
            found[one] = None
    if len(found) > MOST_OPTIONS:
        raise SchemaError(f"it has more than {MOST_OPTIONS} options at one place")
    return next(iter(found)) if len(found) == 1 else AnyOf(tuple(found))


def _constants(constants: Constants, schema: Schema) -> Schema:
    values = tuple(value for value in constants.values if find_error(value, schema) is None)
    return Constants(values) if values else NEVER


def string(shortest: int, longest: int | None, patterns: tuple[tuple[str, Language], ...]) -> Schema:
    """Strings of these lengths and patterns. Where their automaton is too large, their grammar is that of more strings,
    and the complete one is checked. Raises SchemaError if even that is too large."""
    if longest is not None and shortest > longest:
        return NEVER
    if not patterns:
        return String(shortest, longest)
    lengths = repeat(ANY, shortest, longest)
    try:
        form = compiled(both(*(compiled(language) for _, language in patterns)))
    except SchemaError:
        form = compiled(both(*(compiled(relaxed(language)) for _, language in patterns)))
    with suppress(SchemaError):
        form = compiled(both(form, lengths))
    return String(shortest, longest, patterns, form) if form is not NOTHING else NEVER


def _strings(one: String, other: String) -> Schema:
    patterns = (*one.patterns, *(pattern for pattern in other.patterns if pattern not in one.patterns))
    return string(max(one.shortest, other.shortest), _least(one.longest, other.longest), patterns)


def number(integer: bool, within: Range) -> Schema:
    some = within.has_integer() or (not integer and within.has_double())
    return Number(integer, within) if some else NEVER


def array(items: Schema | None, fewest: int, most: int | None, first: tuple[Schema, ...] = ()) -> Schema:
    if items is None:
        most = _least(most, len(first))
    return NEVER if most is not None and fewest > most else Array(items, fewest, most, first)


def _item(schema: Array, place: int) -> Schema:
    if place < len(schema.first):
        return schema.first[place]
    return NEVER if schema.items is None else schema.items


def _least(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
