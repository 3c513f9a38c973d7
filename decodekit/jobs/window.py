"""
The window: which rows of a file are done, in a few bytes whatever the file's size.

Rows are begun in order and no row is begun further than SPAN rows ahead of the first that is
not done. So what is done is a number, below which all rows are, and a small set above it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from decodekit.jobs.row import Mark

SPAN = 4096  # rows


class Window:
    """Rows by number, from 0.

    low    all rows below it are done
    ahead  rows above it that are done too
    """

    def __init__(self, low: int = 0, ahead: Iterable[int] = ()) -> None:
        self.low = low
        self.ahead = set(ahead)
        self._begun: deque[Mark] = deque()  # where rows from `low` on begin

    def has(self, number: int) -> bool:
        """Whether that row is done."""
        return number < self.low or number in self.ahead

    def reaches(self, number: int) -> bool:
        """Whether that row may be begun."""
        return number < self.low + SPAN

    def begin(self, mark: Mark) -> None:
        """A row was read that begins there."""
        self._begun.append(mark)

    def finish(self, number: int) -> None:
        """A row is done. ValueError if it was, or is out of reach."""
        if self.has(number) or not self.reaches(number):
            raise ValueError(f"row {number} is not one of those that could come now")
        self.ahead.add(number)
        while self.low in self.ahead:
            self.ahead.remove(self.low)
            self.low += 1
        while self._begun and self._begun[0].number < self.low:
            self._begun.popleft()

    def place(self, end: Mark) -> Mark:
        """Where row `low` begins; `end` if it was not read yet."""
        return self._begun[0] if self._begun else end
