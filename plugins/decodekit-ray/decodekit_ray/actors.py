"""
Actors: rows to engines on other machines, and records back. A kind of `Answerer`.

Rows travel in blocks of bounded size. The journal stays with the process that began the job, so
order, resuming and the promise of each row once are those of a job without Ray. A block whose
actor died is run again by Ray, on the actor that takes its place; a row's tokens depend on bundle,
settings and seed alone, so nobody can tell.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from decodekit.errors import DeviceError, QueueFullError
from decodekit.jobs.answering import Answering, Record, Started
from decodekit.jobs.row import Row
from decodekit.jobs.tasks import Tasks
from decodekit.plugin_choice import Choice
from decodekit_ray.cluster import connect, line, ray

BLOCK_ROWS = 16
BLOCK_BYTES = 1 << 20  # of rows; a longer row travels by itself
LINGER = 0.02  # seconds that a row waits for others


@dataclass(frozen=True)
class Engine:
    """What an actor needs to answer as the process that began the job would.

    facts  of bundle and software; those of the actor's machine must be the same
    """

    model: str
    load: Mapping[str, Any]
    plugins: Choice
    defaults: tuple[Any, ...]
    how: Mapping[str, Any]
    facts: Mapping[str, Any]

    def answering(self, seed: int) -> Answering:
        """Load the model. JobError, which names it, where this machine has another one or other software."""
        import decodekit
        from decodekit.commands.batch import begun_with
        from decodekit.jobs.job_file import JobFile

        plugins = decodekit.load_plugins(self.plugins)
        decoder = decodekit.load(self.model, plugins=plugins, **self.load)
        JobFile(self.facts, seed, 0).check(begun_with(decoder, {}), f"node {os.uname().nodename}")
        return Answering(decoder, Tasks(plugins, *self.defaults), seed, **self.how)


class Worker:
    """An actor: one engine. Several blocks are answered at a time, so that it stays full."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine, self._seed = engine, seed
        self._answering: Answering | None = None
        self._loading = threading.Lock()

    def answer(self, rows: Sequence[Row]) -> list[Record]:
        """The records of a block, in order."""
        answering = self._loaded()
        started = [_begun(answering, row) for row in rows]
        return [one.record() for one in started]

    def ready(self) -> int:
        """Load the model; the number of the process it lives in."""
        self._loaded()
        return os.getpid()

    def _loaded(self) -> Answering:
        with self._loading:  # not in __init__, whose errors Ray tells as an actor's death
            if self._answering is None:
                self._answering = self._engine.answering(self._seed)
        return self._answering


def _begun(answering: Answering, row: Row) -> Started:
    """A row that is begun as soon as the engine has room for all of its answers."""
    while True:
        try:
            return answering.begin(row)
        except QueueFullError:
            time.sleep(LINGER)


class Sent:
    """A row on its way."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.sequences = 1  # as far as is known here
        self.answered: Future[Record] = Future()

    def when_done(self, tell: Callable[[], Any]) -> None:
        self.answered.add_done_callback(lambda _: tell())

    def record(self) -> Record:
        return self.answered.result()


class Actors:
    """Answers rows on `count` actors.

    address  of the cluster: host:port, "auto", or "local" to start one here
    cost     num_cpus and num_gpus of an actor
    ahead    sequences an engine takes at a time
    """

    def __init__(
        self, engine: Engine, seed: int, *, address: str, count: int, cost: Mapping[str, float], ahead: int
    ) -> None:
        connect(address, count * cost["num_cpus"])
        blocks = max(1, ahead // BLOCK_ROWS)
        kind = ray.remote(**cost, max_restarts=-1, max_task_retries=-1, max_concurrency=blocks)(Worker)
        self.workers = [kind.remote(engine, seed) for _ in range(count)]
        self._load = [0] * count
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[Sent] = queue.SimpleQueue()
        try:
            self.pids = ray.get([worker.ready.remote() for worker in self.workers])
        except ray.exceptions.RayTaskError as exc:
            raise exc.cause from exc
        except ray.exceptions.RayError as exc:
            raise DeviceError(
                f"--ray: no actor could be started ({line(exc)}); look at the cluster with `ray status`"
            ) from exc
        threading.Thread(target=self._send, name="decodekit rows to ray", daemon=True).start()

    def begin(self, row: Row) -> Sent:
        sent = Sent(row)
        self._waiting.put(sent)
        return sent

    def _send(self) -> None:
        """Rows that come close to each other go together."""
        while True:
            block = [self._waiting.get()]
            size, until = _bytes(block[0].row), time.monotonic() + LINGER
            while len(block) < BLOCK_ROWS and size < BLOCK_BYTES and (left := until - time.monotonic()) > 0:
                try:
                    block.append(self._waiting.get(timeout=left))
                except queue.Empty:
                    break
                size += _bytes(block[-1].row)
            self._dispatch(block)

    def _dispatch(self, block: list[Sent]) -> None:
        with self._lock:
            least = self._load.index(min(self._load))
            self._load[least] += len(block)
        answers = self.workers[least].answer.remote([sent.row for sent in block])

        def done(future: Future[list[Record]]) -> None:
            with self._lock:
                self._load[least] -= len(block)
            if (exc := future.exception()) is not None:
                for sent in block:
                    sent.answered.set_exception(getattr(exc, "cause", None) or exc)
                return
            for sent, record in zip(block, future.result(), strict=True):
                sent.answered.set_result(record)

        answers.future().add_done_callback(done)


def _bytes(row: Row) -> int:
    return row.end.byte - row.begin.byte
