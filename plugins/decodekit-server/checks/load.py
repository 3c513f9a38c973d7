"""
Open-loop load: requests come when they come, at shares of the capacity, alone and among hostile ones.

    python load.py [BUNDLE] [--seconds N]

Every request has a nonce, its seed, and the answer must be what the SDK gives for that seed: an answer
that was lost, mixed up with another or came twice is seen. At most 64 requests are open at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import wire

import decodekit

CLIENTS = 64
NONCES = 64
ASK = [{"role": "user", "content": "Give me a tagline for a new coffee shop."}]
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


async def hostile(port: int, rng: random.Random) -> None:
    """One request that nobody should send."""
    what = rng.choice(HOSTILE)
    if isinstance(what, dict):
        await wire.post(port, "/v1/chat/completions", what)
        return
    if what == b"LEAVE":  # ask, and be gone
        content = json.dumps({"model": "m", "messages": ASK, "stream": True, "n": 8}).encode()
        what = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        what += f"Content-Length: {len(content)}\r\n\r\n".encode() + content
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(what)
    await asyncio.sleep(0.05)
    writer.close()


class Run:
    """One level of load."""

    def __init__(self, port: int, expected: list[str]) -> None:
        self.port, self.expected = port, expected
        self.seconds: list[float] = []
        self.busy = self.wrong = self.lost = self.skipped = 0

    async def good(self, seed: int) -> None:
        body = {"model": "m", "messages": ASK, "seed": seed, "stream": True}
        try:
            reply = await wire.post(self.port, "/v1/chat/completions", body)
        except (OSError, asyncio.IncompleteReadError):
            self.lost += 1
            return
        if reply.status == 429:
            self.busy += 1
            return
        events = reply.events()
        text = "".join(c["delta"].get("content", "") for e in events for c in e["choices"])
        ends = sum(c["finish_reason"] is not None for e in events for c in e["choices"])
        self.wrong += text != self.expected[seed] or ends != 1 or b"[DONE]" not in reply.body
        self.seconds.append(reply.last)

    async def open_loop(self, rate: float, seconds: float, share: float) -> None:
        """`rate` good requests a second, at random times; `share` of all are hostile."""
        rng, going = random.Random(1), set()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await asyncio.sleep(rng.expovariate(rate / (1 - share)))
            if len(going) >= CLIENTS:
                self.skipped += 1
                continue
            bad = rng.random() < share
            task = asyncio.create_task(hostile(self.port, rng) if bad else self.good(rng.randrange(NONCES)))
            going.add(task)
            task.add_done_callback(going.discard)
        await asyncio.gather(*going, return_exceptions=True)


async def capacity(port: int, expected: list[str], seconds: float) -> float:
    """Good requests a second, 16 at a time."""
    run, end = Run(port, expected), time.perf_counter() + seconds

    async def client(number: int) -> None:
        seed = number
        while time.perf_counter() < end:
            await run.good(seed % NONCES)
            seed += 16

    await asyncio.gather(*map(client, range(16)))
    assert not run.wrong and not run.lost, (run.wrong, run.lost)
    return len(run.seconds) / seconds


def resident(pid: int) -> float:
    """MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="tagline")
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    with decodekit.load(args.bundle, device="cpu") as decoder:
        expected = [decoder.generate(ASK, "temperature=1.0", seed=seed).text for seed in range(NONCES)]
    failed = False
    with wire.server(f"m={args.bundle}") as (process, port):
        asyncio.run(capacity(port, expected, 2))
        most = asyncio.run(capacity(port, expected, args.seconds))
        print(f"capacity {most:.1f} requests/s; resident {resident(process.pid):.0f} MiB")
        for level in (0.5, 0.8, 1.2):
            p99 = {}
            for share in (0.0, 0.05):
                run = Run(port, expected)
                asyncio.run(run.open_loop(most * level, args.seconds, share))
                p99[share] = wire.percentile(run.seconds, 0.99)
                failed |= bool(run.wrong or run.lost)
                print(
                    f"{level:.0%} of it, {share:.0%} hostile: {len(run.seconds)} answered, {run.busy} told "
                    f"to wait, {run.skipped} not sent, {run.wrong} wrong, {run.lost} lost; "
                    f"p50 {1000 * wire.percentile(run.seconds, 0.5):.0f} ms, p99 {1000 * p99[share]:.0f} ms; "
                    f"resident {resident(process.pid):.0f} MiB"
                )
            print(f"{level:.0%}: p99 with hostile requests over without {p99[0.05] / p99[0.0]:.2f}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
