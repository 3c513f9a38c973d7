"""
Answers: the engine's events of one job, gathered for a coroutine.

The engine's thread puts events into a queue and wakes the coroutine once, however many there
are; what comes while the client reads slowly is taken together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from decodekit.answer import Token
from decodekit.completion import Completion
from decodekit.preparation import Prepared
from decodekit.request import Event, Request
from decodekit.text_stream import Pieces
from decodekit.trace import Tracing
from decodekit_server.metrics import Metrics
from decodekit_server.preparing import Job


@dataclass(frozen=True, slots=True)
class Update:
    """What is certain since the last one.

    index       of the choice
    text        that no verdict can take back any more
    tokens      whose text that is
    completion  once it has ended
    """

    index: int
    text: str
    tokens: tuple[Token, ...]
    completion: Completion | None


class Choice:
    """One answer while it grows."""

    def __init__(self, index: int, pieces: Pieces) -> None:
        self.index, self.text = index, ""
        self.tokens: list[Token] = []  # whose text is certain
        self._pieces = pieces
        self._drawn: deque[tuple[int, Token]] = deque()  # where its text begins; not certain yet
        self._length = 0

    @property
    def completion(self) -> Completion | None:
        return self._pieces.completion

    def push(self, events: list[Event]) -> Update:
        """Raises what ended the answer if it was an error."""
        text = "".join(self._push(event) for event in events)
        self.text += text
        tokens = tuple(self._certain())
        self.tokens += tokens
        return Update(self.index, text, tokens, self.completion)

    def _push(self, event: Event) -> str:
        if isinstance(event, Token):
            self._drawn.append((self._length, event))
            self._length += len(event.text)
            for _ in range(min(event.takes_back, len(self._drawn))):
                self._length = self._drawn.pop()[0]
        return self._pieces.push(event)

    def _certain(self) -> Iterator[Token]:
        """A token that adds no text belongs to what comes after; the one that ends an answer, to nothing."""
        shown, over = len(self.text), self.completion is not None
        while self._drawn:
            start, token = self._drawn[0]
            if start >= shown or (start + len(token.text) > shown and not over):
                return
            self._drawn.popleft()
            yield token


class Answers:
    """Of one job, begun when it is made. Iterate for updates; `cancel` in any case."""

    def __init__(self, job: Job, metrics: Metrics) -> None:
        self.job, self._metrics = job, metrics
        self._loop = asyncio.get_running_loop()
        self._events: deque[tuple[int, Event]] = deque()
        self._arrived = asyncio.Event()
        self._waking = False
        self._began = time.monotonic()
        self.first: float | None = None  # seconds until the first token
        self.trace: dict[str, Any] | None = None
        self._tracing: Tracing | None = None
        self.choices: list[Choice] = []
        self._requests: list[Request] = []
        for prepared in job.prepared:
            self._make(prepared)
        job.served.decoder.engine.submit(*self._requests)

    def cancel(self) -> None:
        """End what still runs, before its next step."""
        for request in self._requests:
            request.cancel()

    async def __aiter__(self) -> AsyncIterator[Update]:
        """To the end of all choices; raises what ended the first that failed."""
        left = len(self.choices)
        while left:
            await self._arrived.wait()
            self._arrived.clear()
            self._waking = False
            by_choice: dict[int, list[Event]] = {}
            while self._events:
                index, event = self._events.popleft()
                events = by_choice.pop(index, [])
                events.append(event)
                by_choice[index] = events  # behind the others: who ends first is told first
            for index, events in by_choice.items():
                update = self.choices[index].push(events)
                self._measure(events)
                left -= update.completion is not None
                if not left and self._tracing is not None and self._tracing.is_whole:
                    self.trace = self._tracing.trace(self.job.prepared[0].ids).to_json()
                yield update

    def _make(self, prepared: Prepared) -> None:
        """The requests of one prompt, which is read once."""
        decoder, ask, leader = self.job.served.decoder, self.job.ask, None
        watch: Callable[[Token], None] | None = None
        if ask.extras.trace:
            self._tracing = Tracing(prepared, ask.extras.trace_top)
            prepared, watch = self._tracing.prepared, self._tracing.see
        for sample in range(ask.extras.sample, ask.extras.sample + ask.n):
            index = len(self.choices)
            emit = partial(self._put, index, watch)
            request, pieces = decoder.request(prepared, sample, emit, leader)
            leader = leader or request
            self.choices.append(Choice(index, pieces))
            self._requests.append(request)

    def _put(self, index: int, watch: Callable[[Token], None] | None, event: Event) -> None:
        """On the engine's thread."""
        if watch is not None and isinstance(event, Token):
            try:
                watch(event)
            except Exception as exc:
                event = exc
        self._events.append((index, event))
        if not self._waking:  # set before the coroutine looks at the events, so none is overlooked
            self._waking = True
            with suppress(RuntimeError):  # the loop is closed: nobody listens
                self._loop.call_soon_threadsafe(self._arrived.set)

    def _measure(self, events: list[Event]) -> None:
        if self.first is None:
            self.first = time.monotonic() - self._began
            self._metrics.first_token.labels(self.job.served.name).observe(self.first)
        self._metrics.tokens.labels(self.job.served.name).inc(len(events))
