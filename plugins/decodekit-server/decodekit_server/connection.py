"""
A connection: bounded before a byte of it means anything.

So many at a time, so many seconds for a request to arrive, so many for a reader that does not
read. uvicorn has no bounds of these kinds.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from decodekit_server.limits import Limits

GRACE = 2.0  # seconds in which a request that is late may still be told so
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: 119\r\n\r\n"
    b'{"error":{"message":"too many connections; try again later","type":"server_error","param":null,'
    b'"code":"E_CONNECTIONS"}}'
)


class BoundedConnection(H11Protocol):
    """One HTTP/1.1 connection. `limits` is set on a subclass, since uvicorn makes the objects."""

    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False  # it would hold what clients wrote into paths
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # Each event leaves at once. asyncio sees to it for some listening sockets only.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self.connections) > self.limits.connections:
            transport.write(FULL)
            transport.close()
            return
        self._late = self.loop.call_later(self.limits.receive_seconds + GRACE, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._late, self._stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):  # a request has begun and is not here yet
            if self._late is None:
                self._late = self.loop.call_later(self.limits.receive_seconds + GRACE, self.transport.abort)
        elif self._late is not None:
            self._late.cancel()
            self._late = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None


def bounded(limits: Limits) -> type[BoundedConnection]:
    """The class of connections with these limits."""
    return type("Connection", (BoundedConnection,), {"limits": limits})
