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
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What came back.

    first, last  seconds from the first byte sent to the first and last byte of the answer's body
    """

    status: int
    body: bytes
    first: float
    last: float

    def events(self) -> list[Any]:
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line) for line in lines]


async def post(port: int, path: str, body: dict[str, Any]) -> Reply:
    """One request on a connection of its own."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        writer.write(head.encode() + content)
        headers = await reader.readuntil(b"\r\n\r\n")
        chunked = b"transfer-encoding: chunked" in headers.lower()
        first, parts = 0.0, []
        while True:
            if chunked:
                size = int(await reader.readuntil(b"\r\n"), 16)
                part = (await reader.readexactly(size + 2))[:-2]
            else:
                part = await reader.read(1 << 20)
            if not part:
                break
            first = first or time.perf_counter() - began
            parts.append(part)
        last = time.perf_counter() - began
        return Reply(int(headers.split(b" ", 2)[1]), b"".join(parts), first, last)
    finally:
        writer.close()


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
