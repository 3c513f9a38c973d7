"""
Gathering: the answers to many prompts, in order, a few of them ahead of the one that is waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Protocol

from decodekit.answer import Token
from decodekit.engine import Engine
from decodekit.errors import QueueFullError
from decodekit.preparation import Prepared
from decodekit.request import Emit, Event, Request
from decodekit.text_stream import Pieces

Started = tuple[Future[Sequence[Event]], Pieces]

AHEAD = 4  # prompts of a long list that wait, per row of the engine


class MakeRequest(Protocol):
    """Makes the request for one sample of a prompt."""

    def __call__(
        self, prepared: Prepared, sample: int, emit: Emit, leader: Request | None
    ) -> tuple[Request, Pieces]: ...


def gather(
    engine: Engine, make: MakeRequest, prompts: Sequence[Prepared], n: int
) -> Generator[Started, None, None]:
    """Requests for n samples of each prompt, begun a few ahead. Closed early, all that run end."""
    started: deque[Started] = deque()
    ahead = max(n, AHEAD * engine.max_rows)
    try:
        for prepared in prompts:
            while True:
                try:
                    started.extend(begin(engine, make, prepared, n))
                    break
                except QueueFullError:  # there is room once one of ours is through
                    if not started:
                        raise
                yield started[0]
                started.popleft()
            while len(started) > ahead:
                yield started[0]
                started.popleft()
        while started:
            yield started[0]
            started.popleft()
    finally:
        for future, _ in started:
            future.cancel()


def begin(engine: Engine, make: MakeRequest, prepared: Prepared, n: int) -> list[Started]:
    """The n samples of a prompt, which is read once."""
    leader, requests, started = None, [], []
    first = prepared.settings.sample
    for sample in range(first, first + n):
        gathered = Gathered()
        request, pieces = make(prepared, sample, gathered, leader)
        gathered.future.add_done_callback(request.cancel)
        leader = leader or request
        requests.append(request)
        started.append((gathered.future, pieces))
    engine.submit(*requests)
    return started


class Gathered:
    """Collects the events of a request for a future. Cancelling the future ends the request."""

    def __init__(self) -> None:
        self.future: Future[Sequence[Event]] = Future()
        self._events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self._events.append(event)
        if not isinstance(event, Token) or event.stop is not None:
            with suppress(InvalidStateError):  # cancelled meanwhile
                self.future.set_result(self._events)
