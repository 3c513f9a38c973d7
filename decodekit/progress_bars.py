"""Progress bars: how a long command goes on. Where there is no terminal, a job tells it in lines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from decodekit import console
from decodekit.jobs.summary import tokens
from decodekit.score import Sum

LINE_SECONDS = 30.0  # between two lines of a job where there is no terminal


class Bar:
    """A bar on a terminal, of things named `unit`; what is told of them stands behind it."""

    def __init__(self, unit: str) -> None:
        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn(f"{{task.completed:,}} of {{task.total:,}} {unit}"),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console.err,
            disable=not console.err.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class ScoreBar(Bar):
    """While tokens are scored: how many, how fast, how long still, perplexity so far."""

    def __init__(self, tokens: int) -> None:
        super().__init__("tokens")
        self._task = self._progress.add_task("", total=tokens)
        self._sum, self._began = Sum(), time.monotonic()

    def advance(self, added: Sum) -> None:
        """Tokens that were scored just now."""
        self._sum += added
        speed = self._sum.count / max(time.monotonic() - self._began, 1e-9)
        text = f"{speed:,.0f} tokens/s, perplexity {self._sum.perplexity:.3f}"
        self._progress.update(self._task, advance=added.count, description=text)


class JobBar(Bar):
    """How a job goes on: rows, tokens a second, what a row costs, how long still."""

    def __init__(self) -> None:
        super().__init__("rows")

    def begin(self, rows: int, done: int) -> JobBar:
        """A job of so many rows, of which some are done."""
        self._rows, self._done, self._first = rows, done, done
        self._tokens = self._failed = 0
        self._began = self._told = time.monotonic()
        self._task = self._progress.add_task("", total=rows, completed=done)
        if done:
            console.show_note(f"{done:,} of {rows:,} rows are done; going on")
        return self

    def advance(self, record: Mapping[str, Any]) -> None:
        """One more row."""
        self._done += 1
        self._tokens += tokens(record)
        self._failed += bool(record.get("error"))
        now = time.monotonic()
        if now - self._told > (0.25 if console.err.is_terminal else LINE_SECONDS):
            self._told = now
            self._tell(now - self._began)

    def _tell(self, seconds: float) -> None:
        new = self._done - self._first
        text = f"{self._tokens / seconds:,.0f} tokens/s, {1000 * seconds / new:,.1f} ms and "
        text += f"{self._tokens / new:,.1f} tokens a row"
        text += f", {self._failed:,} failed" if self._failed else ""
        if console.err.is_terminal:
            self._progress.update(self._task, completed=self._done, description=text)
        else:
            left = (self._rows - self._done) * seconds / new
            console.show_note(f"{self._done:,} of {self._rows:,} rows, {text}, {left:,.0f} s left")
