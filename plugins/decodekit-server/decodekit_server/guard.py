"""
The guard: whom the server listens to. Everything passes here before a route is looked up.

    framing -> Host -> Origin -> key -> [ route ], with the body counted and timed

It denies by default: a path needs no rule of its own to be closed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from decodekit_server.auth import Keys
from decodekit_server.endpoint import path_of, send_error
from decodekit_server.errors import ApiError
from decodekit_server.hosts import Hosts
from decodekit_server.limits import Limits
from decodekit_server.metrics import Metrics
from decodekit_server.telemetry import Silence, Telemetry

log = logging.getLogger("decodekit_server.access")

METHODS = {"GET", "POST"}
SAFE = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class Guard:
    """An ASGI application around another.

    route      the template of a path, "" for one that there is none for: a label of metrics and logs
    telemetry  is told of every request; None: nobody is
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Hosts,
        keys: Keys,
        limits: Limits,
        metrics: Metrics,
        route: Callable[[str], str],
        telemetry: Telemetry | None = None,
    ) -> None:
        self._app, self._hosts, self._keys = app, hosts, keys
        self._limits, self._route = limits, route
        self._metrics, self._telemetry = metrics, telemetry or Silence()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            raise ValueError(f"no {scope['type']} here")
        began, id, status = time.perf_counter(), secrets.token_hex(8), 0
        route = self._route(path_of(scope))

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *SAFE, (b"x-request-id", id.encode())]
            await send(message)

        self._metrics.open.inc()
        try:
            with self._telemetry.request(scope, route, id) as ended:
                try:
                    await self._pass(scope, receive, answer, lambda: status > 0)
                finally:
                    ended(status)
        finally:
            self._metrics.open.dec()
            route, seconds = route or "none", time.perf_counter() - began
            self._metrics.requests.labels(route, str(status or 499)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            method = scope["method"] if scope["method"] in METHODS else "other"
            log.info("%s %s %s %d %.1f ms", id, method, route, status or 499, seconds * 1000)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, answered: Callable[[], bool]) -> None:
        body = Bounded(receive, self._limits)
        try:
            scope["tenant"] = self._check(scope)
            await self._app(scope, body, send)
        except Exception as exc:
            if answered():
                raise
            close = {} if body.is_whole else {"connection": "close"}  # what is left of it is not read
            await send_error(send, exc, path_of(scope), close)

    def _check(self, scope: Scope) -> str:
        """Whose request it is. ApiError for one that is not let in."""
        headers = scope["headers"]
        names = [name for name, _ in headers]
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target + sum(len(name) + len(value) for name, value in headers) > self._limits.header_bytes:
            most = f"{self._limits.header_bytes:,} bytes"
            raise ApiError(431, "E_LIMIT", f"headers: over {most}, which this server takes at most")
        if names.count(b"host") != 1 or names.count(b"origin") > 1 or names.count(b"content-length") > 1:
            raise ApiError(400, "E_REQUEST", "one Host header is needed, and no header twice")
        if b"transfer-encoding" in names and b"content-length" in names:
            raise ApiError(400, "E_REQUEST", "Content-Length and Transfer-Encoding exclude each other")
        if b"content-encoding" in names:
            raise ApiError(400, "E_REQUEST", "a body is taken as it is; send it without Content-Encoding")
        given = dict(headers)
        host = given[b"host"].decode("latin-1")
        if not self._hosts.knows(host):
            raise ApiError(
                403,
                "E_HOST",
                f"this server is not called {host[:100]!r}; start it with --host-name to add a name",
            )
        origin = given.get(b"origin")
        if origin is not None and not self._hosts.trusts(origin.decode("latin-1"), host):
            raise ApiError(403, "E_ORIGIN", "pages of other sites may not use this server")
        tenant = self._keys.tenant(headers)
        if tenant is None:
            raise ApiError(401, "E_KEY", "a key is needed: Authorization: Bearer KEY")
        if int(given.get(b"content-length", b"0")) > self._limits.body_bytes:
            raise too_large(self._limits)
        return tenant


class Bounded:
    """`receive`, with a body of so many bytes in so many seconds at most."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._left = limits.body_bytes
        self._deadline = asyncio.get_running_loop().time() + limits.receive_seconds
        self.is_whole = False

    async def __call__(self) -> Message:
        if self.is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            seconds = self._limits.receive_seconds
            raise ApiError(408, "E_SLOW", f"the request was not here within {seconds:g} s") from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large(self._limits)
        self.is_whole = not message.get("more_body", False)
        return message


def too_large(limits: Limits) -> ApiError:
    return ApiError(
        413, "E_LIMIT", f"body: over {limits.body_bytes:,} bytes, which this server takes at most"
    )
