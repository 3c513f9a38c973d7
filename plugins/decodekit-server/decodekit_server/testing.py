"""A real server on a socket, in a thread, for tests. Needs decodekit-server[test]."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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
    with listen(host, 0) as socket:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([socket])), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Running(app, server, host, socket.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive(), "the server does not end"
