"""python -m lessons.check: which exercises pass, and a hint for those that do not.

You write into lessons/exercises/. A check calls what you wrote and looks at what it returns; nothing in it is secret,
but read it only when you are stuck, and the solution only after that.
"""

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from minifc.cli import Parser, run_command
from minifc.errors import OptionError

HERE = Path(__file__).resolve().parent
NOT_BEGUN = "not begun: write it in"


def lessons() -> list[str]:
    """The names of the lessons, in order: 01_tokens and on."""
    return sorted(path.stem for path in HERE.glob("[0-9][0-9]_*.py"))


def chosen(numbers: Sequence[str]) -> list[str]:
    """The names of the lessons with these numbers, in order; of all of them if there is none."""
    asked = {number.zfill(2) for number in numbers}
    if unknown := asked - {name[:2] for name in lessons()}:
        raise OptionError(f"no lesson {min(unknown)}; there are {', '.join(name[:2] for name in lessons())}")
    return [name for name in lessons() if not asked or name[:2] in asked]


def load(folder: str, lesson: str) -> ModuleType:
    """One of the files of a lesson: its exercises, their checks or their solutions."""
    path = HERE / folder / f"{lesson}.py"
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))  # as when a lesson is run: they import `lesson`
    spec = importlib.util.spec_from_file_location(f"lessons_{folder}_{lesson}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def functions(module: ModuleType) -> dict[str, Callable]:
    """The functions that a file defines itself, in its order."""
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def verdict(check: Callable, candidate: Callable | None) -> str:
    """Nothing if the candidate passes, else a hint."""
    if candidate is None:
        return f"{NOT_BEGUN} the exercises' file; the function is gone"
    try:
        check(candidate)
    except NotImplementedError:
        return f"{NOT_BEGUN} lessons/exercises"
    except AssertionError as error:
        return str(error) or f"line {_line(error, check)} of the check does not hold"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    return ""


def _line(error: BaseException, check: Callable) -> int:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == check.__code__.co_filename]
    return frames[-1].lineno or 0


def main(argv: Sequence[str]) -> None:
    parser = Parser("check", __doc__ or "", "python -m lessons.check 07", package="lessons")
    parser.add_argument("lesson", nargs="*", help="numbers of lessons, such as 07; all without")
    names = chosen(parser.parse(argv).lesson)
    left = 0
    for name in names:
        print(name)
        try:
            written = functions(load("exercises", name))
        except Exception as error:
            print(f"  ✗ lessons/exercises/{name}.py does not load: {type(error).__name__}: {error}")
            left += 1
            continue
        for exercise, check in functions(load("checks", name)).items():
            hint = verdict(check, written.get(exercise))
            left += bool(hint)
            print(f"  {'✗' if hint else '✓'} {exercise}{': ' if hint else ''}{hint}")
    if left:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
