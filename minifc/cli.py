"""What every command shares: options with help, errors on one line, exit status 2.

A dataclass that configures a part of minifc is also a group of command-line options: each field, with its help
text, is declared once. The library names a wrong value as a parameter (`r=0`), the command line as an option
(`--rank 0`).
"""

import argparse
import dataclasses
import difflib
import io
import os
import sys
import tempfile
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from minifc.errors import MinifcError, OptionError, ParameterError, is_out_of_memory
from minifc.files import is_empty
from minifc.terminal import in_a_line

T = TypeVar("T")
Recipes = Mapping[str, Mapping[str, Any]]  # the name of each recipe -> the values that differ from the defaults


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises OptionError, and offers the nearest name for an unknown option."""

    def __init__(self, command: str, description: str, example: str, package: str = "minifc") -> None:
        super().__init__(
            prog=f"python -m {package}.{command}",
            description=description.partition("\n\n")[2],  # a module's docstring, less its first line
            epilog=f"example: {example}",
            allow_abbrev=False,
        )
        self.add_argument("--debug", action="store_true", help="show a traceback when something fails")

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}; see {self.prog} --help")

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        args, unknown = self.parse_known_args(argv)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; see {self.prog} --help"
            raise OptionError(f"unknown option {unknown[0]}{hint}")
        return args


def option(default: Any, help: str, choices: Sequence[str] = (), name: str = "") -> Any:
    """A dataclass field that is also a command-line option; `name` if the option's is not the field's."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": tuple(choices), "name": name})


def add_data_options(parser: Parser) -> None:
    """--configuration, --split and --skip-bad: what is read of a data set, and how many of its rows may be bad."""
    parser.add_argument("--configuration", default="", help="of a data set (the one that its card marks)")
    parser.add_argument("--split", default="", help="of a data set or folder (train, and no other in its place)")
    parser.add_argument(
        "--skip-bad", type=whole_number, metavar="N", help="rows that may be bad and are left out; one more is an error"
    )


def add_options(parser: argparse.ArgumentParser, config: type, recipes: Recipes) -> None:
    """An option for each field of a dataclass: `learning_rate` is --learning-rate, a bool has a --no- form.

    Help tells the default, or the value in each recipe where recipes differ. Options that are not given are absent
    from the parsed namespace, so that a recipe can fill them.
    """
    group = parser.add_argument_group(config.__name__.removesuffix("Config").lower())
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        kind = hints[field.name]
        repeated = typing.get_origin(kind) is tuple
        settings: dict[str, Any] = {
            "dest": field.name,
            "default": argparse.SUPPRESS,
            "help": f"{field.metadata['help']} ({_defaults(field, recipes)})".replace("%", "%%"),
        }
        if kind is bool:
            group.add_argument(_option(field), action=argparse.BooleanOptionalAction, **settings)
            continue
        choices = field.metadata["choices"] or None
        metavar = None if choices else _option(field).strip("-").replace("-", "_").upper()
        group.add_argument(
            _option(field), type=_comma_list if repeated else kind, choices=choices, metavar=metavar, **settings
        )


def _option(field: "dataclasses.Field[Any]") -> str:
    return "--" + (field.metadata["name"] or field.name).replace("_", "-")


def _defaults(field: "dataclasses.Field[Any]", recipes: Recipes) -> str:
    values = {name: _shown(recipe.get(field.name, field.default)) for name, recipe in recipes.items()}
    if len(set(values.values())) == 1:
        return f"default: {next(iter(values.values()))}"
    return "; ".join(f"{name}: {value}" for name, value in values.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value == "" else ", ".join(value) if isinstance(value, tuple) else str(value)


def from_args(config: type[T], args: argparse.Namespace, recipe: Mapping[str, Any]) -> T:
    """The dataclass that options, or else the recipe, or else its defaults describe.

    Raises OptionError, which names the option, for a value that the dataclass refuses.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    given = {name: value for name, value in vars(args).items() if name in fields}
    try:
        return config(**{name: value for name, value in recipe.items() if name in fields} | given)
    except ParameterError as error:
        raise error.as_option(_option(fields[error.name]).removeprefix("--")) from None


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def require(condition: bool, name: str, value: object, rule: str) -> None:
    """Raise ParameterError unless the value of a parameter obeys its rule."""
    if not condition:
        raise ParameterError(name, value, rule)


def require_option(condition: bool, name: str, value: object, rule: str) -> None:
    """Raise OptionError unless the value of an option obeys its rule."""
    if not condition:
        raise OptionError(f"--{name} {value}: {rule}")


def new_file(text: str) -> Path:
    """An option's type: a file to write at the end, whose folder must be there before the work begins."""
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: no file can be written there; name one in a folder that exists")
    return path


def new_folder(text: str) -> Path:
    """An option's type: a folder to write at the end, which must be possible, and must not hold anything yet."""
    path = Path(text)
    if any(character < " " for character in text):  # it would write lines of its own in what names it
        raise argparse.ArgumentTypeError(f"{text!r}: has a line break or another control character; name it without")
    target = path.resolve()  # through a link to the folder itself
    if target.is_dir() and not is_empty(target):
        raise argparse.ArgumentTypeError(f"{path}: not empty; name a new folder")
    if target.exists() and not target.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: a file is in the way; name a new folder")
    above = next(place for place in target.parents if place.exists())
    if not above.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: the file {above} is in the way; name a new folder")
    try:
        os.rmdir(tempfile.mkdtemp(dir=above))  # permissions do not tell of a file system that is only read
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: cannot be written ({error.strerror}); name another place") from None
    return path


def whole_number(text: str) -> int:
    """An option's type: a count of things."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of things")
    return int(text)


def seed_number(text: str) -> int:
    """An option's type: the seed of a random generator."""
    if not text.isdecimal() or not (number := int(text)) < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 2^63 - 1")
    return number


OUT_OF_MEMORY = "out of memory; try fewer rows, a shorter length, gradient checkpointing, bfloat16, or --device cpu"


def run_command(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 if all went well, 2 with one line for an error that can be mended."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdin, sys.stdout, sys.stderr):  # a character that the terminal does not have is no crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    status = 0
    try:
        main(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        memory = is_out_of_memory(error)
        if "--debug" in argv or not (memory or isinstance(error, MinifcError | OSError)):
            raise
        # For no space and no permission, the system's own words name the file.
        print(f"error: {OUT_OF_MEMORY if memory else in_a_line(error)}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
