"""
What the server costs over the SDK: the same streams in this process and over HTTP, in turns.

    python overhead.py BUNDLE ... [--rounds N] [--tokens N]

A round asks both sides the same prompts, for one stream and for 8 at a time; who comes first changes from
round to round. What counts are differences within a round, which a noisy machine disturbs alike:
their median, and the interval in which that of all rounds there could be lies at 95%. Rounds go on until
every interval is on one side of its bar. A status of 1 says that one is not below it.

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
from dataclasses import dataclass
from typing import Any

import wire

import decodekit

STREAMS = (1, 8)
PROMPT = 32  # ids
LEAST = 8  # rounds
PAUSE = 0.2  # seconds between turns, in which threads stop spinning


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
        firsts.append(first)

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


def measure(bundle: str, most: int, tokens: int) -> list[Figure]:
    """Rounds until every bar is decided; what they give."""
    rounds: list[dict[int, tuple[Turn, Turn]]] = []
    figures: list[Figure] = []
    with (
        decodekit.load(bundle, device="cpu") as decoder,
        wire.server(f"m={bundle}", "--device", "cpu") as (
            process,
            port,
        ),
    ):
        known = [id for id in range(decoder.model.vocabulary) if id not in decoder.bundle.stop_ids]
        for number in range(most + 1):
            taken = {}
            for streams in STREAMS:
                rng = random.Random(number * 100 + streams)  # new prompts, so that none is read already
                prompts = [rng.choices(known, k=PROMPT) for _ in range(streams)]
                sides: dict[str, Turn] = {}
                for side in ("SDK", "server") if number % 2 else ("server", "SDK"):
                    time.sleep(PAUSE)
                    turn = (
                        in_process(decoder, prompts, tokens)
                        if side == "SDK"
                        else over_http(process.pid, port, prompts, tokens)
                    )
                    sides[side] = asyncio.run(turn)
                taken[streams] = sides["SDK"], sides["server"]
            if number:  # the first warms up
                rounds.append(taken)
                figures = judge(rounds, tokens)
            if len(rounds) >= LEAST and not any(figure.verdict == "open" for figure in figures):
                break
    print(f"{bundle}, {len(rounds)} rounds of {tokens} tokens a stream")
    for streams in STREAMS:
        for place, name in enumerate(("SDK", "server")):
            turns = [taken[streams][place] for taken in rounds]
            rate = statistics.median(streams * tokens / turn.seconds for turn in turns)
            first = statistics.median(1000 * turn.first for turn in turns)
            cpu = statistics.median(1000 * turn.cpu / (streams * tokens) for turn in turns)
            print(
                f"  {streams} at a time, {name}: {rate:.1f} tokens/s, first byte after {first:.1f} ms, "
                f"{cpu:.2f} CPU ms a token"
            )
    return figures


def judge(rounds: Sequence[dict[int, tuple[Turn, Turn]]], tokens: int) -> list[Figure]:
    firsts = [1000 * (server.first - sdk.first) for sdk, server in (taken[1] for taken in rounds)]
    figures = [Figure("first byte, 1 at a time", "ms", firsts, bar=3.0)]
    for streams in STREAMS:
        pairs = [taken[streams] for taken in rounds]
        lost = [100 * (1 - sdk.seconds / server.seconds) for sdk, server in pairs]
        cpu = [1000 * (server.cpu - sdk.cpu) / (streams * tokens) for sdk, server in pairs]
        figures.append(Figure(f"throughput lost, {streams} at a time", "%", lost, bar=5.0))
        figures.append(Figure(f"CPU a token, {streams} at a time", "ms", cpu))
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
