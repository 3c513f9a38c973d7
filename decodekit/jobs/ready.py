"""Rows that are done, as the engine tells it, for a thread that would rather wake for several at once."""

from __future__ import annotations

import threading
from collections import deque


class Ready:
    """Numbers of rows, in the order in which they were done."""

    def __init__(self) -> None:
        self._numbers: deque[int] = deque()
        self._wanted = 1
        self._enough = threading.Event()

    def __len__(self) -> int:
        return len(self._numbers)

    def put(self, number: int) -> None:
        """One more; from any thread."""
        self._numbers.append(number)
        if len(self._numbers) >= self._wanted:
            self._enough.set()

    def take(self, wanted: int, timeout: float) -> list[int]:
        """All there are, once so many are there or `timeout` seconds are over; for one thread."""
        self._enough.clear()
        self._wanted = wanted
        if len(self._numbers) < wanted:
            self._enough.wait(timeout)
        return [self._numbers.popleft() for _ in range(len(self._numbers))]
