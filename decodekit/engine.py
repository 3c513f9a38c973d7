"""
The engine: one thread that owns a model and decodes for everybody.

Callers on any thread hand in requests and get events. The thread runs turns of a `Batch`
while there is work and sleeps while there is none. A second thread watches it: where a
turn takes longer than `stall` seconds, the callers are told instead of waiting for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from decodekit.batch import Batch
from decodekit.errors import EngineClosedError, EngineError, EngineStalledError, ForkedError, QueueFullError
from decodekit.graph_sampling.reducer import Reducer
from decodekit.memory import free_memory
from decodekit.meter import Meter
from decodekit.model import Model
from decodekit.origin import describe
from decodekit.parameters import real, whole
from decodekit.request import Request
from decodekit.slots import OneByOne, Slots
from decodekit.watchdog import Watchdog

T = TypeVar("T")
Job = tuple[Callable[[], Any], Future[Any]]

MAX_ROWS = 16
MAX_QUEUE = 1024
STALL_SECONDS = 300.0


class Engine:
    """Decodes many requests with one model. Its methods may be called from any thread.

    max_rows       sequences that decode together at most
    cache_bytes    memory of their caches at most; None: half of what is free now
    prefix_bytes   memory for prefixes of prompts that were read before; 0: none are kept
    max_queue      requests that may wait; one more is refused
    deterministic  decode every sequence in calls of its own, see docs/reproducibility.md
    stall          seconds after which a turn counts as stuck
    reducer        runs what can be traced of chains in graphs; None: chains run on the host
    """

    def __init__(
        self,
        model: Model,
        *,
        max_rows: int = MAX_ROWS,
        cache_bytes: int | None = None,
        prefix_bytes: int | None = None,
        max_queue: int = MAX_QUEUE,
        deterministic: bool = False,
        stall: float = STALL_SECONDS,
        reducer: Reducer | None = None,
    ) -> None:
        whole("max_rows", max_rows, "[1, inf)")
        whole("cache_bytes", 1 if cache_bytes is None else cache_bytes, "[1, inf)")
        whole("prefix_bytes", prefix_bytes or 0, "[0, inf)")
        whole("max_queue", max_queue, "[0, inf)")
        real("stall: seconds", stall, "(0, inf)")
        self.model = model
        self.max_rows = max_rows
        self.deterministic = deterministic
        self.cache_bytes = free_memory() // 2 if cache_bytes is None else cache_bytes
        prefixes = self.cache_bytes // 16 if prefix_bytes is None else prefix_bytes
        self.reducer = reducer
        self._batch = Batch(self.slots(max_rows), max_rows=max_rows, prefix_bytes=prefixes, reducer=reducer)
        self._max_queue = max_queue
        self._inbox: deque[Request] = deque()
        self._jobs: deque[Job] = deque()
        self._doing: deque[Job] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing: EngineError | None = None
        self._watchdog = Watchdog(stall)
        self._pid = os.getpid()

    @property
    def meter(self) -> Meter:
        """Where the time goes, and counts."""
        return self._batch.meter

    @property
    def costs(self) -> Any:
        """Measured seconds of calls, by shape."""
        return self._batch.costs

    @property
    def running(self) -> int:
        """Requests that are being decoded now."""
        return len(self._batch.running) + (self._batch.reading is not None)

    @property
    def waiting(self) -> int:
        return len(self._batch.waiting) + len(self._inbox)

    @property
    def age(self) -> float:
        """Seconds the turn in progress has taken so far; 0 between turns."""
        return self._watchdog.age

    @property
    def failure(self) -> EngineError | None:
        """Why it takes no requests any more; None: it does."""
        return self._closing

    def submit(self, *requests: Request) -> None:
        """Decode these; all are taken in, or none and an error is raised."""
        self._check_process()
        if threading.current_thread() is self._thread:
            raise EngineError("a strategy cannot ask the decoder that waits for it; load another one")
        with self._changed:
            self._check_open()
            if self.running + self.waiting + len(requests) > self.max_rows + self._max_queue:
                raise QueueFullError(
                    f"no room for {len(requests)} more: {self.running} requests run, {self.waiting} wait and "
                    f"at most {self._max_queue} may; try again later, or load the model with more max_queue"
                )
            self._start_thread()
            self._inbox.extend(requests)
            self._changed.notify_all()

    def call(self, function: Callable[[], T]) -> T:
        """The result of a function that uses the model, run on the engine's thread between two turns."""
        future: Future[T] = Future()
        self._check_process()
        with self._changed:
            self._check_open()
            inside = threading.current_thread() is self._thread
            if not inside:
                self._start_thread()
                self._jobs.append((function, future))
                self._changed.notify_all()
        return function() if inside else future.result()

    def slots(self, rows: int) -> Slots:
        """New slots for that many sequences, of as much memory at most; for use within `call`."""
        own = getattr(self.model, "slots", None)
        if own is None:
            return OneByOne(self.model, max_rows=rows, max_bytes=self.cache_bytes)
        made: Slots = own(max_rows=rows, max_bytes=self.cache_bytes, together=not self.deterministic)
        return made

    def close(self, timeout: float = 2.0) -> None:
        """End what runs with an error, and the thread; wait for it at most `timeout` seconds."""
        if os.getpid() != self._pid:  # the thread is the parent's, and its lock may be held for ever
            return
        with self._changed:
            if self._closing is None:
                self._closing = EngineClosedError("the decoder was closed; load the model again")
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedError(
                "this decoder was loaded before the process forked and its threads did not come along; "
                "load it in the child, or start processes with 'spawn'"
            )

    def _check_open(self) -> None:
        if self._closing is not None:
            raise _again(self._closing)

    def _start_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="decodekit engine", daemon=True)
            thread.start()
            self._thread = thread
            self._watchdog.start(self._stalled, lambda: self._closing is not None)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as exc:  # a fault of our own: nobody shall wait for ever
            self._give_up(EngineError(f"the engine failed: {exc!r}; load the model again"))
            raise

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (self._inbox or self._jobs or self._closing) and self._batch.idle:
                    self._changed.wait()
                requests, self._inbox = self._inbox, deque()
                self._doing, self._jobs = self._jobs, deque()
            self._watchdog.begin()
            if self._closing is not None:
                self._end(requests, self._doing, self._closing)
                return
            self._take_in(requests)
            while self._doing:
                _do(*self._doing[0])  # stays in the list, so that the watchdog can tell its caller
                self._doing.popleft()
            self._turn()
            self._watchdog.rest()

    def _take_in(self, requests: deque[Request]) -> None:
        while requests:
            request = requests.popleft()
            try:
                self._batch.add(request)
            except Exception as exc:
                request.end(exc)

    def _turn(self) -> None:
        began, graph = time.perf_counter(), self._graph_seconds()
        try:
            self._batch.turn()
        except BaseException as exc:  # the model's call failed: nobody's step can be trusted
            self._batch.fail(exc)
        self.meter.graph += self._graph_seconds() - graph
        self.meter.seconds += time.perf_counter() - began

    def _graph_seconds(self) -> float:
        session = getattr(self.model, "session", None)
        return 0.0 if session is None else session.seconds

    def _end(self, requests: deque[Request], jobs: deque[Any], error: EngineError) -> None:
        for request in (*requests, *self._batch.requests()):
            request.end(_again(error))
        for _, future in jobs:
            with suppress(InvalidStateError):  # it was done meanwhile
                future.set_exception(_again(error))
        self._watchdog.rest()

    def _stalled(self, age: float) -> None:
        current = self._batch.current
        where = "in the model"
        if current is not None:
            where = "in a strategy of " + ", ".join(map(describe, current.answer.strategies))
        self._give_up(
            EngineStalledError(
                f"no step for {age:.1f} s, {where}; load the model again, "
                "with a larger stall if that is normal"
            )
        )

    def _give_up(self, error: EngineError) -> None:
        """Tell everybody. A stuck thread cannot be stopped; the engine takes nothing more."""
        with self._changed:
            self._closing = error
            requests, self._inbox = self._inbox, deque()
            jobs, self._jobs = deque([*self._doing, *self._jobs]), deque()
        self._end(requests, jobs, error)


def _again(error: EngineError) -> EngineError:
    """The same error for one more caller: raised, it holds on to that caller's frames."""
    return type(error)(*error.args)


def _do(function: Callable[[], Any], future: Future[Any]) -> None:
    try:
        settle = partial(future.set_result, function())
    except BaseException as exc:
        settle = partial(future.set_exception, exc)
    with suppress(InvalidStateError):  # given up meanwhile
        settle()
