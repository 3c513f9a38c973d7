"""
The runner: rows in, records out, with the model kept full and memory bounded.

Rows are begun while the engine has fewer waiting than it can take up, and written in groups.
It knows neither what a row asks for nor how a record comes about; see `answering`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from decodekit.errors import ErrorLimitError
from decodekit.jobs.answering import Answerer, Record, Started
from decodekit.jobs.job_file import Checkpoint
from decodekit.jobs.journal import Journal
from decodekit.jobs.ready import Ready
from decodekit.jobs.row import Mark, Row
from decodekit.jobs.sources import Source
from decodekit.jobs.summary import Summary
from decodekit.jobs.window import Window

GROUP = 256  # records that are synced together at most
BURSTS = 4  # rows in the engine are taken a fourth at a time
GROUP_SECONDS = 1.0  # that a record waits at most to be synced
CHECKPOINT_GROUPS = 16


class Watch(Protocol):
    """Is told how a job goes on."""

    def advance(self, record: Record) -> None: ...


class Runner:
    """Answers the rows that are not in the window yet.

    ordered     records in the order of the rows; False: as they are done
    ahead       sequences that are with the engine at most, before one more row is begun
    group       records that are synced together at most
    max_errors  rows that may fail in this run; None: all
    save        is told a checkpoint
    """

    def __init__(
        self,
        source: Source,
        answerer: Answerer,
        journal: Journal,
        window: Window,
        summary: Summary,
        *,
        ordered: bool,
        ahead: int,
        group: int,
        max_errors: int | None,
        save: Callable[[Checkpoint], None],
        watch: Watch,
    ) -> None:
        self.source, self.answerer, self.journal = source, answerer, journal
        self.window, self.summary = window, summary
        self._ordered, self._ahead, self._group = ordered, ahead, group
        self._max_errors, self._failed = max_errors, 0
        self._save, self._watch = save, watch
        self._running: dict[int, Started] = {}
        self._sequences = 0  # that the engine has
        self._ready = Ready()
        self._held: dict[int, Record] = {}  # done, but not their turn yet
        self._groups, self._synced_at = 0, time.monotonic()

    def run(self, start: Mark) -> None:
        """All rows from that place on, which is where the window's first row begins, or before."""
        self._end = start
        rows = (row for row in self.source.rows(start) if row.number >= self.window.low)
        row = next(rows, None)
        while row or self._running:
            while row and self._room(row):
                self._begin(row)
                row = next(rows, None)
            # While others wait in the engine, rows are better handled some at a time: each time this
            # thread wakes, it takes a processor from the model.
            self._take(max(1, min(self._ahead // BURSTS, len(self._running))) if row else 1)
        self._commit()
        self.source.check_unchanged()
        self._save(self._checkpoint(done=True))

    def _begin(self, row: Row) -> None:
        self._end = row.end
        if self.window.has(row.number):
            return
        self.window.begin(row.begin)
        started = self.answerer.begin(row)
        self._running[row.number] = started
        self._sequences += started.sequences
        started.when_done(partial(self._ready.put, row.number))

    def _room(self, row: Row) -> bool:
        """Whether one more row may be begun."""
        few = self._sequences < self._ahead and len(self._ready) < self._ahead
        return few and self.window.reaches(row.number)

    def _take(self, wanted: int) -> None:
        """Write what is done, once so many rows are."""
        for number in self._ready.take(wanted, GROUP_SECONDS):
            self._finish(number)
        late = time.monotonic() - self._synced_at > GROUP_SECONDS
        if self.journal.pending >= self._group or (self.journal.pending and late):
            self._commit()

    def _finish(self, number: int) -> None:
        started = self._running.pop(number)
        self._sequences -= started.sequences
        record = started.record()
        if not self._ordered:
            self._append(number, record)
            return
        self._held[number] = record
        while (first := self.window.low) in self._held:
            self._append(first, self._held.pop(first))

    def _append(self, number: int, record: Record) -> None:
        self.journal.append(encoded(record))
        self.window.finish(number)
        self.summary.add(record)
        self._watch.advance(record)
        self._failed += bool(record.get("error"))
        if self._max_errors is not None and self._failed > self._max_errors:
            self._commit()
            last = record["error"]
            raise ErrorLimitError(
                f"{self.journal.path}: more than {self._max_errors} rows failed, the last one at line "
                f"{last['line']}: {last['message']}; what is done is safe; mend that and go on"
            )

    def _commit(self) -> None:
        self.journal.commit()
        self._synced_at = time.monotonic()
        self._groups += 1
        if self._groups % CHECKPOINT_GROUPS == 0:
            self.source.check_unchanged()
            self._save(self._checkpoint())

    def _checkpoint(self, *, done: bool = False) -> Checkpoint:
        window = self.window
        ahead, mark = tuple(sorted(window.ahead)), window.place(self._end)
        size = self.journal.synced
        tail = self.journal.tail(size)
        return Checkpoint(size, tail, window.low, ahead, mark, self.summary.to_json(), done)


def encoded(record: Record) -> bytes:
    """One line; a number that JSON cannot say is null."""
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(record), ensure_ascii=False)
    return text.encode() + b"\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
