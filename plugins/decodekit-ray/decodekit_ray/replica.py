"""
A replica: one engine, and the server's application without its guard.

It is asked by an `Ingress`, which let the request in, and answers in pieces that the ingress keeps
account of. What ends its engine ends its process, so that others answer what it was asked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from decodekit_server.api import chat, completions, messages, responses
from decodekit_server.app import create_app
from decodekit_server.endpoint import Endpoint, send_error
from decodekit_server.generating import Desk, Generating
from decodekit_server.limits import Limits
from decodekit_server.models import Models
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Message

import decodekit
from decodekit.decoder import Decoder
from decodekit.errors import BundleError, EngineStalledError, PluginError
from decodekit.plugins import Plugins
from decodekit_ray.retelling import TELLING, Question, Retelling, Telling, Told

PACE = 0.02  # seconds between two pieces: Ray's cost is of pieces, however many tokens they tell
APIS = {
    "/v1/chat/completions": chat,
    "/v1/completions": completions,
    "/v1/responses": responses,
    "/v1/messages": messages,
}


@dataclass(frozen=True)
class Model:
    """What a replica holds.

    names     that requests use: its own, then those of its adapters
    sha256    of the bundle
    load      options of `decodekit.load`
    software  decodekit and plugins by name, as `software` finds them; it and the bundle are the same on
              every machine
    """

    names: tuple[str, ...]
    bundle: str
    sha256: str
    load: Mapping[str, Any]
    software: Mapping[str, str]

    def loaded(self) -> Decoder:
        """BundleError or PluginError, which names the machine, where it has another."""
        plugins, node = decodekit.load_plugins(self.software), os.uname().nodename
        if (found := software(plugins)) != self.software:
            raise PluginError(
                f"{node} has {found} and {self.software} is needed; install the same packages everywhere"
            )
        decoder = decodekit.load(self.bundle, plugins=plugins, **self.load)
        if decoder.bundle.sha256 != self.sha256:
            decoder.close()
            raise BundleError(f"{self.bundle}: on {node} it is another bundle; copy the same one everywhere")
        return decoder


def software(plugins: Plugins) -> dict[str, str]:
    """Versions of what decides about tokens, plugins by name."""
    own = {"decodekit": metadata.version("decodekit")}
    return own | {p.name: p.distribution for p in plugins.installed if p.state == "ok"}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer: events of a stream, or all of it.

    head    status and headers, with the first one
    told    to be given to whoever goes on
    events  how many they are
    """

    data: bytes
    head: tuple[int, tuple[tuple[bytes, bytes], ...]] | None
    told: tuple[Told, ...]
    events: int
    last: bool

    def and_then(self, next: Piece) -> Piece:
        """Both at once."""
        return Piece(
            self.data + next.data,
            self.head or next.head,
            self.told + next.told,
            self.events + next.events,
            next.last,
        )


def with_ready(piece: Piece, pieces: asyncio.Queue[Piece]) -> Piece:
    """A piece, and all that are ready behind it, as one."""
    while not pieces.empty():
        piece = piece.and_then(pieces.get_nowait())
    return piece


class Replica:
    """Of one model."""

    def __init__(self, model: Model, limits: Limits) -> None:
        decoder = model.loaded()
        self._models = Models.of({model.names[0]: decoder})
        app = create_app(self._models, limits=limits)
        self._router = Router([_resumable(route, app.desk) for route in app.routes])
        self._engine, self._stall = decoder.engine, limits.stall_seconds

    async def answer(
        self, question: Question, before: Sequence[Told] = (), events: int = 0
    ) -> AsyncIterator[Piece]:
        """The pieces of an answer, but for `events` of them that told what came `before`."""
        pieces: asyncio.Queue[Piece] = asyncio.Queue()
        work = asyncio.create_task(self._work(Telling(question, before, events), pieces))
        try:
            while True:
                piece = with_ready(await pieces.get(), pieces)
                if self._engine.failure is not None:
                    os._exit(4)
                yield piece
                if piece.last:
                    return
                await asyncio.sleep(PACE)
        finally:
            work.cancel()

    def check_health(self) -> None:
        """Ray Serve asks now and then, and replaces who raises."""
        for why in self._models.failures(self._stall).values():
            raise EngineStalledError(why)

    def __del__(self) -> None:
        if hasattr(self, "_models"):
            self._models.end()

    async def _work(self, telling: Telling, pieces: asyncio.Queue[Piece]) -> None:
        """The application's answer, cut into pieces."""
        TELLING.set(telling)
        question, head, over = telling.question, None, False
        scope = {
            "type": "http",
            "method": question.method,
            "path": question.path,
            "headers": list(question.headers),
            "query_string": b"",
            "tenant": question.tenant,
        }
        asked: list[Message] = [{"type": "http.request", "body": question.body, "more_body": False}]

        async def receive() -> Message:
            if asked:
                return asked.pop()
            return await asyncio.Future()  # whoever leaves cancels this task

        async def send(message: Message) -> None:
            nonlocal head, over
            if message["type"] == "http.response.start":
                head = (message["status"], tuple(message["headers"]))
                return
            data, last = message.get("body", b""), not message.get("more_body", False)
            fresh: tuple[Told, ...] = ()
            if not last:
                fresh, last = telling.sent()
            if not over:
                pieces.put_nowait(Piece(data, head, fresh, 1, last))
            head, over = None, last

        try:
            await self._router(scope, receive, send)
        except Exception as exc:
            await send_error(send, exc, question.path)


def _resumable(route: BaseRoute, desk: Desk) -> BaseRoute:
    """The same route, whose streams can be gone on with."""
    if not isinstance(route, Route) or not isinstance(route.endpoint, Endpoint) or route.path not in APIS:
        return route
    generating = Generating(desk, Retelling(APIS[route.path]))
    endpoint = Endpoint(route.endpoint.params, generating, on_gone=desk.metrics.gone.inc)
    return Route(route.path, endpoint, methods=["POST"])
