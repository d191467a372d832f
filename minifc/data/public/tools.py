"""Functions as tools: the many ways in which people name and describe them."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minifc.data.public.functions import NO_DEFAULT, Arguments, Function, Parameter


@dataclass(frozen=True)
class Shown:
    """A function as a tool, and the parameters' names in it."""

    tool: dict[str, Any]
    names: Mapping[str, str]

    def call(self, arguments: Arguments) -> dict[str, Any]:
        """A call of the tool in OpenAI's shape."""
        listed = self.tool["parameters"]["properties"]
        given = {self.names[name]: value for name, value in arguments.items()}
        ordered = {name: _written(given[name], schema) for name, schema in listed.items() if name in given}
        return {"type": "function", "function": {"name": self.tool["name"], "arguments": ordered}}


def _written(value: Any, schema: Mapping[str, Any]) -> Any:
    """The value with every `number` as a float, 12.0, and every `integer` without a point: types are told apart."""
    if isinstance(value, list):
        return [_written(item, schema.get("items", {})) for item in value]
    if isinstance(value, dict):
        listed = schema.get("properties", {})
        return {name: _written(value[name], one) for name, one in listed.items() if name in value}
    return float(value) if schema.get("type") == "number" else value


_MASKED, _MASKED_PARAMETERS, _CAMEL, _NUMBERS = 0.08, 0.02, 0.06, 0.2  # shares of functions
_MASKS = ("tool_{}", "function_{}", "fn_{}", "api_{}", "f{}", "action_{}")


def show(function: Function, rng: random.Random, taken: set[str]) -> Shown:
    """The function as a tool, in one of the ways in which people write them.

    taken: names of the row's other tools; the tool's own is added. Some names are masked, so that descriptions must be
    read.
    """
    name = styled_name(rng.choice(function.names), function.domain, rng)
    while name in taken or rng.random() < _MASKED:
        name = rng.choice(_MASKS).format(rng.choice((rng.randint(1, 99), "".join(rng.sample("abcdefghxyz", 3)))))
    taken.add(name)
    camel, numbered = rng.random() < _CAMEL, rng.random() < _MASKED_PARAMETERS
    numbers, variant = rng.random() < _NUMBERS, rng.randrange(6)
    names: dict[str, str] = {}
    properties: dict[str, Any] = {}
    for place, parameter in enumerate(function.parameters, 1):
        shown = f"arg{place}" if numbered else camel_case(parameter.name) if camel else parameter.name
        names[parameter.name] = shown
        properties[shown] = _property(parameter, variant, numbers, rng)
    required = [names[parameter.name] for parameter in function.parameters if parameter.required]
    schema = {"type": "object", "properties": properties, "required": required}
    return Shown({"name": name, "description": rng.choice(function.texts), "parameters": schema}, names)


def styled_name(name: str, domain: str, rng: random.Random) -> str:
    """snake_case, camelCase, PascalCase, or with dots: geometry.circle_area, circle_area.find."""
    first, *others = name.split("_")
    room = re.split("[^a-z]", domain.lower())[0] or "tools"
    styles = {
        name: 50,
        camel_case(name): 12,
        camel_case(f"_{name}"): 4,
        f"{room}.{name}": 20,
        f"{room}_{name}": 4,
        f"{room}.{camel_case(name)}": 4,
        f"{'_'.join(others)}.{first}" if others and first in _VERBS else name: 6,
    }
    return rng.choices(list(styles), list(styles.values()))[0]


_VERBS = set(
    "find get compute convert check list make book search look plan add create send order write set show buy play "
    "start compare estimate track build suggest record schedule run save explain".split()
)


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def _property(parameter: Parameter, variant: int, numbers: bool, rng: random.Random) -> dict[str, Any]:
    """A parameter's schema. numbers: show an integer as a number."""
    schema, text = dict(parameter.schema), parameter.texts[variant % len(parameter.texts)]
    if numbers and schema["type"] == "integer":
        schema["type"] = "number"
    if "enum" in schema and rng.random() < 0.35:
        text = f"{text.rstrip('.')}. {_options(schema.pop('enum'), rng)}"
    if parameter.default is not NO_DEFAULT:
        if rng.random() < 0.25:
            schema["default"] = parameter.default
        else:
            text = text.rstrip(".") + _default(parameter.default, rng)
    elif not parameter.required and rng.random() < 0.4:
        text = f"{text.rstrip('.')} (optional)."
    return {"type": schema.pop("type"), "description": text, **schema}


def _options(values: Sequence[Any], rng: random.Random) -> str:
    quoted = [f"'{value}'" if isinstance(value, str) else str(value) for value in values]
    either = ", ".join(quoted[:-1]) + f" or {quoted[-1]}" if len(quoted) > 1 else quoted[0]
    return rng.choice(("Can be {}.", "One of {}.", "Options: {}.", "It is {}.")).format(either)


def _default(value: Any, rng: random.Random) -> str:
    shown = f"'{value}'" if isinstance(value, str) and rng.random() < 0.7 else str(value)
    return rng.choice(_DEFAULTS).format(shown)


_DEFAULTS = (
    ". Default is {}.",
    ". Defaults to {}.",
    " (default: {}).",
    " (optional, default is {}).",
    ". Optional, {} by default.",
    ". If not given, {} is used.",
)
