"""
What the server costs over the SDK: the same streams in this process and over HTTP, in turns.

    python overhead.py BUNDLE ... [--rounds N] [--tokens N]

Both sides are asked the same prompts, one after the other, and who comes first changes: some short answers,
for the time to the first byte; one stream; 8 at a time. What counts are differences within a pair of
turns, which a noisy machine disturbs alike: their median, and the interval in which that of all pairs
there could be lies at 95%. Rounds go on until every interval is on one side of its bar, or there were
enough. A status of 1 says that one is not below it.

CPU seconds are of the process that decodes, whose threads also spin while they wait.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import wire

import decodekit

STREAMS = (1, 8)
PROMPT = 32  # ids
LEAST = 8  # rounds
PAUSE = 0.1  # seconds between turns, in which threads stop spinning
FIRSTS, FEW = 8, 4  # answers a round of so many tokens, for the time to the first byte


@dataclass(frozen=True)
class Turn:
    """What one side took.

    first    seconds to the first piece of text of the first stream
    seconds  to the last of all
    cpu      seconds that the decoding process computed
    """

    first: float
    seconds: float
    cpu: float


Pair = tuple[Turn, Turn]


@dataclass(frozen=True)
class Figure:
    """Something that the server takes more than the SDK, by round, and the most it may be."""

    name: str
    unit: str
    values: Sequence[float]
    bar: float | None = None

    @property
    def verdict(self) -> str:
        low, high = interval(self.values)
        if self.bar is None:
            return ""
        return "holds" if high <= self.bar else "MISSED" if low > self.bar else "open"

    def __str__(self) -> str:
        low, high = interval(self.values)
        middle = statistics.median(self.values)
        bar = "" if self.bar is None else f"; bar {self.bar:g}: {self.verdict}"
        return f"  {self.name:40} {middle:+8.2f} {self.unit} ({low:+.2f} to {high:+.2f}){bar}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """In which the median of all there could be lies, at 95%: two of the values, as many from either end.

    Conover, "Practical Nonparametric Statistics", 1999, section 3.2.
    """
    ordered, count, tail, rank = sorted(values), len(values), 0.0, 0
    while (tail := tail + math.comb(count, rank) / 2**count) <= 0.025:
        rank += 1
    return (ordered[rank - 1], ordered[-rank]) if rank else (-math.inf, math.inf)


async def in_process(decoder: Any, prompts: Sequence[Sequence[int]], tokens: int) -> Turn:
    began, cpu, firsts = time.perf_counter(), time.process_time(), []

    async def one(prompt: Sequence[int]) -> None:
        stream = decoder.astream(prompt, "temperature=1.0", seed=1, max_new_tokens=tokens, ignore_eos=True)
        first = 0.0
        async for _ in stream:
            first = first or time.perf_counter() - began
        assert len(stream.completion.tokens) == tokens
        firsts.append(first or time.perf_counter() - began)

    await asyncio.gather(*map(one, prompts))
    return Turn(min(firsts), time.perf_counter() - began, time.process_time() - cpu)


async def over_http(pid: int, port: int, prompts: Sequence[Sequence[int]], tokens: int) -> Turn:
    began, cpu = time.perf_counter(), wire.cpu_seconds(pid)

    async def one(prompt: Sequence[int]) -> wire.Reply:
        body = {"model": "m", "prompt": prompt, "seed": 1, "max_tokens": tokens, "stream": True}
        return await wire.post(port, "/v1/completions", body | {"decodekit": {"ignore_eos": True}})

    replies = await asyncio.gather(*map(one, prompts))
    turn = Turn(
        min(reply.first for reply in replies), time.perf_counter() - began, wire.cpu_seconds(pid) - cpu
    )
    for reply in replies:
        assert reply.status == 200 and b"[DONE]" in reply.body, reply.body
    return turn


@dataclass
class Sides:
    """The two that take turns, and what their turns took, SDK first.

    ids  of which prompts are made
    """

    decoder: Any
    ids: Sequence[int]
    pid: int
    port: int
    firsts: list[Pair] = field(default_factory=list)
    streams: dict[int, list[Pair]] = field(default_factory=lambda: {count: [] for count in STREAMS})

    def take_round(self, number: int, tokens: int) -> None:
        rng = random.Random(number)  # new prompts, so that none is read already
        for turn in range(FIRSTS):
            self.firsts.append(self._both(1, FEW, rng, turned=bool(turn % 2)))
        for count, pairs in self.streams.items():
            pairs.append(self._both(count, tokens, rng, turned=bool(number % 2)))

    def forget(self) -> None:
        for pairs in (self.firsts, *self.streams.values()):
            pairs.clear()

    def _both(self, count: int, tokens: int, rng: random.Random, *, turned: bool) -> Pair:
        prompts = [rng.choices(self.ids, k=PROMPT) for _ in range(count)]
        turns = {}
        for side in (1, 0) if turned else (0, 1):
            time.sleep(PAUSE)
            ask = over_http(self.pid, self.port, prompts, tokens) if side else None
            turns[side] = asyncio.run(ask or in_process(self.decoder, prompts, tokens))
        return turns[0], turns[1]


def measure(bundle: str, most: int, tokens: int) -> list[Figure]:
    """Rounds until every bar is decided; what they give."""
    with (
        decodekit.load(bundle, device="cpu") as decoder,
        wire.server(f"m={bundle}", "--device", "cpu") as (process, port),
    ):
        ids = [id for id in range(decoder.model.vocabulary) if id not in decoder.bundle.stop_ids]
        sides = Sides(decoder, ids, process.pid, port)
        sides.take_round(0, tokens)
        sides.forget()  # it warmed up
        for number in range(1, most + 1):
            sides.take_round(number, tokens)
            figures = judge(sides, tokens)
            if number >= LEAST and not any(figure.verdict == "open" for figure in figures):
                break
    print(f"{bundle}, {number} rounds of {tokens} tokens a stream")
    for count, pairs in sides.streams.items():
        for side, name in enumerate(("SDK", "server")):
            rate = statistics.median(count * tokens / pair[side].seconds for pair in pairs)
            cpu = statistics.median(1000 * pair[side].cpu / (count * tokens) for pair in pairs)
            print(f"  {count} at a time, {name}: {rate:.1f} tokens/s, {cpu:.2f} CPU ms a token")
    return figures


def judge(sides: Sides, tokens: int) -> list[Figure]:
    firsts = [1000 * (server.first - sdk.first) for sdk, server in sides.firsts]
    figures = [Figure("first byte later, 1 at a time", "ms", firsts, bar=3.0)]
    for count, pairs in sides.streams.items():
        lost = [100 * (1 - sdk.seconds / server.seconds) for sdk, server in pairs]
        cpu = [1000 * (server.cpu - sdk.cpu) / (count * tokens) for sdk, server in pairs]
        figures.append(Figure(f"throughput lost, {count} at a time", "%", lost, bar=5.0))
        figures.append(Figure(f"more CPU a token, {count} at a time", "ms", cpu))
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--rounds", type=int, default=40, help="at most")
    parser.add_argument("--tokens", type=int, default=48, help="of a stream")
    args = parser.parse_args()
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"load average {load:.1f}: somebody else computes, so it takes more rounds\n")
    decided = True
    for bundle in args.bundles:
        figures = measure(bundle, args.rounds, args.tokens)
        print(*figures, sep="\n", end="\n\n", flush=True)
        decided &= all(figure.verdict in ("holds", "") for figure in figures)
    return 0 if decided else 1


if __name__ == "__main__":
    sys.exit(main())
