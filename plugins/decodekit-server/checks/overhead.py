"""
What the server costs over the SDK: the same streams in process and over HTTP, in turns.

    python overhead.py BUNDLE [--rounds N] [--tokens N]

Time to the first byte is of one stream alone; throughput is of one stream, and of 8 at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from typing import Any

import wire

import decodekit

PROMPT = list(range(100, 132))


async def in_process(decoder: Any, streams: int, tokens: int) -> tuple[float, float]:
    """Seconds to the first piece of the first stream, and tokens per second of all."""
    began, firsts = time.perf_counter(), []

    async def one(seed: int) -> int:
        stream = decoder.astream(PROMPT, "temperature=1.0", seed=seed, max_new_tokens=tokens, ignore_eos=True)
        async for _ in stream:
            firsts.append(time.perf_counter() - began)
        return len(stream.completion.tokens)

    counts = await asyncio.gather(*map(one, range(streams)))
    return min(firsts), sum(counts) / (time.perf_counter() - began)


async def over_http(port: int, streams: int, tokens: int) -> tuple[float, float]:
    """The same from another process."""
    began = time.perf_counter()

    async def one(seed: int) -> wire.Reply:
        body = {"model": "m", "prompt": PROMPT, "seed": seed, "max_tokens": tokens, "stream": True}
        return await wire.post(port, "/v1/completions", body | {"decodekit": {"ignore_eos": True}})

    replies = await asyncio.gather(*map(one, range(streams)))
    assert all(reply.status == 200 for reply in replies), replies[0].body
    return min(reply.first for reply in replies), streams * tokens / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    args = parser.parse_args()
    with (
        decodekit.load(args.bundle, device="cpu", prefix_bytes=0) as decoder,
        wire.server(f"m={args.bundle}") as (_, port),
    ):
        found: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for round in range(args.rounds + 1):
            for streams in (1, 8):
                one = asyncio.run(in_process(decoder, streams, args.tokens))
                other = asyncio.run(over_http(port, streams, args.tokens))
                if round:  # the first warms up
                    found.setdefault(("SDK", streams), []).append(one)
                    found.setdefault(("server", streams), []).append(other)
    for streams in (1, 8):
        sdk, served = found["SDK", streams], found["server", streams]
        first = [1000 * statistics.median(x[0] for x in side) for side in (sdk, served)]
        rate = [statistics.median(x[1] for x in side) for side in (sdk, served)]
        share = statistics.median(b[1] / a[1] for a, b in zip(sdk, served))
        print(
            f"{streams} streams: first byte {first[0]:.1f} ms in process, {first[1]:.1f} ms served; "
            f"{rate[0]:.1f} and {rate[1]:.1f} tokens/s, served over in process {share:.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
