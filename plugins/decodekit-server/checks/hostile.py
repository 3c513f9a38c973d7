"""
Requests that nobody should send, at random times, from a process of their own.

    python hostile.py PORT REQUESTS_A_SECOND SECONDS [--seed N]

Bytes that are no HTTP, bodies that never come, hosts of others, numbers and texts out of bounds, options
of the wrong kind, and clients that ask for much and leave at once. Prints a line when it begins, then a dot
for each that was sent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from typing import Any

import wire

ASK = [{"role": "user", "content": "Give me a tagline for a new coffee shop."}]
OPEN = 0.05  # seconds for which a connection that says nothing good stays
HOSTILE: list[Any] = [
    b"\x00" * 200,
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n{",
    b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    {"model": "m", "messages": ASK, "n": 10**9},
    {"model": "m", "messages": ASK, "stop": ["x"] * 10_000},
    {"model": "m", "messages": [{"role": "user", "content": "word " * 100_000}]},
    {"model": "m", "messages": ASK, "decodekit": {"processors": [{"name": "top_p", "p": "x"}]}},
    b"LEAVE",
]


async def send(port: int, rng: random.Random) -> None:
    """One of them. That the server ends the connection is its good right."""
    what = rng.choice(HOSTILE)
    with contextlib.suppress(OSError):
        if isinstance(what, dict):
            await wire.post(port, "/v1/chat/completions", what)
            return
        if what == b"LEAVE":
            content = json.dumps({"model": "m", "messages": ASK, "stream": True, "n": 8}).encode()
            what = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            what += b"Content-Type: application/json\r\n"
            what += f"Content-Length: {len(content)}\r\n\r\n".encode() + content
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(what)
        await asyncio.sleep(OPEN)
        writer.close()


async def attack(port: int, rate: float, seconds: float, seed: int) -> None:
    rng, tasks = random.Random(seed), []
    print("ready", flush=True)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await asyncio.sleep(rng.expovariate(rate))
        tasks.append(asyncio.create_task(send(port, rng)))
        print(".", end="", flush=True)
    await asyncio.gather(*tasks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    asyncio.run(attack(args.port, args.rate, args.seconds, args.seed))


if __name__ == "__main__":
    main()
