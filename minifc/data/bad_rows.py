"""Rows that cannot be learned from: so many are left out, and one more is an error."""

from collections.abc import Iterator
from contextlib import contextmanager

from minifc.errors import DataError
from minifc.terminal import note


class BadRows:
    """The rows of a data set that were left out, at most `most` of them."""

    def __init__(self, most: int = 0) -> None:
        self.most = most
        self.errors: list[DataError] = []

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """A row is read within the block; if it cannot be, it is left out. Raises DataError for one too many."""
        try:
            yield
        except DataError as error:
            self.errors.append(error)
            if len(self.errors) > self.most:
                more = (
                    f"more bad rows than --skip-bad {self.most}" if self.most else "--skip-bad N leaves out N such rows"
                )
                raise DataError(f"{error} ({more})") from None

    def say(self) -> None:
        """Print how many rows were left out, and why the first one was."""
        if self.errors:
            note(f"left out: {len(self.errors):,} rows cannot be learned from (--skip-bad); {self.errors[0]}")
