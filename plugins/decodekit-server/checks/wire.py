"""A client of a few lines, so that what is measured is the server; and a server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What came back.

    first  seconds from the first byte sent to the first event; 0 where there is none
    last   to the last byte
    """

    status: int
    body: bytes
    first: float
    last: float

    def events(self) -> list[Any]:
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line) for line in lines]


async def post(port: int, path: str, body: dict[str, Any]) -> Reply:
    """One request on a connection of its own. ConnectionError for an answer that is not whole."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    got, first, last = bytearray(), 0.0, 0.0
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + content)
        while part := await reader.read(1 << 16):
            last = time.perf_counter() - began
            got += part
            if not first and b"\ndata: " in got:
                first = last
    finally:
        writer.close()
    headers, end, rest = bytes(got).partition(b"\r\n\r\n")
    if not end:
        raise ConnectionError("there was no answer")
    chunked = b"transfer-encoding: chunked" in headers.lower()
    return Reply(int(headers.split(b" ", 2)[1]), unchunked(rest) if chunked else rest, first, last)


def unchunked(data: bytes) -> bytes:
    """A body that came in chunks, https://www.rfc-editor.org/rfc/rfc9112#section-7.1"""
    parts: list[bytes] = []
    at = 0
    while True:
        end = data.find(b"\r\n", at)
        if end < 0:
            raise ConnectionError("the answer broke off")
        size = int(data[at:end], 16)
        if not size:
            return b"".join(parts)
        at = end + 2 + size + 2
        parts.append(data[end + 2 : at - 2])


@contextmanager
def server(*words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`decodekit serve`, in a process of its own, and its port."""
    run = subprocess.Popen(
        [sys.executable, "-m", "decodekit.cli", "serve", *words, "--port", "0", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert run.stdout is not None
        line = run.stdout.readline()
        yield run, int(line.split("//")[1].split(",")[0].rpartition(":")[2])
    finally:
        run.terminate()
        run.wait(60)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def cpu_seconds(pid: int) -> float:
    """That all threads of a process have computed so far, https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html"""
    return time.clock_gettime((~pid << 3) | 2)


def resident(pid: int) -> float:
    """MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20
