"""
Places: who runs in which slot, who reads a prompt, who waits.

A request waits in order, gets the slot behind the running ones when the longest it may become
fits beside them, reads its prompt there and runs. One that ends leaves its slot to the last of
the running, or to one that waits for the same prompt.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from decodekit.errors import ContextError
from decodekit.meter import Meter
from decodekit.prefix_cache import PrefixCache
from decodekit.request import Request
from decodekit.slots import Slots

CHUNK = 128  # tokens of a prompt that are read in one call
QUEUE_SECONDS = 0.02  # between two looks for waiting requests that were cancelled or are overdue


class Places:
    """Requests in slots 0 to R - 1 run; one more may be reading its prompt; the others wait in order."""

    def __init__(self, slots: Slots, *, max_rows: int, prefix_bytes: int = 0) -> None:
        self.slots = slots
        self.max_rows = max_rows
        self.prefixes = PrefixCache(CHUNK, prefix_bytes)
        self.meter = Meter()
        self.waiting: deque[Request] = deque()
        self.reading: Request | None = None
        self.running: list[Request] = []
        self._look_at_queue = 0.0

    def _take(self, request: Request, logits: np.ndarray) -> int | None:
        """The first token of a request that begins to run, from logits [1, V]; a batch knows how."""
        raise NotImplementedError

    def add(self, request: Request) -> None:
        """Let a request wait. ContextError if it could never run."""
        if not self.slots.fits(1, request.longest):
            raise ContextError(
                f"a cache for {request.longest} tokens does not fit into the memory allowed; lower "
                "max_new_tokens, or load the model with more cache_bytes"
            )
        self.waiting.append(request)

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.reading or self.running)

    def requests(self) -> list[Request]:
        return [*self._placed(), *self.waiting]

    def _placed(self) -> list[Request]:
        return [*self.running, *([self.reading] if self.reading else [])]

    def _drop_ended(self) -> None:
        """Free what ended, was cancelled or ran out of time; in the queue, which may be long, at times."""
        now = time.monotonic()
        queue: list[Request] = []
        if now >= self._look_at_queue:
            queue = [*self.waiting]
            self._look_at_queue = now + QUEUE_SECONDS
        for request in [*queue, *self._placed()]:
            if request.overdue(now) and not request.cancelled:
                request.time_out()
            if request.ended or request.cancelled:
                self._drop(request)

    def _drop(self, request: Request) -> None:
        request.drop()
        if request is self.reading:
            self.reading = None
            self.slots.cut(request.slot, 0)
        elif request.slot < 0:
            self.waiting.remove(request)
            self._leave_queue(request)
        else:
            self._vacate(request)

    def _reserve(self, length: int) -> None:
        rows = max(len(self.running), self.reading.slot + 1 if self.reading else 0)
        self.slots.reserve(rows, length)

    def _admit(self) -> bool:
        """Move the next waiting request to a slot if there is room; whether it did."""
        slot = len(self.running)
        if self.reading or slot == self.max_rows or not (request := self._next()):
            return False
        longest = max(r.longest for r in (request, *self.running))
        if not self.slots.fits(slot + 1, longest):
            return False
        self.reading = self.waiting.popleft()  # in one list at any moment, lest an error forgets it
        request.slot = slot
        self.slots.reserve(slot + 1, min(request.longest, 2 * len(request.prompt) + CHUNK))  # and an answer
        self.slots.open(slot, request.adapter)
        if not self._follow(request):
            self._reuse_prefix(request)
        return True

    def _next(self) -> Request | None:
        """The first that waits and still wants to run."""
        while self.waiting and (self.waiting[0].ended or self.waiting[0].cancelled):
            self._drop(self.waiting[0])
        return self.waiting[0] if self.waiting else None

    def _follow(self, request: Request) -> bool:
        """Take over the reading of a request with the same prompt that is still in its slot."""
        logits = request.shared.logits
        self._leave_queue(request)
        other = next((r for r in self.running if r.shared is request.shared), None)
        if logits is None or other is None:
            return False
        self.slots.copy(other.slot, request.slot, len(request.prompt))
        self._start(request, logits)
        if request.ended:  # at once: its place is for the next that shares
            self._drop(request)
        return True

    def _leave_queue(self, request: Request) -> None:
        request.shared.waiting -= 1
        if not request.shared.waiting:
            request.shared.logits = None

    def _reuse_prefix(self, request: Request) -> None:
        for saved in self.prefixes.find(request.family, request.prompt):
            self.slots.restore(request.slot, request.read, saved)
            request.read += CHUNK
            self.meter.reused += CHUNK

    def _vacate(self, request: Request) -> None:
        """Free a running request's slot and move the last one there."""
        while heir := self._heir(request):
            if not heir.ended:
                return
            request = heir
        slot, last = request.slot, self.running[-1]
        self.slots.cut(slot, 0)
        if last is not request:
            self.slots.copy(last.slot, slot, self.slots.lengths[last.slot])
            self.slots.cut(last.slot, 0)
            self.running[slot], last.slot = last, slot
        self.running.pop()

    def _heir(self, request: Request) -> Request | None:
        """The next that waits, in the place of one that leaves, if it shares the reading of the prompt."""
        logits, heir = request.shared.logits, self._next()
        if logits is None or heir is None or heir.shared is not request.shared:
            return None
        if heir.longest > request.longest:
            return None
        self.running[request.slot] = self.waiting.popleft()
        heir.slot = request.slot
        self._leave_queue(heir)
        self.slots.cut(heir.slot, len(heir.prompt))
        self._take(heir, logits)
        return heir

    def _move_down(self, request: Request) -> None:
        """Into the slot behind the running ones, some of which may have ended while it was reading."""
        slot = len(self.running)
        if request.slot != slot:
            self.slots.copy(request.slot, slot, len(request.prompt))
            self.slots.cut(request.slot, 0)
            request.slot = slot

    def _start(self, request: Request, logits: np.ndarray) -> None:
        self.running.append(request)
        self.reading = None
        self._take(request, logits)
