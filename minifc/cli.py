"""What every command shares: options with help, errors in one line, exit status 2."""

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn
from unicodedata import category

from minifc.errors import MinifcError, OptionError

# Python calls these unprintable; but letters and emoji are joined, and directions told, with the latter four.
_KEPT = "\n\t\u200c\u200d\u200e\u200f"


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


def new_file(text: str) -> Path:
    """An option's type: a file to write at the end, whose folder must be there before the work begins."""
    path = Path(text)
    if not path.parent.is_dir() or path.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: no file can be written there; name one in a folder that exists")
    return path


def seed_number(text: str) -> int:
    """An option's type: where a random generator begins."""
    if not text.isdecimal() or not (number := int(text)) < 2**63:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 2^63 - 1")
    return number


def visible(text: str) -> str:
    """Without what a terminal would obey: a model, a tool, a data file may hold escape sequences."""
    return "".join(c if c in _KEPT or c.isprintable() or category(c) == "Zs" else _escaped(c) for c in text)


def _escaped(c: str) -> str:
    return c.encode("unicode_escape").decode()


def run_command(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 if all went well, 2 with one line for an error that can be mended."""
    argv = sys.argv[1:] if argv is None else argv
    status = 0
    try:
        main(argv)
        sys.stdout.flush()
    except MinifcError as error:
        if "--debug" in argv:
            raise
        print(f"error: {_in_a_line(error)}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # no space, no permission: the system's own words name the file
        if "--debug" in argv:
            raise
        print(f"error: {_in_a_line(error)}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)


def _in_a_line(error: BaseException) -> str:
    return " ".join(visible(str(error)).split("\n"))
