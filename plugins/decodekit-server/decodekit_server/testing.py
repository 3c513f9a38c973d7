"""A real server on a socket, in a thread, for tests. Needs decodekit-server[test]."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx

from decodekit.decoder import Decoder
from decodekit_server.app import App, create_app
from decodekit_server.auth import Keys
from decodekit_server.hosts import Hosts
from decodekit_server.limits import Limits
from decodekit_server.models import Models
from decodekit_server.server import Server, listen
from decodekit_server.telemetry import Telemetry


@dataclass(frozen=True)
class Running:
    """A server that runs, and how to reach it."""

    app: App
    server: Server
    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def decoder(self, name: str) -> Decoder:
        return self.app.desk.models.by_name[name].decoder

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def posted(self, path: str, body: Mapping[str, Any], *, received: int | None = None) -> socket.socket:
        """A connection on which a request was sent and nothing is read.

        received  bytes that its side keeps for a reader; None: as many as it likes
        """
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection = socket.socket()
        if received is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
        connection.connect((self.host, self.port))
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        return connection

    def exchange(self, *parts: str, pause: float = 0.0) -> str:
        """What comes for some bytes until the connection ends, "" where it just ends.

        pause  seconds after each part
        """
        answer = b""
        connection = socket.create_connection((self.host, self.port), timeout=5)
        with connection, suppress(ConnectionError):
            for part in parts:
                connection.sendall(part.encode("latin-1"))
                time.sleep(pause)
            while received := connection.recv(65536):
                answer += received
        return answer.decode()


@contextmanager
def serving(
    decoders: Mapping[str, Decoder],
    *,
    keys: Iterable[str] = (),
    limits: Limits | None = None,
    telemetry: Telemetry | None = None,
) -> Iterator[Running]:
    """A server of this machine for decoders by name, on a port that is free, until the block ends."""
    limits, host = limits or Limits(drain_seconds=0.2), "127.0.0.1"
    models, hosts = Models.of(decoders), Hosts.of(host)
    app = create_app(models, hosts=hosts, keys=Keys(keys), limits=limits, telemetry=telemetry)
    server = Server(app, limits)
    with listen(host, 0) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Running(app, server, host, listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive(), "the server does not end"
