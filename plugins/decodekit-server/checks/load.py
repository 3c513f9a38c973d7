"""
Open-loop load: requests come when they come, at shares of the capacity, alone and among hostile ones.

    python load.py [BUNDLE] [--seconds N] [--rounds N] [--requests N]

64 clients ask at random times, whether they have their answers or not; a second process sends hostile
requests, 5% of all. Every request has a nonce, its seed, and the answer must tell that seed, be what
the SDK gives for it, end once, and have an id that no other has: what was lost, mixed up or came twice
is seen. In the end many requests in a row show whether memory grows.

Bars, each with a verdict, and a status of 1 where one is missed: no such answer; p99 of good requests
among hostile ones at most 1.25 of that without; resident memory grows by 8 MiB at most, medians of the
second to fourth tenths of the requests and of the last three: large hostile bodies come and go.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import wire
from hostile import ASK

import decodekit

CLIENTS = 64
NONCES = 64
LEVELS = (0.5, 0.8, 1.2)  # of the capacity
BESIDE = 0.05 / 0.95  # hostile requests for a good one: 5% of all
SLOWER = 1.25  # that p99 may be among hostile requests
GROWTH = 8.0  # MiB
AT_ONCE = 16  # where requests follow one another


@dataclass
class Traffic:
    """Good requests to a server, and what became of them."""

    port: int
    expected: dict[int, str]
    model: str = "m"
    seconds: list[float] = field(default_factory=list)
    busy: int = 0  # told to come again later
    lost: int = 0
    wrong: int = 0
    twice: int = 0
    _ids: set[str] = field(default_factory=set)

    @property
    def is_whole(self) -> bool:
        """Whether every request got its own answer, or was told to come again."""
        return not (self.lost or self.wrong or self.twice)

    async def ask(self, seed: int) -> None:
        body = {"model": self.model, "messages": ASK, "seed": seed, "stream": True}
        try:
            reply = await wire.post(self.port, "/v1/chat/completions", body)
        except OSError:
            self.lost += 1
            return
        if reply.status == 429:
            self.busy += 1
            return
        events = reply.events()
        if reply.status != 200 or not events or b"data: [DONE]" not in reply.body:
            self.lost += 1
            return
        text = "".join(c["delta"].get("content", "") for e in events for c in e["choices"])
        ends = sum(c["finish_reason"] is not None for e in events for c in e["choices"])
        ids, told = {e["id"] for e in events}, events[-1].get("decodekit", {}).get("seed")
        self.wrong += text != self.expected[seed] or told != seed or len(ids) != 1
        self.twice += ends != 1 or bool(ids & self._ids)
        self._ids |= ids
        self.seconds.append(reply.last)

    def __str__(self) -> str:
        return (
            f"{len(self.seconds)} answered, {self.busy} told to wait, {self.lost} lost, {self.wrong} wrong, "
            f"{self.twice} twice; p50 {1000 * wire.percentile(self.seconds, 0.5):.0f} ms, "
            f"p99 {1000 * wire.percentile(self.seconds, 0.99):.0f} ms"
        )


async def open_loop(traffic: Traffic, rate: float, seconds: float, seed: int) -> None:
    """`rate` requests a second of all clients; the same seed sends the same at the same times."""

    async def client(number: int) -> None:
        rng, tasks = random.Random(seed * CLIENTS + number), []
        end = time.perf_counter() + seconds
        while (wait := rng.expovariate(rate / CLIENTS)) < end - time.perf_counter():
            await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(traffic.ask(rng.choice(list(traffic.expected)))))
        await asyncio.gather(*tasks)

    await asyncio.gather(*map(client, range(CLIENTS)))


async def in_a_row(ask: Callable[[int], Awaitable[None]], nonces: Sequence[int], more: Iterator[int]) -> None:
    """Some requests at a time, each followed by the next, as long as there are more."""

    async def client() -> None:
        for number in more:
            await ask(nonces[number % len(nonces)])

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))


def capacity(port: int, expected: dict[int, str], seconds: float) -> float:
    """Requests a second where each follows another."""

    def until() -> Iterator[int]:
        end, number = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            yield (number := number + 1)

    traffic, began = Traffic(port, expected), time.perf_counter()
    asyncio.run(in_a_row(traffic.ask, list(expected), until()))
    if not traffic.is_whole:
        raise SystemExit(f"no capacity can be told: {traffic}")
    return len(traffic.seconds) / (time.perf_counter() - began)


@contextmanager
def hostile(port: int, rate: float, seconds: float, seed: int) -> Iterator[list[int]]:
    """Hostile requests from a process of their own while the block runs; in the end, how many."""
    counted: list[int] = []
    program = Path(__file__).with_name("hostile.py")
    words = [str(port), f"{rate:.3f}", f"{seconds:.1f}", f"--seed={seed}"]
    run = subprocess.Popen([sys.executable, program, *words], stdout=subprocess.PIPE)
    assert run.stdout is not None
    try:
        run.stdout.readline()  # it is ready
        yield counted
    finally:
        run.terminate()
        counted.append(len(run.communicate()[0]))


def nonces(bundle: str) -> dict[int, str]:
    """Seeds, and the answers to them, no two of which are equal."""
    found: dict[str, int] = {}
    seed = 0
    with decodekit.load(bundle, device="cpu") as decoder:
        while len(found) < NONCES:
            answers = decoder.generate(ASK, "temperature=1.0", seed=seed).text
            found.setdefault(answers, seed)
            seed += 1
            if seed > 20 * NONCES:
                raise SystemExit(f"{bundle}: too few different answers to tell them apart")
    return {seed: text for text, seed in found.items()}


def verdict(what: str, holds: bool) -> bool:
    print(f"  {what}: {'holds' if holds else 'MISSED'}", flush=True)
    return holds


def under_load(
    port: int, expected: dict[int, str], most: float, level: float, seconds: float, rounds: int
) -> bool:
    """One level, alone and among hostile requests, in turns."""
    rate = most * level
    alone, among, sent = Traffic(port, expected), Traffic(port, expected), 0
    for seed in range(rounds):
        asyncio.run(open_loop(alone, rate, seconds, seed))
        with hostile(port, rate * BESIDE, seconds, seed) as counted:
            asyncio.run(open_loop(among, rate, seconds, seed))
        sent += sum(counted)
    print(f"{level:.0%} of the capacity\n  alone: {alone}\n  beside {sent} hostile: {among}")
    ratio = wire.percentile(among.seconds, 0.99) / wire.percentile(alone.seconds, 0.99)
    return verdict("no answer lost, wrong or twice", alone.is_whole and among.is_whole) & verdict(
        f"p99 among hostile requests is {ratio:.2f} of that without, bar {SLOWER}", ratio <= SLOWER
    )


def memory(port: int, pid: int, expected: dict[int, str], most: float, requests: int) -> bool:
    """Many requests in a row, among hostile ones."""
    traffic, tenth = Traffic(port, expected), requests // 10
    sizes, seconds = [], 4 * requests / most  # longer than it should take
    with hostile(port, most * BESIDE, seconds, 1) as counted:
        for part in range(10):
            numbers = iter(range(part * tenth, (part + 1) * tenth))
            asyncio.run(in_a_row(traffic.ask, list(expected), numbers))
            sizes.append(wire.resident(pid))
    print(f"{requests:,} requests in a row\n  beside {sum(counted)} hostile: {traffic}")
    print("  MiB after each tenth:", *(f"{size:.1f}" for size in sizes))
    growth = statistics.median(sizes[-3:]) - statistics.median(sizes[1:4])
    return verdict("no answer lost, wrong or twice", traffic.is_whole) & verdict(
        f"memory grew by {growth:.1f} MiB from the second to the last tenths, bar {GROWTH:g}",
        growth <= GROWTH,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="tagline")
    parser.add_argument("--seconds", type=float, default=10, help="of a level in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000, help="in a row, for memory")
    args = parser.parse_args()
    expected = nonces(args.bundle)
    with wire.server(f"m={args.bundle}") as (process, port):
        capacity(port, expected, 2)  # warms up
        most = capacity(port, expected, args.seconds)
        print(f"capacity {most:.1f} requests/s; resident {wire.resident(process.pid):.0f} MiB")
        levels = [under_load(port, expected, most, level, args.seconds, args.rounds) for level in LEVELS]
        flat = memory(port, process.pid, expected, most, args.requests)
        well = verdict("the server runs", process.poll() is None)
    return 0 if all(levels) and flat and well else 1


if __name__ == "__main__":
    sys.exit(main())
