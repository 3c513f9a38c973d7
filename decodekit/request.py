"""A request: one sequence that the engine decodes, and the way its tokens go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from decodekit.answer import Answer, Token
from decodekit.errors import StrategyError
from decodekit.graph_sampling.candidates import Candidates
from decodekit.graph_sampling.plan import Plan
from decodekit.ops import Array
from decodekit.origin import describe
from decodekit.speculate import Pace
from decodekit.stopping import Stop

Event = Token | Stop | BaseException  # the last one of a request is a token with a stop, a stop, or an error
Emit = Callable[[Event], None]


class Reading:
    """What requests with one prompt share: whoever is running was read for all."""

    def __init__(self) -> None:
        self.waiting = 0  # of them, those that have no slot yet
        self.logits: Array | None = None  # [1, V] after the prompt, kept while some wait


class Request:
    """One sequence in an engine.

    answer    what decodes it
    room      tokens it may generate at most
    emit      is called with every event, the last one exactly once; must be quick
    max_time  seconds from now after which it ends even where it waits; None: never
    tenant    prefixes of prompts are shared between requests of one tenant only
    adapter   of the model, under which it is decoded; None: under none
    leader    another request with the same prompt and adapter, whose reading is shared
    pace      decides how many tokens to guess; None: no speculation
    plan      how far its chain runs in a graph; None: all of it runs on the host
    """

    def __init__(
        self,
        answer: Answer,
        room: int,
        emit: Emit,
        *,
        max_time: float | None = None,
        tenant: str = "",
        adapter: str | None = None,
        leader: Request | None = None,
        pace: Pace | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.answer = answer
        self.prompt: Array = answer.ids
        self.longest = len(self.prompt) + room
        self.deadline = None if max_time is None else time.monotonic() + max_time
        self.family = (tenant, adapter)  # within which prefixes are shared
        self.adapter, self.pace, self.plan = adapter, pace, plan
        self.shared: Reading = Reading() if leader is None else leader.shared
        self.shared.waiting += 1
        self.slot = -1
        self.read = 0  # tokens of the prompt that are in the slot
        self.cancelled = False
        self.ended = False
        self._max_time = max_time
        self._emit = emit
        self._telling = threading.Lock()  # the engine's watchdog may end what the engine works at

    def cancel(self, _: object = None) -> None:
        """Let it end before the next step. Whoever still listens is told so."""
        self.cancelled = True

    def overdue(self, now: float) -> bool:
        """Whether its time is over at `now`, on the monotonic clock."""
        return self.deadline is not None and now >= self.deadline and not self.ended

    def take(self, logits: Array | None, candidates: Candidates | None = None) -> Token:
        """The next token, to the caller too; see `Answer.take`. What a strategy raises ends this request."""
        try:
            token = self.answer.take(logits, candidates)
        except Exception as exc:
            self.end(exc)
            raise Ended from exc
        except BaseException as exc:  # a plugin must not end the engine
            whose = ", ".join(map(describe, self.answer.strategies))
            self.end(StrategyError(f"a strategy raised {exc!r}; one of {whose}"))
            raise Ended from exc
        if not self._tell(token, last=token.stop is not None):
            raise Ended
        return token

    def end(self, event: Stop | BaseException) -> None:
        """End without a further token."""
        self._tell(event, last=True)

    def next_chunk(self, size: int) -> int:
        """Tokens of the prompt to read next, in chunks of `size`."""
        return min(size, len(self.prompt) - self.read)

    def time_out(self) -> None:
        self.end(Stop("time", by=f"{self._max_time} s"))

    def drop(self) -> None:
        """End it if nothing else did: it was cancelled."""
        self.end(Stop("cancelled"))

    def _tell(self, event: Event, *, last: bool) -> bool:
        """Send an event, unless it ended meanwhile; whether it did.

        A caller that can no longer be reached, as on a closed event loop, wants no more.
        """
        with self._telling:
            if self.ended:
                return False
            self.ended = last
            try:
                self._emit(event)
            except Exception:
                self.cancelled = True
            if last:
                self._emit = _nobody  # who listened may go
            return True


def _nobody(event: Event) -> None:
    pass


class Ended(Exception):
    """A request ended by an error that its caller was given."""
