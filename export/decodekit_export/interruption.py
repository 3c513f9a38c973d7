"""
Interruption: SIGINT and SIGTERM, heard at once and obeyed at a place where nothing is lost.

The first signal is remembered until the trainer asks; the second ends the process as if nobody listened.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from decodekit_export.errors import TrainingError


class Interrupted(TrainingError):
    """A signal ended the run, and what it had done is saved; the exit status is that of the signal."""

    code = "E_INTERRUPTED"

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class Listener:
    """Listens inside a `with` block; `heard` is the first signal, or None."""

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Listener:
        if threading.current_thread() is threading.main_thread():  # only there may one listen
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
