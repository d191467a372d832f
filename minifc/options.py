"""Dataclasses as command-line options: each field, with its help, is declared once."""

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from minifc.errors import OptionError

T = TypeVar("T")


def option(default: Any, help: str, choices: Sequence[str] = ()) -> Any:
    """A dataclass field that is also a command-line option."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": tuple(choices)})


def add_options(parser: argparse.ArgumentParser, config: type) -> None:
    """An option for each field of a dataclass: `learning_rate` is --learning-rate, a bool has a --no- form.

    Options that are not given are absent from the parsed namespace, so that a recipe can fill them.
    """
    group = parser.add_argument_group(config.__name__.removesuffix("Config").lower())
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        name, kind = "--" + field.name.replace("_", "-"), hints[field.name]
        repeated = typing.get_origin(kind) is tuple
        default: Any = field.default
        if repeated:
            default = ",".join(default)
        help_ = f"{field.metadata['help']} (default: {'none' if default == '' else default})"
        if kind is bool:
            action = argparse.BooleanOptionalAction
            group.add_argument(name, action=action, default=argparse.SUPPRESS, help=help_)
            continue
        choices = field.metadata["choices"] or None
        group.add_argument(
            name,
            type=_comma_list if repeated else kind,
            default=argparse.SUPPRESS,
            choices=choices,
            metavar=None if choices else field.name.upper(),
            help=help_,
        )


def from_args(config: type[T], args: argparse.Namespace, recipe: Mapping[str, Any]) -> T:
    """The dataclass that options, or else the recipe, or else its defaults describe."""
    names = {field.name for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    given = {name: value for name, value in vars(args).items() if name in names}
    return config(**{name: value for name, value in recipe.items() if name in names} | given)


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def require(condition: bool, name: str, value: object, rule: str) -> None:
    """Raise OptionError unless the value of an option obeys its rule."""
    if not condition:
        raise OptionError(f"--{name.replace('_', '-')} {value}: {rule}")
