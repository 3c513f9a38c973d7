"""
A batch: the requests that decode together, and the ones that wait. One turn of it at a time.

    wait -> [ read the prompt, a chunk a turn ] -> [ predict, sample, append, stop? ]* -> end

In a turn at most one chunk of a prompt is read, or several prompts that are shorter, then all
running requests take a step in one call. Chunks have one size and begin at its multiples,
whoever else is there, so what a request computes does not depend on its neighbours. No
threads here; see `engine`.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from decodekit.costs import Costs
from decodekit.errors import DecodekitError, EngineError
from decodekit.graph_sampling.candidates import Candidates
from decodekit.graph_sampling.reducer import Reducer
from decodekit.graph_sampling.telling import Told
from decodekit.places import CHUNK, Places
from decodekit.request import Ended, Request
from decodekit.slots import Slots


class Batch(Places):
    """The requests in their places, and their turns."""

    def __init__(
        self, slots: Slots, *, max_rows: int, prefix_bytes: int = 0, reducer: Reducer | None = None
    ) -> None:
        super().__init__(slots, max_rows=max_rows, prefix_bytes=prefix_bytes)
        self._reducer = reducer
        self.costs = Costs()
        self.current: Request | None = None  # whose strategies are at work now

    def turn(self) -> None:
        """Read a chunk, take a step."""
        self._drop_ended()
        self._read_prompts()
        if self.running:
            self._step()
            self.meter.steps += 1

    def fail(self, error: BaseException) -> None:
        """End every request that has a slot with an error; nothing is known of the slots any more."""
        failed = self._placed()
        if not failed:  # nobody could be taken in, and the next turn would fail again
            failed, self.waiting = list(self.waiting), deque()
        for request in failed:
            request.end(_failure(error))
        self.running, self.reading = [], None
        for slot in range(len(self.slots.lengths)):
            self.slots.cut(slot, 0)

    def _read_prompts(self) -> None:
        """Take in who fits and read prompts, CHUNK tokens in all at most."""
        left = CHUNK
        while True:
            while not self.reading and self._admit():
                pass
            if self.reading is None or (size := self.reading.next_chunk(CHUNK)) > left:
                return
            left -= size
            self._read(self.reading)

    def _read(self, request: Request) -> None:
        chunk = request.prompt[request.read : request.read + CHUNK].tolist()
        final = request.read + len(chunk) == len(request.prompt)
        self._reserve(request.read + len(chunk))
        logits = self.slots.read(request.slot, chunk, last=int(final))
        request.read += len(chunk)
        self.meter.prompt_tokens += len(chunk)
        if self.prefixes.wants(request.family, request.prompt, request.read):
            saved = self.slots.save(request.slot, request.read - len(chunk), request.read)
            self.prefixes.add(request.family, request.prompt, request.read, saved)
        if final:
            self._move_down(request)
            if request.shared.waiting:
                request.shared.logits = logits.copy()
            self._start(request, logits)

    def _step(self) -> None:
        """Guesses that pay are checked first, row by row; then all take one token together."""
        speculated = [self._speculated(request) for request in self.running]
        if all(speculated):
            return
        self._drop_ended()  # while guesses were checked, or with the first token
        if not self.running:
            return
        self._reserve(1 + max(self.slots.lengths[: len(self.running)]))
        began = time.perf_counter()
        logits = self.slots.step([request.answer.newest for request in self.running])
        self.costs.saw_step(len(self.running), time.perf_counter() - began)
        for i, (request, left) in enumerate(zip([*self.running], self._reduced(logits), strict=True)):
            self._take(request, logits[i : i + 1] if left is None else None, left)

    def _reduced(self, logits: np.ndarray) -> list[Candidates | None]:
        """What graphs leave of the running rows of a step, logits [R, V]; None: the host takes the row."""
        if self._reducer is None:
            return [None] * len(self.running)
        began = time.perf_counter()
        plans = [request.plan for request in self.running]
        candidates = self._reducer.reduce(plans, logits, list(map(self._told, self.running)))
        self.meter.chain += time.perf_counter() - began
        return candidates

    def _told(self, request: Request) -> Told | None:
        """What a graph is told of a request's next step."""
        plan = request.plan
        if plan is None or not plan.runs:
            return None
        self.current = request
        told = plan.told(request.answer.history, request.answer.states)
        self.current = None
        return told

    def _speculated(self, request: Request) -> bool:
        """Check guesses in one call over them, if that pays. Whether it did."""
        pace = request.pace
        if pace is None or request.ended:
            return False
        length = self.slots.lengths[request.slot]
        self.current = request
        guesses = pace.guesses(request.answer, len(self.running), request.longest - length - 1)
        self.current = None
        if not guesses:
            return False
        tokens = [request.answer.newest, *guesses]
        self._reserve(length + len(tokens))
        began = time.perf_counter()
        logits = self.slots.read(request.slot, tokens, last=len(tokens)).copy()
        self.costs.saw_chunk(len(tokens), time.perf_counter() - began)
        right = 0
        for i, guess in enumerate((*guesses, None)):
            id = self._take(request, logits[i : i + 1])
            right += id is not None and id == guess
            if id != guess or request.ended:
                break
        pace.checked(len(guesses), right)
        self.slots.cut(request.slot, len(request.answer.ids) - 1)
        return True

    def _take(
        self, request: Request, logits: np.ndarray | None, candidates: Candidates | None = None
    ) -> int | None:
        """The next token of a running request; None where it ended without, or took it back."""
        self.current = request
        try:
            token = request.take(logits, candidates)
        except Ended:
            return None
        finally:
            self.current = None
        self.meter.tokens += 1
        self.meter.chain += request.answer.sampling
        if request.pace is not None:
            request.pace.expect(token.id)
        if token.takes_back:
            self._go_back(request)
            return None
        return token.id

    def _go_back(self, request: Request) -> None:
        """The last id that stands is read again, for what comes after it; a prompt's may be among them."""
        self.slots.cut(request.slot, len(request.answer.ids) - 1)
        request.shared.logits = None


def _failure(error: BaseException) -> BaseException:
    """What a caller is told where a call of the model raised."""
    if isinstance(error, DecodekitError):
        return error
    failure = EngineError(f"the model failed: {error!r}; see its cause")
    failure.__cause__ = error
    return failure
