"""
Faults of a file, each with its place: collected, tolerated as far as was asked for, told together.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, TextIO

from decodekit.errors import DecodekitError

MAX_PROBLEMS = 20  # collected before reading stops


class DataError(DecodekitError, ValueError):
    """Rows that cannot be trained on; `problems` has a line for each of the first."""

    code = "E_DATA"
    exit_code = 2

    def __init__(self, problems: list[str], way_out: str = "") -> None:
        more = len(problems) - 1
        rest = f" (and {more} more bad row{'s' * (more > 1)})" if more else ""
        stopped = ", reading stopped there" if len(problems) >= MAX_PROBLEMS else ""
        super().__init__(problems[0] + rest + stopped + way_out)
        self.problems = problems


class Problems:
    """Faults of one file, a context. Up to `skip` are passed over and listed; more are raised together.

    listing  the file that lists what was passed over, written anew
    """

    def __init__(self, file: str, skip: int, listing: Path) -> None:
        self.file = file
        self.count = 0
        self._skip = skip
        self._listing = listing
        self._list: TextIO | None = None
        self._first: list[str] = []

    def __enter__(self) -> Problems:
        return self

    def __exit__(self, *_: object) -> None:
        if self._list:
            self._list.close()

    def add(self, line: int, fault: str) -> None:
        """Note the fault of a line. Raises DataError where there are too many."""
        problem = f"{self.file}:{line}: {fault}"
        self.count += 1
        if len(self._first) < MAX_PROBLEMS:
            self._first.append(problem)
        if self._skip:
            self._write(problem)
        if self.count >= max(MAX_PROBLEMS, self._skip + 1):
            self._raise()

    def stop(self, line: int, fault: str) -> NoReturn:
        """Raise for a fault behind which nothing can be read."""
        raise DataError([*self._first[: MAX_PROBLEMS - 1], f"{self.file}:{line}: {fault}"])

    def close(self) -> None:
        """Raise if there were more faults than may be passed over."""
        if self.count > self._skip:
            self._raise()

    def _write(self, problem: str) -> None:
        try:
            if self._list is None:
                self._list = self._listing.open("w", encoding="utf-8")
            self._list.write(problem + "\n")
            self._list.flush()
        except OSError as exc:
            raise DataError([f"{self._listing}: cannot be written ({exc.strerror}); choose another"]) from exc

    def _raise(self) -> NoReturn:
        way_out = f"; more than the {self._skip} that may be skipped" if self._skip else ""
        raise DataError(self._first, way_out)
