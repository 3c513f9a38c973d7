"""
An endpoint: from the bytes of a request to those of its answer.

    read the body -> JSON -> parameters -> handle -> one object, or events as they come

Whoever leaves before the end is noticed at once, and the work for them is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from decodekit_server.api.writing import Event, compact
from decodekit_server.errors import invalid, is_anthropic, told
from decodekit_server.json_body import parse
from decodekit_server.params import Params

Answer = Mapping[str, Any] | AsyncIterator[Event]
Handle = Callable[[Any, str], Awaitable[Answer]]  # (parameters, tenant)
SMALL = 16 << 10  # bytes
JSON = b"application/json"


class Endpoint:
    """One route that takes JSON, as an ASGI application. An error before the first byte is raised."""

    def __init__(self, params: type[Params], handle: Handle, *, on_gone: Callable[[], None]) -> None:
        self.params = params
        self._handle, self._on_gone = handle, on_gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            params = await self._read(await read(receive), content_type(scope))
        except Gone:
            return self._on_gone()
        if not await done_for(receive, self._work(params, scope, send)):
            self._on_gone()

    async def _read(self, body: bytes, kind: str) -> Params:
        """The parameters in a body; a large one is read beside the loop, which goes on for others."""

        def checked() -> Params:
            value = parse(body, kind)
            try:
                return self.params.model_validate(value)
            except ValidationError as exc:
                raise invalid(exc, self.params, value) from None

        return checked() if len(body) <= SMALL else await asyncio.to_thread(checked)

    async def _work(self, params: Params, scope: Scope, send: Send) -> None:
        answer = await self._handle(params, scope.get("tenant", ""))
        if isinstance(answer, Mapping):
            return await send_json(send, 200, answer)
        first = await anext(aiter(answer))  # what fails before it has a status of its own
        await self._stream(send, first, answer, anthropic=is_anthropic(path_of(scope)))

    async def _stream(
        self, send: Send, first: Event, events: AsyncIterator[Event], *, anthropic: bool
    ) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": _sse(*first), "more_body": True})
        try:
            async for event in events:
                await send({"type": "http.response.body", "body": _sse(*event), "more_body": True})
        except Exception as exc:
            await send({"type": "http.response.body", "body": error_event(exc, anthropic), "more_body": True})
        finally:
            if hasattr(events, "aclose"):
                await events.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Gone(Exception):
    """The client left before its request was here."""


async def read(receive: Receive) -> bytes:
    """The whole body; `guard` bounds it."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def path_of(scope: Scope) -> str:
    """The path within this application, which may be mounted below another's."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def content_type(scope: Scope) -> str:
    found = [value for name, value in scope["headers"] if name == b"content-type"]
    return found[0].decode("latin-1") if found else ""


async def send_json(
    send: Send, status: int, data: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> None:
    body = compact(data).encode()
    own = [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
    more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": own + more})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_error(send: Send, exc: Exception, path: str, more: Mapping[str, str] | None = None) -> None:
    """What a request to that path is told of an exception, with some headers more."""
    error = told(exc)
    content = error.content(anthropic=is_anthropic(path))
    await send_json(send, error.status, content, error.headers | (more or {}))


def error_event(exc: Exception, anthropic: bool) -> bytes:
    """The last event of a stream that an exception ended."""
    return _sse("error" if anthropic else "", told(exc).content(anthropic=anthropic))


async def done_for(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Do some work for a client; whether it is done. Where the client leaves, it is cancelled."""
    working, gone = asyncio.create_task(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if done := working.done():
            working.result()  # raises what it raised
        return done
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _sse(name: str, data: Any) -> bytes:
    """One server-sent event, https://html.spec.whatwg.org/multipage/server-sent-events.html"""
    line = data if isinstance(data, str) else compact(data)
    return (f"event: {name}\ndata: {line}\n\n" if name else f"data: {line}\n\n").encode()
