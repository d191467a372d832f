"""Functions that can be asked for, what is asked of them, and how they are shown to a model."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NO_DEFAULT = object()
Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One parameter. `texts` are descriptions of which one is shown; `names` go with them, or are alternatives."""

    name: str
    schema: Mapping[str, Any]
    texts: Sequence[str]
    required: bool
    default: Any = NO_DEFAULT


@dataclass(frozen=True)
class Function:
    """A function: names of which one is shown, in words joined by underscores; what it does; its parameters."""

    names: Sequence[str]
    texts: Sequence[str]
    parameters: Sequence[Parameter]
    domain: str  # functions of one domain are near one another
    purpose: str  # what it does, as after "can": look up a flight
    group: str  # of functions that do the same, or nearly: none of them stands beside another
    fixed: bool = False  # shown under its own name, as a data set of functions has it


@dataclass(frozen=True)
class Ask:
    """What a person asks of one function: the sentence, and the arguments of each call."""

    text: str
    function: Function
    calls: Sequence[Arguments]
    source: str
    clauses: Sequence[str] = field(default_factory=tuple)  # the same as commands without a full stop, to be joined
    context: str = ""  # a sentence that may stand before
    missing: str = ""  # a required argument that it lacks: then it cannot be called


@dataclass(frozen=True)
class Request:
    """What a person asks, with the calls that answer it; none where no function offered fits."""

    text: str
    calls: Sequence[tuple[Function, Arguments]]
    source: str


# --- how a function is shown -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """A function as a tool, and the parameters' names in it."""

    tool: dict[str, Any]
    names: Mapping[str, str]

    def call(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
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


_MASKS = ("tool_{}", "function_{}", "fn_{}", "api_{}", "f{}", "action_{}")


def show(function: Function, rng: random.Random, taken: set[str]) -> Shown:
    """The function as a tool, in one of the ways in which people write them. `taken`: names of the row's others."""
    name = function.names[0] if function.fixed else rng.choice(function.names)
    styled = name if function.fixed else styled_name(name, function.domain, rng)
    if rng.random() < 0.08 or styled in taken:
        styled = rng.choice(_MASKS).format(rng.choice((rng.randint(1, 99), "".join(rng.sample("abcdefghxyz", 3)))))
        while styled in taken:
            styled += rng.choice("abcdefgh")
    taken.add(styled)
    camel = not function.fixed and rng.random() < 0.06
    numbers = not function.fixed and rng.random() < 0.2
    variant = rng.randrange(max(len(parameter.texts) for parameter in function.parameters) if function.parameters else 1)
    names, properties = {}, {}
    for parameter in function.parameters:
        names[parameter.name] = camel_case(parameter.name) if camel else parameter.name
        properties[names[parameter.name]] = _property(parameter, variant, numbers, function.fixed, rng)
    if not function.fixed and rng.random() < 0.02:
        names = {parameter.name: f"arg{i}" for i, parameter in enumerate(function.parameters, 1)}
        properties = {names[parameter.name]: properties_value for parameter, properties_value in zip(
            function.parameters, properties.values(), strict=True)}  # fmt: skip
    required = [names[parameter.name] for parameter in function.parameters if parameter.required]
    schema = {"type": "object", "properties": properties, "required": required}
    return Shown({"name": styled, "description": rng.choice(function.texts), "parameters": schema}, names)


def styled_name(name: str, domain: str, rng: random.Random) -> str:
    """snake_case, camelCase, PascalCase, or with dots: geometry.circle_area, circle.area."""
    words = name.split("_")
    style = rng.random()
    if style < 0.5:
        return name
    if style < 0.62:
        return camel_case(name)
    if style < 0.66:
        return "".join(word.title() for word in words)
    room = re.split(r"[^a-z]", domain.lower())[0] or "tools"
    if style < 0.86:
        return f"{room}.{name}"
    if style < 0.92 and words[0] in _VERBS and len(words) > 1:
        return f"{'_'.join(words[1:])}.{words[0]}"
    return f"{room}_{name}" if style < 0.96 else f"{room}.{camel_case(name)}"


_VERBS = set(
    "find get compute convert check list make book search look plan add create send order write set show buy play start "
    "compare estimate track build suggest record schedule run save explain".split()
)


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def _property(parameter: Parameter, variant: int, numbers: bool, fixed: bool, rng: random.Random) -> dict[str, Any]:
    schema, text = dict(parameter.schema), parameter.texts[variant % len(parameter.texts)]
    if not fixed:
        if numbers and schema.get("type") == "integer":
            schema["type"] = "number"
        if "enum" in schema and rng.random() < 0.35:
            text = f"{text.rstrip('.')}. {_options(schema.pop('enum'), rng)}"
        if parameter.default is not NO_DEFAULT:
            if rng.random() < 0.25:
                schema["default"] = parameter.default
            else:
                text = f"{text.rstrip('.')}{_default(parameter.default, rng)}"
        elif not parameter.required and rng.random() < 0.4:
            text = f"{text.rstrip('.')} (optional)."
    return {"type": schema.pop("type"), **({"description": text} if text else {}), **schema}


def _options(values: Sequence[Any], rng: random.Random) -> str:
    quoted = [f"'{value}'" if isinstance(value, str) else str(value) for value in values]
    either = ", ".join(quoted[:-1]) + f" or {quoted[-1]}" if len(quoted) > 1 else quoted[0]
    return rng.choice(("Can be {}.", "One of {}.", "Options: {}.", "It is {}.")).format(either)


def _default(value: Any, rng: random.Random) -> str:
    shown = f"'{value}'" if isinstance(value, str) and rng.random() < 0.7 else str(value)
    return rng.choice(
        (". Default is {}.", ". Defaults to {}.", " (default: {}).", " (optional, default is {}).", ". Optional, {} by default.", ". If not given, {} is used.")
    ).format(shown)  # fmt: skip
