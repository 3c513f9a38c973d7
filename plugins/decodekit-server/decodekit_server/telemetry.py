"""
Telemetry: who is told of every request. Nobody, unless asked for; `spans` tells OpenTelemetry.

It hears of the request as HTTP has it, and within of the answer that the model gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from starlette.types import Scope

from decodekit_server.answers import Answers


class Telemetry(Protocol):
    def request(self, scope: Scope, route: str, id: str) -> AbstractContextManager[Callable[[int], None]]:
        """Around a request; what it gives is called with the status of the answer, 0 where there was none."""

    def answer(self, answers: Answers) -> AbstractContextManager[None]:
        """Around what is generated for it."""

    def end(self) -> None:
        """The server ends."""


class Silence:
    """Tells nobody."""

    @contextmanager
    def request(self, scope: Scope, route: str, id: str) -> Iterator[Callable[[int], None]]:
        yield lambda status: None

    @contextmanager
    def answer(self, answers: Answers) -> Iterator[None]:
        yield

    def end(self) -> None:
        pass
