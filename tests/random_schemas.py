"""Random schemas with values that satisfy them, and a judge of texts: all of it apart from minifc's grammar.

The judge knows nothing of automata. A text is a right call if Python's json reads it, writes it back unchanged, and
jsonschema finds its arguments valid, after the two rules that are minifc's own are written into the schema:
objects that list properties take no others unless they say so, and 1.0 is no spelling of the integer 1.
"""

import json
import math
import random
import string
from collections.abc import Callable
from typing import Any

import jsonschema
from jsonschema import Draft202012Validator, TypeChecker, validators

from minifc.errors import CallError
from minifc.text.dialects import functiongemma

Sample = Callable[[], Any]

NAMES = [
    "a",
    "ab",
    "abc",
    "b",
    "city",
    "ünit",
    "日本",
    "x y",
    'q"q',
    "back\\slash",
    "tab\t",
    "name",
    "arguments",
    "€",
    "😀",
]
PIECES = [
    *string.ascii_letters[:8],
    " ",
    "ü",
    "é",
    "日",
    "€",
    "😀",
    '"',
    "\\",
    "/",
    "\n",
    "\t",
    "\x00",
    "\x1f",
    "\x7f",
    "\u2028",
    ",",
    "}",
    "]",
]


class Drawing:
    """One random schema. `definitions` collects what it refers to."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.definitions: dict[str, Any] = {}

    def parameters(self) -> tuple[dict[str, Any], Sample]:
        schema, sample = self.object(3)
        return schema | ({"$defs": self.definitions} if self.definitions else {}), sample

    def any_kind(self, depth: int) -> tuple[Any, Sample]:
        kinds = [self.string, self.integer, self.number, self.simple, self.constants]
        if depth:
            kinds += [self.array, self.object, self.any_of, self.reference, self.anything]
        schema, sample = self.rng.choice(kinds)(depth - 1)
        if isinstance(schema, dict) and "$ref" not in schema and self.rng.random() < 0.2:
            schema = {"description": "What it is.", **schema, "default": None}
        return schema, sample

    def text(self, shortest: int = 0, longest: int = 8) -> str:
        return "".join(self.rng.choice(PIECES) for _ in range(self.rng.randint(shortest, longest)))

    def string(self, _: int) -> tuple[Any, Sample]:
        shortest, longest = sorted(self.rng.sample(range(9), 2))
        schema: dict[str, Any] = {"type": "string"}
        if self.rng.random() < 0.3:
            schema["minLength"] = shortest
        if self.rng.random() < 0.3:
            schema["maxLength"] = longest
        return schema, lambda: self.text(schema.get("minLength", 0), schema.get("maxLength", 8))

    def integer(self, _: int) -> tuple[Any, Sample]:
        schema: dict[str, Any] = {"type": "integer"}
        size = 10 ** self.rng.randint(0, 12)
        low, high = sorted((self.rng.randint(-size, size), self.rng.randint(-size, size)))
        share = self.rng.random()
        if share < 0.3:
            schema |= {"minimum": low}
        elif share < 0.5:
            schema |= {"maximum": high}
        elif share < 0.7:
            schema |= {"minimum": low, "maximum": high}
        elif share < 0.8:
            schema |= {"exclusiveMinimum": low - 1, "exclusiveMaximum": high + 0.5}

        def sample() -> int:
            least = schema.get("minimum", low if "exclusiveMinimum" in schema else None)
            most = schema.get("maximum", high if "exclusiveMaximum" in schema else None)
            least = least if least is not None else (most if most is not None else 0) - 10**6
            most = most if most is not None else least + 10 ** self.rng.randint(1, 9)
            return self.rng.randint(least, most)

        return schema, sample

    def number(self, _: int) -> tuple[Any, Sample]:
        schema: dict[str, Any] = {"type": "number"}
        scale = 10.0 ** self.rng.randint(-6, 18)
        low, high = sorted((self.rng.uniform(-scale, scale), self.rng.uniform(-scale, scale)))
        share = self.rng.random()
        if share < 0.2:
            schema |= {"minimum": low}
        elif share < 0.4:
            schema |= {"minimum": low, "maximum": high}
        elif share < 0.5:
            schema |= {"exclusiveMinimum": low, "exclusiveMaximum": math.nextafter(high, math.inf)}

        def sample() -> float | int:
            if len(schema) == 1 and self.rng.random() < 0.5:
                return self.rng.choice(
                    [0, -1, 7, 0.5, -0.0, 1e-05, 1e16, 123456.789, 5e-324, 1.7976931348623157e308, 10**20]
                )
            if "exclusiveMinimum" in schema:
                return math.nextafter(low, math.inf) if self.rng.random() < 0.3 else high
            top = high if "maximum" in schema else low + scale
            value = self.rng.choice((low, top, self.rng.uniform(low, top)))
            rounded = round(value, 2)
            return rounded if low <= rounded <= top and self.rng.random() < 0.5 else value

        return schema, sample

    def simple(self, _: int) -> tuple[Any, Sample]:
        if self.rng.random() < 0.3:
            return {"type": "null"}, lambda: None
        if self.rng.random() < 0.3:
            return {"type": ["boolean", "null"]}, lambda: self.rng.choice((True, False, None))
        return {"type": "boolean"}, lambda: self.rng.random() < 0.5

    def constants(self, _: int) -> tuple[Any, Sample]:
        pool: list[Any] = ["red", "green", "re", "", "ü", 1, 12, -3, 2.5, None, True, [1, "a"], {"k": []}]
        values = self.rng.sample(pool, self.rng.randint(1, 4))
        if self.rng.random() < 0.2:
            return {"const": values[0]}, lambda: values[0]
        if all(isinstance(value, str) for value in values) and self.rng.random() < 0.5:
            return {"type": "string", "enum": values}, lambda: self.rng.choice(values)
        return {"enum": values}, lambda: self.rng.choice(values)

    def array(self, depth: int) -> tuple[Any, Sample]:
        items, item = self.any_kind(depth)
        fewest, most = sorted(self.rng.sample(range(5), 2))
        schema: dict[str, Any] = {"type": "array", "items": items}
        if self.rng.random() < 0.4:
            schema["minItems"] = fewest
        if self.rng.random() < 0.4:
            schema["maxItems"] = most
        low, high = schema.get("minItems", 0), schema.get("maxItems", 4)
        return schema, lambda: [item() for _ in range(self.rng.randint(low, high))]

    def object(self, depth: int) -> tuple[Any, Sample]:
        names = self.rng.sample(NAMES, self.rng.randint(0, 4))
        drawn = {name: self.any_kind(depth) for name in names}
        required = [name for name in names if self.rng.random() < 0.5]
        schema: dict[str, Any] = {"type": "object", "properties": {name: kind for name, (kind, _) in drawn.items()}}
        if required:
            schema["required"] = required
        share, others = self.rng.random(), None
        if share < 0.15:
            schema["additionalProperties"], others = True, lambda: self.rng.choice((1, "x", [None]))
        elif share < 0.3:
            schema["additionalProperties"], others = self.any_kind(0)
        elif share < 0.6 or not names:
            schema["additionalProperties"] = False

        def sample() -> dict[str, Any]:
            values = {n: value() for n, (_, value) in drawn.items() if n in required or self.rng.random() < 0.6}
            for _ in range(self.rng.randint(0, 2) if others else 0):
                key = self.text(0, 4)
                if key not in drawn:
                    values[key] = others()
            return values

        return schema, sample

    def any_of(self, depth: int) -> tuple[Any, Sample]:
        drawn = [self.any_kind(depth) for _ in range(self.rng.randint(1, 3))]
        return {"anyOf": [schema for schema, _ in drawn]}, lambda: self.rng.choice(drawn)[1]()

    def reference(self, depth: int) -> tuple[Any, Sample]:
        name = f"d{len(self.definitions)}"
        if self.rng.random() < 0.5:  # a tree
            self.definitions[name] = {
                "type": "object",
                "properties": {
                    "v": {"type": "integer"},
                    "next": {"type": "array", "items": {"$ref": f"#/$defs/{name}"}},
                },
                "required": ["v"],
            }

            def tree(height: int = 3) -> dict[str, Any]:
                below = [tree(height - 1) for _ in range(self.rng.randint(0, 2))] if height else []
                return {"v": self.rng.randint(-5, 5)} | ({"next": below} if below or self.rng.random() < 0.3 else {})

            return {"$ref": f"#/$defs/{name}"}, tree
        self.definitions[name] = None  # keeps the name
        self.definitions[name], sample = self.any_kind(depth)
        return {"$ref": f"#/$defs/{name}"}, sample

    def anything(self, _: int) -> tuple[Any, Sample]:
        values = (None, True, "ü", 3, -2.5, [1, ["a"]], {"k": {"l": ""}})
        return self.rng.choice(({}, {"description": "Anything."}, True)), lambda: self.rng.choice(values)


def random_tool(rng: random.Random, name: str = "f") -> tuple[dict[str, Any], Sample]:
    """A tool, and what draws arguments for it."""
    schema, sample = Drawing(rng).parameters()
    return {"name": name, "description": "Does it.", "parameters": schema}, sample


def write(name: str, arguments: Any) -> str:
    return "\n" + json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) + "\n"


def closed(schema: Any) -> Any:
    """The schema with minifc's rule about properties that are not listed written into it."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "enum" in schema or "const" in schema:
        return schema
    inner = {
        key: {name: closed(part) for name, part in value.items()} if key in ("properties", "$defs") else closed(value)
        for key, value in schema.items()
    }
    return {"additionalProperties": False} | inner if schema.get("properties") else inner


def _strictly_equal(_: Any, allowed: Any, value: Any, schema: Any) -> Any:
    spelled = [json.dumps(one) for one in (allowed if "enum" in schema and allowed is schema["enum"] else [allowed])]
    if json.dumps(value) not in spelled:
        yield jsonschema.ValidationError("another value")


def _is_integer(_: TypeChecker, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Strict = validators.extend(
    Draft202012Validator,
    {"enum": _strictly_equal, "const": _strictly_equal},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


class Judge:
    """Says whether a text is a call of the tool in the canonical form."""

    def __init__(self, tool: dict[str, Any]) -> None:
        self.name, self.schema = tool["name"], tool["parameters"]
        self.validator = Strict(closed(self.schema))

    def __call__(self, text: str) -> bool:
        try:
            call = json.loads(text, object_pairs_hook=_no_twins, parse_constant=_no_constants)
            text.encode()
        except (ValueError, RecursionError):
            return False
        if not isinstance(call, dict) or list(call) != ["name", "arguments"] or call["name"] != self.name:
            return False
        if write(self.name, call["arguments"]) != text or not self.validator.is_valid(call["arguments"]):
            return False
        return self._ordered(call["arguments"], self.schema)

    def _ordered(self, value: Any, schema: Any) -> bool:
        """Whether objects have their listed properties first, in the schema's order. Some option must agree."""
        if not isinstance(schema, dict) or "enum" in schema or "const" in schema:
            return True
        if "$ref" in schema:
            return self._ordered(value, self.schema["$defs"][schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema:
            return any(
                Strict(
                    closed(option | {"$defs": self.schema.get("$defs", {})} if option is not True else True)
                ).is_valid(value)
                and self._ordered(value, option)
                for option in schema["anyOf"]
            )
        if isinstance(value, list):
            return all(self._ordered(item, schema.get("items", True)) for item in value)
        if isinstance(value, dict):
            listed = schema.get("properties", {})
            others = schema.get("additionalProperties", True)
            in_order = self._in_order(list(value), list(listed))
            return in_order and all(self._ordered(v, listed.get(k, others)) for k, v in value.items())
        return True

    def _in_order(self, keys: list[str], listed: list[str]) -> bool:
        return keys == [*(name for name in listed if name in keys), *(name for name in keys if name not in listed)]


class FunctionGemmaJudge(Judge):
    """The same for functiongemma's form, in which listed properties come in alphabetical order, others anywhere."""

    def __call__(self, text: str) -> bool:
        try:
            call = functiongemma.read_call(text)
        except CallError:
            return False
        if text != f"call:{self.name}{in_given_order(call.arguments)}":
            return False
        return self.validator.is_valid(call.arguments) and self._ordered(call.arguments, self.schema)

    def _in_order(self, keys: list[str], listed: list[str]) -> bool:
        return [key for key in keys if key in listed] == [
            name for name in sorted(listed, key=str.lower) if name in keys
        ]


def in_given_order(value: Any) -> str:
    """functiongemma's form of a value, with the keys of objects in their own order."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{in_given_order(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(in_given_order, value)) + "]"
    return functiongemma.write_value(value)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


def _no_constants(name: str) -> Any:
    raise ValueError(name)
