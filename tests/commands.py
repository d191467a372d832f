"""A command as a user runs it, without a process of its own."""

from collections.abc import Callable, Sequence

import pytest

from minifc.cli import run_command


def run(main: Callable[[Sequence[str]], None], *argv: str) -> int:
    """The exit status."""
    with pytest.raises(SystemExit) as stopped:
        run_command(main, list(argv))
    return int(stopped.value.code or 0)
