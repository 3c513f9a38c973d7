"""The server: uvicorn, with bounded connections, an end that loses no answer, and an eye on the engines."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn

from decodekit.errors import DeviceError, InputError
from decodekit_server.app import App
from decodekit_server.connection import bounded
from decodekit_server.limits import Limits

log = logging.getLogger("decodekit_server")

SPARE = 128  # files beside connections
LINGER = 10.0  # seconds a server with a failed engine still says so, before it ends


class Server(uvicorn.Server):
    """Serves an application until a signal, or until an engine has failed."""

    def __init__(self, app: App, limits: Limits) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=bounded(limits),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=limits.header_bytes,
                timeout_keep_alive=max(1, int(limits.idle_seconds)),
                timeout_graceful_shutdown=int(limits.drain_seconds) + 5,
                backlog=limits.connections,
            )
        )
        self.failed = False
        self._desk, self._limits = app.desk, limits
        self._failing_since: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._desk.draining = True
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        self._watch()
        return await super().on_tick(counter) or self.failed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What runs may end by itself for a while; then its clients get an error instead of silence."""
        self._desk.draining = True
        loop = asyncio.get_running_loop()
        wait = 0.0 if self.failed else self._limits.drain_seconds

        def end() -> None:
            if self.server_state.tasks:
                loop.run_in_executor(None, self._desk.models.end)

        timer = loop.call_later(wait, end)
        await super().shutdown(sockets)
        timer.cancel()
        self._desk.preparing.close()
        await asyncio.to_thread(self._desk.telemetry.end)

    def _watch(self) -> None:
        failures = self._desk.models.failures(self._limits.stall_seconds)
        if not failures:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = time.monotonic()
            log.error("the engines of %s failed; ending in %g s", ", ".join(failures), LINGER)
        elif time.monotonic() - self._failing_since > LINGER:
            self.failed = True


def end_with_terminal() -> None:
    """Where the terminal closes, what runs may end too; unless the signal is passed over, as nohup has it."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


def allow_files(connections: int) -> None:
    """Let this process have so many connections open; InputError where it may not."""
    if sys.platform == "win32":
        return
    import resource

    needed = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise InputError(
            f"connections: {connections} at a time take {needed} open files, and this process may have "
            f"{hard}; raise that (ulimit -n {needed}), or give --limit connections={max(1, hard - SPARE)}"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there, the only one of this process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=socket.SOMAXCONN)
    except PermissionError as exc:
        raise DeviceError(f"port {port} is for privileged programs; choose --port 1024 or higher") from exc
    except OSError as exc:
        why = exc.strerror or exc
        raise InputError(f"cannot listen on {host}:{port} ({why}); choose another --host or --port") from exc
