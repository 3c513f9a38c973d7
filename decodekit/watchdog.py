"""A watchdog: tells where one piece of a thread's work takes too long. It can tell, not stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Looks at what a thread is doing, from one of its own.

    limit  seconds after which a piece of work counts as stuck
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._since: float | None = None  # when the work now in progress began

    @property
    def age(self) -> float:
        """Seconds the work in progress has taken so far; 0 where there is none."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def begin(self) -> None:
        self._since = time.monotonic()

    def rest(self) -> None:
        self._since = None

    def start(self, stuck: Callable[[float], None], ended: Callable[[], bool]) -> None:
        """Watch until it has `ended`, or something is `stuck`, which is told with the seconds so far."""
        watch = threading.Thread(
            target=self._watch, args=(stuck, ended), name="decodekit watchdog", daemon=True
        )
        watch.start()

    def _watch(self, stuck: Callable[[float], None], ended: Callable[[], bool]) -> None:
        while not ended():
            time.sleep(min(1.0, self._limit / 4))
            if (age := self.age) > self._limit:
                stuck(age)
                return
