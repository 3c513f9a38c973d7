"""
A job: rows of a file to records in another, begun, gone on with, or tried again where rows failed.

    results          the records, one a line
    results.job      what it was begun with, how far it is
    results.retry    while failed rows are tried again: the records anew, those that hold copied

The same command again goes on where the last one ended, however it ended.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from decodekit.errors import JobError, OutputError
from decodekit.jobs import identities, job_file, storage
from decodekit.jobs.answering import Answerer, Finished, Record, Started
from decodekit.jobs.job_file import Checkpoint, JobFile
from decodekit.jobs.journal import Journal
from decodekit.jobs.row import Row
from decodekit.jobs.runner import GROUP, Runner, Watch
from decodekit.jobs.sources import Source
from decodekit.jobs.summary import Summary
from decodekit.jobs.window import Window


@dataclass(frozen=True)
class Job:
    """What is asked for.

    begun_with  what may not change while the job lasts, by name, the input apart
    answerer    made of the job's seed
    seed        of which the rows' seeds are made; None: drawn
    note        is told what a person should know
    others as in `Runner`
    """

    source: Source
    results: Path
    begun_with: Mapping[str, Mapping[str, Any]]
    answerer: Callable[[int], Answerer]
    seed: int | None = None
    ordered: bool = True
    ahead: int = 64
    group: int = GROUP
    max_errors: int | None = None
    note: Callable[[str], None] = field(default=lambda text: None)

    def run(self, watch: Callable[[int, int], Watch], *, retry: bool = False) -> Summary:
        """Do what is left to do.

        watch  made of how many rows there are and how many are done
        retry  try rows again that failed
        """
        self._check_paths()
        now = {"input": self.source.fingerprint(), **self.begun_with}
        again = self.results.with_name(f"{self.results.name}.retry")
        journal = Journal(self.results)
        try:
            self._finish_retry(again)
            if not (retry or again.exists()):
                return self._run(journal, self._job(self.results, journal, now), watch)
            first = job_file.read(job_file.path_of(self.results))
            if first is None:
                raise JobError(f"{self.results}: there is no job whose errors could be tried again")
            return self._retry(again, journal, first, now, watch)
        finally:
            journal.close()

    def _check_paths(self) -> None:
        try:
            same = os.path.samefile(self.source.name, self.results)
        except OSError:
            same = False
        if same:
            raise JobError(f"{self.results}: input and output are one file; give another one for the output")
        with storage.writing(self.results):
            if self.results.is_dir():
                raise OutputError(f"{self.results}: is a folder; give a file")

    def _job(
        self, results: Path, journal: Journal, now: Mapping[str, Any], first: JobFile | None = None
    ) -> JobFile:
        """The job of those results, begun if there is none."""
        path = job_file.path_of(results)
        found = job_file.read(path)
        if found is not None:
            found.check(now, path)
            return found
        if journal.synced:
            raise JobError(f"{results}: is there already and no job wrote it; give another file")
        if first is None:
            rows = identities.check(self.source, results.parent)
            first = JobFile({}, secrets.randbits(53) if self.seed is None else self.seed, rows)
        begun = replace(first, begun_with=now, checkpoint=Checkpoint())
        begun.write(path)
        return begun

    def _run(
        self,
        journal: Journal,
        job: JobFile,
        watch: Callable[[int, int], Watch],
        earlier: Earlier | None = None,
    ) -> Summary:
        at, window, summary = self._resume(journal, job.checkpoint)
        if at.done:
            return summary
        answerer = self.answerer(job.seed)
        if earlier is not None:
            earlier.skip(window.low)
            answerer = Retrying(answerer, earlier)
        path = job_file.path_of(journal.path)
        runner = Runner(
            self.source,
            answerer,
            journal,
            window,
            summary,
            ordered=self.ordered,
            ahead=self.ahead,
            group=self.group,
            max_errors=self.max_errors,
            save=lambda checkpoint: replace(job, checkpoint=checkpoint).write(path),
            watch=watch(job.rows, summary.rows),
        )
        runner.run(at.mark)
        return summary

    def _resume(self, journal: Journal, at: Checkpoint) -> tuple[Checkpoint, Window, Summary]:
        """What is done: as the checkpoint says, and what came after it. What is torn is cut off."""
        if at.bytes and (at.bytes > journal.synced or journal.tail(at.bytes) != at.tail):
            self.note(f"{journal.path}: is not as it was last synced; all of it is read again")
            at = Checkpoint()
        window, summary, size = Window(at.low, at.ahead), Summary(at.summary), at.bytes
        for line in journal.lines(size):
            try:
                record = json.loads(line)
                Summary().add(record)  # what is no whole record finishes no row
                window.finish(record["row"])
                summary.add(record)
            except (ValueError, TypeError, KeyError, AttributeError):
                break
            size += len(line)
        if lost := journal.cut(size):
            self.note(f"{journal.path}: {lost:,} bytes behind the last whole record were cut off")
            at = replace(at, done=False)
        return at, window, summary

    def _retry(
        self,
        again: Path,
        journal: Journal,
        first: JobFile,
        now: Mapping[str, Any],
        watch: Callable[[int, int], Watch],
    ) -> Summary:
        first.check(now, job_file.path_of(self.results), but="software")  # it may be what was wrong
        at, _, summary = self._resume(journal, first.checkpoint)
        if at.done and not summary.failed:
            return summary
        anew = Journal(again)
        try:
            job = self._job(again, anew, now, first)
            summary = self._run(anew, job, watch, Earlier(journal.lines(0)))
        finally:
            anew.close()
        storage.replace(again, self.results)
        self._finish_retry(again)
        return summary

    def _finish_retry(self, again: Path) -> None:
        """Where the new results are in place, their job is too."""
        path = job_file.path_of(again)
        if path.exists() and not again.exists():
            storage.replace(path, job_file.path_of(self.results))


class Earlier:
    """Records that were written before, row by row; as far apart as a window is long."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._low = 0
        self._seen: dict[int, Record] = {}

    def skip(self, low: int) -> None:
        """Rows below that one are not asked for."""
        self._low = low

    def take(self, row: int) -> Record | None:
        """Of a row the record, if it was written."""
        while row not in self._seen:
            line = next(self._lines, None)
            if line is None:
                return None
            record = json.loads(line)
            if record["row"] >= self._low:
                self._seen[record["row"]] = record
        return self._seen.pop(row)


@dataclass(frozen=True)
class Retrying:
    """Answers the rows that failed; of the others the record stands."""

    answerer: Answerer
    earlier: Earlier

    def begin(self, row: Row) -> Started:
        record = self.earlier.take(row.number)
        if record is None or record.get("error"):
            return self.answerer.begin(row)
        return Finished(record)


class Unseen:
    """Watches nothing."""

    def advance(self, record: Record) -> None:
        pass
