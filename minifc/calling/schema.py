"""A JSON Schema, read into kinds of value that a grammar can follow.

Followed are the keywords of drafts 4 to 2020-12 that speak of values, but for those that depend on what other keywords
have looked at (`unevaluatedProperties`), and references to other documents. What JSON Schema does not know, it says, is
an annotation. Where people write it otherwise than the standard, it is read as they mean it: types in capitals and
those of programming languages, `nullable`, objects without a type.

Two rules are ours. A type that is not stated is an object where there are `properties`, an array where there are
`items`. And, unless `open_objects` is asked for, an object takes the properties that it lists and no others, unless
`additionalProperties` says so or it lists none.
"""

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from minifc.calling.formats import language_of_format
from minifc.calling.kinds import (
    ANYTHING,
    NEVER,
    TYPES,
    UNSTATED,
    AllOf,
    AnyOf,
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
    leads_to_itself,
    nesting,
    value_depth,
)
from minifc.calling.meeting import Meeting, array, number, string
from minifc.calling.number import LARGEST, Range, as_written
from minifc.calling.patterns import language_of
from minifc.calling.regular import (
    ANY,
    NOTHING,
    Language,
    automaton_of,
    both,
    compiled,
    either,
    literal,
    repeat,
    without,
)
from minifc.calling.regular import ANYTHING as ANY_TEXT
from minifc.calling.validation import shown
from minifc.errors import CallError, SchemaError
from minifc.text.calls import MAX_DEPTH, MAX_LENGTH, PYTHON_TYPES, at_pointer, write_json

_OF_TYPE = {
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "array": (
        "items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains", "minContains",
        "maxContains",
    ),
    "object": (
        "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
        "maxProperties", "dependencies", "dependentRequired", "dependentSchemas",
    ),
}  # fmt: skip
_OF_SEVERAL = ("$ref", "allOf", "anyOf", "oneOf", "not", "if")
_NOT_FOLLOWED = ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef")
# What people call the types, in lower case.
_NAMED = {name: name for name in TYPES} | PYTHON_TYPES | {
    "text": "string", "enum": "string", "long": "integer", "double": "number", "decimal": "number", "map": "object",
    "any": "any",
}  # fmt: skip
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_schema(schema: Any, where: str, open_objects: bool = False, notes: list[str] | None = None) -> Schema:
    """The schema as kinds of value. Raises SchemaError that begins with `where` and names the place in it.

    notes: where keywords that cannot be followed are noted, which then hold no value back; without it they are errors.
    """
    try:
        found = Meeting().resolved(_Reader(schema, where, open_objects, notes).read(schema, where))
        depths = nesting(found)
        if depths[found] <= MAX_DEPTH and leads_to_itself(found):
            raise SchemaError(f"{where}: a part of it is one of its own options, with nothing in between")
    except RecursionError:
        raise SchemaError(f"{where}: its schema is nested too deeply to be followed") from None
    except SchemaError as error:
        if str(error).startswith(where):
            raise
        raise SchemaError(f"{where}: {error}") from None
    if depths[found] > MAX_DEPTH:
        place = _contradiction(found, depths, where)
        raise SchemaError(f"{place}: no value has this form; it contradicts itself, or contains itself without end")
    return found


def _contradiction(schema: Schema, depths: Mapping[Schema, float], where: str) -> str:
    """Where the innermost part is that is needed and has no value."""
    seen = set()
    while schema not in seen:
        seen.add(schema)
        match schema:
            case Reference():
                schema = schema.target
            case Checked():
                schema = schema.schema
            case Object():
                for name in schema.required:
                    if depths[schema.properties[name]] > MAX_DEPTH:
                        schema, where = schema.properties[name], f"{where}.{name}"
                        break
            case AnyOf() if len(schema.options) == 1:
                schema = schema.options[0]
    return where


class _NotRegular(SchemaError):
    """Names of properties that no automaton tells apart."""


class _Reader:
    def __init__(self, root: Any, name: str, open_objects: bool, notes: list[str] | None) -> None:
        self.root, self.name, self.notes = root, name, notes
        self.left_out = False  # whether something could not be followed: then what it excludes is not known either
        self.unstated = ANYTHING if open_objects else UNSTATED
        self.places: dict[str, Schema] = {}
        self.being_read: set[str] = set()

    def read(self, schema: Any, where: str) -> Schema:
        if schema is True:
            return ANYTHING
        if schema is False:
            return NEVER
        if not isinstance(schema, Mapping):
            raise SchemaError(f"{where}: {str(schema)[:40]} is not a schema")
        for keyword in _NOT_FOLLOWED:
            if keyword in schema:
                self.not_followed(f"{where}: {keyword} is not followed")
        parts = [self.by_type(schema, where)]
        checks: list[Check] = list(self.checks(schema, where))
        if "enum" in schema or "const" in schema:
            parts.insert(0, self.constants(schema, where))
        if "$ref" in schema:
            parts.append(self.reference(schema["$ref"], where))
        for keyword in ("allOf", "anyOf", "oneOf"):
            if keyword in schema:
                options = self.several(schema[keyword], f"{where}.{keyword}")
                if keyword == "oneOf" and len(options) > 1 and not self.left_out:
                    checks.append(ExactlyOne(tuple(AllOf((*parts, option)) for option in options)))
                parts += options if keyword == "allOf" else [AnyOf(options)]
        if "not" in schema:
            excluded = self.opened(schema["not"], f"{where}.not")
            if not self.left_out:
                parts.append(others_than(excluded))
                checks.append(Not(excluded))
        if "if" in schema and ("then" in schema or "else" in schema):
            condition = self.opened(schema["if"], f"{where}.if")
            ways = [(schema.get(keyword, True), f"{where}.{keyword}") for keyword in ("then", "else")]
            then, otherwise = (self.read(*way) for way in ways)
            if not self.left_out:
                parts.append(AnyOf((AllOf((condition, then)), AllOf((others_than(condition), otherwise)))))
                checks.append(If(condition, *(self.opened(*way) for way in ways)))
        said = [part for part in parts if part is not ANYTHING]
        found = said[0] if len(said) == 1 else AllOf(tuple(said)) if said else ANYTHING
        return Checked(found, tuple(checks)) if checks else found

    def not_followed(self, what: str) -> None:
        """Say so: as an error, unless notes are taken."""
        if self.notes is None:
            raise SchemaError(what)
        self.left_out = True
        self.note(what)

    def note(self, what: str) -> None:
        if self.notes is not None and what not in self.notes:
            self.notes.append(what)

    def several(self, schemas: Any, where: str) -> tuple[Schema, ...]:
        if not isinstance(schemas, list) or not schemas:
            raise SchemaError(f"{where}: needs a list of schemas")
        return tuple(self.read(schema, f"{where}[{number}]") for number, schema in enumerate(schemas))

    # --- places ----------------------------------------------------------------------------------------------------

    def reference(self, pointer: Any, where: str) -> Schema:
        if not isinstance(pointer, str) or not pointer.startswith("#"):
            self.not_followed(
                f"{where}: $ref {pointer!r} is not followed; it can name a place in the same schema: #/$defs/x"
            )
            return ANYTHING
        if pointer not in self.being_read:
            place = self.find(pointer)
            if place is None:
                self.not_followed(f"{where}: $ref {pointer!r} names nothing in this schema")
                return ANYTHING
            self.being_read.add(pointer)
            self.places[pointer] = self.read(place, f"{self.name}{unquote(pointer[1:]).replace('/', '.')}")
        return Reference(pointer, self.places)

    def find(self, pointer: str) -> Any:
        """What stands at a place, or under a name that the schema gives it; None if nothing does."""
        if pointer == "#" or pointer.startswith("#/"):
            return at_pointer(self.root, pointer)
        return _anchored(self.root, pointer[1:])

    # --- types -----------------------------------------------------------------------------------------------------

    def by_type(self, schema: Mapping[str, Any], where: str) -> Schema:
        """What `type` and the keywords of single types say."""
        if "type" in schema:
            types = self.types(schema["type"], where)
        elif not any(keyword in schema for keyword in (*_OF_SEVERAL, "enum", "const")) and (
            stated := [name for name, keyword in (("object", "properties"), ("array", "items")) if keyword in schema]
        ):
            types = stated
        else:  # keywords of a type say nothing about values of another one
            said = [name for name, keywords in _OF_TYPE.items() if any(keyword in schema for keyword in keywords)]
            types = [name for name in TYPES if name != "integer"] if said else []
        if not types or "any" in types:
            return ANYTHING
        if schema.get("nullable") is True and "null" not in types:
            types.append("null")
        if "number" in types and "integer" in types:
            types.remove("integer")
        kinds = tuple(self.typed(name, schema, where) for name in types)
        return kinds[0] if len(kinds) == 1 else AnyOf(kinds)

    def types(self, said: Any, where: str) -> list[str]:
        found = []
        for name in said if isinstance(said, list) else [said]:
            kind = _NAMED.get(name.lower()) if isinstance(name, str) else None
            if kind is None:
                raise SchemaError(f"{where}: type {shown(name)} is none of {', '.join(TYPES)}")
            found.append(kind)
        if not found:
            raise SchemaError(f"{where}: type is an empty list")
        return list(dict.fromkeys(found))

    def typed(self, kind: str, schema: Mapping[str, Any], where: str) -> Schema:
        match kind:
            case "string":
                return self.string(schema, where)
            case "number" | "integer":
                return self.number(kind == "integer", schema, where)
            case "array":
                return self.array(schema, where)
            case "object":
                return self.object(schema, where)
        return TYPES[kind]

    def string(self, schema: Mapping[str, Any], where: str) -> Schema:
        sizes = self.sizes(schema, "minLength", "maxLength", where)
        patterns: list[tuple[str, Language]] = []
        readers: list[tuple[str, Callable[[str], Language | None]]] = [
            ("pattern", language_of), ("format", language_of_format),
        ]  # fmt: skip
        for keyword, read in readers:
            if keyword not in schema:
                continue
            if not isinstance(schema[keyword], str):
                raise SchemaError(f"{where}: {keyword} is {shown(schema[keyword])}, not a text")
            try:
                language = read(schema[keyword])
            except SchemaError as error:
                self.not_followed(f"{where}: {error}")
                continue
            if language is not None:
                patterns.append((f"{keyword} {schema[keyword]}", language))
            else:
                self.note(f"{where}: {keyword} {schema[keyword]} is not known")
        try:
            found = string(*sizes, tuple(patterns))
        except SchemaError as error:
            self.not_followed(f"{where}: {' and '.join(name for name, _ in patterns)}: {error}")
            return string(*sizes, ())
        if found is NEVER:
            raise SchemaError(f"{where}: no text has its form, {' and '.join(name for name, _ in patterns)}")
        return found

    def number(self, integer: bool, schema: Mapping[str, Any], where: str) -> Schema:
        within = self.range(schema, where)
        found = number(integer or within.step is not None, within)
        if found is NEVER:
            raise SchemaError(f"{where}: no {'integer' if integer else 'number'} lies within its bounds")
        return found

    def range(self, schema: Mapping[str, Any], where: str) -> Range:
        bounds: dict[str, Fraction] = {}
        for keyword in _OF_TYPE["number"]:
            value = schema.get(keyword)
            if keyword not in schema or (isinstance(value, bool) and keyword.startswith("exclusive")):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LARGEST:
                raise SchemaError(f"{where}: {keyword} is {shown(value)}, not a number that a double can be")
            bounds[keyword] = as_written(value)
        for keyword in ("Minimum", "Maximum"):  # in draft 4, a switch beside the bound
            if schema.get(f"exclusive{keyword}") is True and keyword.lower() in bounds:
                bounds[f"exclusive{keyword}"] = bounds.pop(keyword.lower())
        step = bounds.get("multipleOf")
        if step is not None and step <= 0:
            raise SchemaError(f"{where}: multipleOf is {shown(schema['multipleOf'])}, and must be above 0")
        whole = int(step) if step is not None and step.denominator == 1 else None
        closed = Range(bounds.get("minimum"), bounds.get("maximum"), step=whole)
        return closed.met(Range(bounds.get("exclusiveMinimum"), bounds.get("exclusiveMaximum"), True, True))

    def array(self, schema: Mapping[str, Any], where: str) -> Schema:
        fewest, most = self.sizes(schema, "minItems", "maxItems", where)
        items, first = schema.get("items", True), schema.get("prefixItems", [])
        if isinstance(items, list):  # before draft 2020-12
            items, first = schema.get("additionalItems", True), items
        if not isinstance(first, list):
            raise SchemaError(f"{where}: prefixItems is not a list of schemas")
        kind = None if items is False else self.read(items, f"{where}.items")
        kinds = tuple(self.read(item, f"{where}.items[{number}]") for number, item in enumerate(first))
        return array(kind, fewest, most, kinds)

    def object(self, schema: Mapping[str, Any], where: str) -> Schema:
        listed, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(listed, Mapping) or not all(isinstance(name, str) for name in listed):
            raise SchemaError(f"{where}: properties are not an object")
        if isinstance(required, bool):  # as some write it beside a single property
            required = []
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise SchemaError(f"{where}: required is not a list of names")
        if bad := [name for name in [*listed, *required] if _SURROGATE.search(name)]:
            raise SchemaError(f"{where}: the name {bad[0]!r} holds half a surrogate pair, which is no text")
        others = schema.get("additionalProperties")
        rest = self.unstated if others is None else self.read(others, f"{where}.additionalProperties")
        try:
            patterns = self.name_patterns(schema, where)
        except _NotRegular as error:
            self.not_followed(str(error))
            patterns, rest = [], ANYTHING  # any other name may be one of those
        properties: dict[str, Schema] = {}
        for name in dict.fromkeys([*listed, *required]):
            matching = [kind for names, kind in patterns if automaton_of(names).matches(name)]
            own = [self.read(listed[name], f"{where}.{name}")] if name in listed else [] if matching else [rest]
            both_kinds = [*own, *matching]
            properties[name] = both_kinds[0] if len(both_kinds) == 1 else AllOf(tuple(both_kinds))
        fewest, most = self.sizes(schema, "minProperties", "maxProperties", where)
        found: Schema = Object(properties, frozenset(required), groups_of(patterns, rest), fewest, most)
        if (names := self.names(schema, where)) is not None:
            refused = {name: NEVER for name in properties if not automaton_of(names).matches(name)}
            found = AllOf((found, Object(refused, groups=((names, ANYTHING),))))
        return found

    def name_patterns(self, schema: Mapping[str, Any], where: str) -> list[tuple[Language, Schema]]:
        said = schema.get("patternProperties", {})
        if not isinstance(said, Mapping):
            raise SchemaError(f"{where}: patternProperties are not an object")
        found = []
        for pattern, kind in said.items():
            try:
                names = compiled(language_of(pattern))
            except SchemaError as error:
                raise _NotRegular(f"{where}: patternProperties: {error}") from None
            found.append((names, self.read(kind, f"{where}.{pattern}")))
        return found

    def names(self, schema: Mapping[str, Any], where: str) -> Language | None:
        """What `propertyNames` allows, as far as that is a regular language; the rest is checked."""
        if "propertyNames" not in schema:
            return None
        kind = Meeting().resolved(self.read({"type": "string"} | _as_mapping(schema["propertyNames"]), where))
        return language_of_strings(kind)

    def sizes(self, schema: Mapping[str, Any], least: str, most: str, where: str) -> tuple[int, int | None]:
        found = {}
        for keyword in (least, most):
            size = schema.get(keyword)
            size = int(size) if isinstance(size, float) and size.is_integer() else size
            if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
                raise SchemaError(f"{where}: {keyword} is {shown(size)}, not a number of things")
            found[keyword] = size
        fewest, most_allowed = found[least] or 0, found[most]
        if fewest > MAX_LENGTH:
            raise SchemaError(f"{where}: {least} is {fewest}, and a call has at most {MAX_LENGTH} characters")
        if most_allowed is not None and fewest > most_allowed:
            raise SchemaError(f"{where}: {least} {fewest} is above {most} {most_allowed}")
        return fewest, most_allowed

    # --- all types -------------------------------------------------------------------------------------------------

    def constants(self, schema: Mapping[str, Any], where: str) -> Schema:
        values = schema.get("enum", [schema.get("const")])
        if not isinstance(values, list):
            raise SchemaError(f"{where}: enum needs a list of values")
        if schema.get("nullable") is True and None not in values:
            values = [*values, None]
        for value in values:
            try:
                write_json(value).encode()
            except (CallError, UnicodeEncodeError):
                raise SchemaError(f"{where}: {value!r} is not a JSON value") from None
        found = Constants(tuple(value for value in values if value_depth(value) <= MAX_DEPTH))
        return AllOf((found, Constants((schema["const"],)))) if "const" in schema else found

    def checks(self, schema: Mapping[str, Any], where: str) -> list[Check]:
        """What can only be told of a complete value."""
        found: list[Check] = []
        if schema.get("uniqueItems") is True:
            found.append(Unique())
        step = schema.get("multipleOf")
        if isinstance(step, float) and step > 0 and not step.is_integer():
            found.append(MultipleOf(as_written(step)))
        if "contains" in schema:
            fewest, most = self.sizes({"minContains": 1} | dict(schema), "minContains", "maxContains", where)
            item = self.opened(schema["contains"], f"{where}.contains")
            if not self.left_out:
                found.append(Contains(item, fewest, most))
        if isinstance(schema.get("propertyNames"), Mapping):
            found.append(Names(self.read({"type": "string"} | schema["propertyNames"], f"{where}.propertyNames")))
        for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
            for name, needed in _as_mapping(schema.get(keyword, {})).items():
                needed = {"type": "object", "required": needed} if isinstance(needed, list) else needed
                found.append(Dependent(name, self.opened(needed, f"{where}.{keyword}.{name}")))
        return found

    def opened(self, schema: Any, where: str) -> Schema:
        """A schema that says something about an object whose other properties stand elsewhere."""
        before, self.unstated = self.unstated, ANYTHING
        try:
            return self.read(schema, where)
        finally:
            self.unstated = before


def groups_of(patterns: list[tuple[Language, Schema]], rest: Schema) -> tuple[tuple[Language, Schema], ...]:
    """Names by which of the patterns they have: a name of several is what all of these say."""
    groups: list[tuple[Language, tuple[Schema, ...]]] = [(ANY_TEXT, ())]
    for names, kind in patterns:
        split = [(compiled(both(known, names)), (*kinds, kind)) for known, kinds in groups]
        split += [(compiled(both(known, without(names))), kinds) for known, kinds in groups]
        groups = [(known, kinds) for known, kinds in split if known is not NOTHING]
    found = [(names, kinds[0] if len(kinds) == 1 else AllOf(kinds) if kinds else rest) for names, kinds in groups]
    return tuple((names, kind) for names, kind in found if kind is not NEVER)


def language_of_strings(kind: Schema) -> Language | None:
    """The texts that belong to a kind, as far as they are a regular language; None if that is unknown."""
    match kind:
        case String():
            return kind.form or repeat(ANY, kind.shortest, kind.longest)
        case Constants():
            return either(*(literal(value) for value in kind.values if isinstance(value, str)))
        case AnyOf():
            languages = [language_of_strings(option) for option in kind.options]
            return None if None in languages else either(*(one for one in languages if one is not None))
        case Checked():
            return language_of_strings(kind.schema)
    return None


def others_than(schema: Schema) -> Schema:
    """What is not of a kind, and perhaps more: Not tells the rest."""
    match schema:
        case Reference() if schema in (ANYTHING, UNSTATED):
            return NEVER
        case AnyOf():
            return AllOf(tuple(map(others_than, schema.options))) if schema.options else ANYTHING
        case Constants():
            texts = [literal(value) for value in schema.values if isinstance(value, str)]
            simple = [value for value in (True, False, None) if not any(value is one for one in schema.values)]
            return AnyOf(
                (
                    string(0, None, (("form that not leaves", without(either(*texts))),)) if texts else String(),
                    Number(),
                    Constants(tuple(simple)) if simple else NEVER,
                    TYPES["array"],
                    TYPES["object"],
                )
            )
        case String() if not schema.shortest and schema.longest is None:
            said = both(*(language for _, language in schema.patterns))
            left = string(0, None, (("form that not leaves", without(said)),)) if schema.patterns else NEVER
            return _without_type(String, left)
        case Number() if not schema.integer and schema.within == Range():
            return _without_type(Number, NEVER)
        case Object() if _only_requires(schema) and len(schema.required) < 2:
            lacking = Object(dict.fromkeys(schema.required, NEVER), groups=((ANY_TEXT, ANYTHING),))
            return _without_type(Object, lacking if schema.required else NEVER)
    return ANYTHING


def _only_requires(schema: Object) -> bool:
    """Whether an object may have any properties besides those that it requires, which may be anything."""
    free = schema.groups == ((ANY_TEXT, ANYTHING),) and all(kind is ANYTHING for kind in schema.properties.values())
    return free and not schema.fewest and schema.most is None


def _without_type(kind: type, instead: Schema) -> Schema:
    options = [one for name, one in TYPES.items() if name != "integer" and not isinstance(one, kind)]
    return AnyOf((*options, instead))


def _anchored(schema: Any, name: str) -> Any:
    """The part of a schema that has this name as its anchor or its id."""
    if isinstance(schema, Mapping):
        if schema.get("$anchor") == name or f"#{name}" in (schema.get("$id"), schema.get("id")):
            return schema
        schema = list(schema.values())
    if isinstance(schema, list):
        found = (_anchored(part, name) for part in schema)
        return next((part for part in found if part is not None), None)
    return None


def _as_mapping(schema: Any) -> dict[str, Any]:
    return dict(schema) if isinstance(schema, Mapping) else {}
