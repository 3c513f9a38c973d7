"""The clock of a run: seconds of steps, over all its parts, by a clock that nobody sets."""

from __future__ import annotations

import time
from typing import Any

import transformers

from decodekit_export.notes import Notes


class Clock(transformers.TrainerCallback):
    """Ends training after `max_seconds` from the start of the first step; None never does."""

    def __init__(self, max_seconds: float | None, notes: Notes) -> None:
        self.notes = notes
        self._max_seconds = max_seconds
        self._began: float | None = None

    @property
    def share(self) -> float:
        """How much of the time is used, in [0, 1]; 0 if there is no limit."""
        return min(self.notes.seconds / self._max_seconds, 1.0) if self._max_seconds else 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._began is None:
            self._began = time.monotonic() - self.notes.seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self._began is not None
        self.notes.seconds = time.monotonic() - self._began
        if self.share >= 1.0:
            control.should_training_stop = True
