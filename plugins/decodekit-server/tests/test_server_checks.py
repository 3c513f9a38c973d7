"""The checks see what they look for: servers that answer wrongly, and figures above their bars."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "checks"))
import load
import overhead
import wire

EXPECTED = {3: "three", 5: "five"}


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def answer(seed, text, id):
    """As the server streams it."""
    choice = {"delta": {"content": text}, "finish_reason": None}
    end = {"delta": {}, "finish_reason": "stop"}
    events = [{"id": id, "choices": [choice]}, {"id": id, "choices": [end], "decodekit": {"seed": seed}}]
    lines = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *map(chunk, lines), b"0\r\n\r\n"]


SERVERS = {
    "good": (lambda seed, parts: parts, (2, 0, 0, 0)),
    "busy": (lambda seed, parts: [b"HTTP/1.1 429 Too Many Requests\r\n\r\n{}"], (0, 0, 0, 0)),
    "failing": (lambda seed, parts: [b"HTTP/1.1 500 Internal Server Error\r\n\r\n{}"], (0, 2, 0, 0)),
    "silent": (lambda seed, parts: [], (0, 2, 0, 0)),
    "broken off": (lambda seed, parts: parts[:3], (0, 2, 0, 0)),
    "without an end": (lambda seed, parts: [*parts[:3], parts[-1]], (0, 2, 0, 0)),
    "mixed up": (lambda seed, parts: answer(8 - seed, EXPECTED[8 - seed], f"id{seed}"), (2, 0, 2, 0)),
    "another's text": (lambda seed, parts: answer(seed, EXPECTED[8 - seed], f"id{seed}"), (2, 0, 2, 0)),
    "an end too many": (lambda seed, parts: [*parts[:3], parts[2], *parts[3:]], (2, 0, 0, 2)),
    "the same again": (lambda seed, parts: answer(seed, EXPECTED[seed], "id"), (2, 0, 0, 1)),
}


@pytest.mark.parametrize("name", SERVERS)
def test_what_is_lost_wrong_or_twice_is_seen(name):
    fault, found = SERVERS[name]

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        seed = json.loads(await reader.readexactly(size))["seed"]
        writer.writelines(fault(seed, answer(seed, EXPECTED[seed], f"id{seed}")))
        writer.close()
        await writer.wait_closed()

    async def ask():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            traffic = load.Traffic(server.sockets[0].getsockname()[1], EXPECTED)
            for seed in EXPECTED:
                await traffic.ask(seed)
        return traffic

    traffic = asyncio.run(ask())
    assert (len(traffic.seconds), traffic.lost, traffic.wrong, traffic.twice) == found
    assert traffic.busy == (2 if name == "busy" else 0)
    assert traffic.is_whole == (name in ("good", "busy"))


def test_against_the_server_nothing_is_lost_and_a_rate_is_kept(server):
    decoder = server.decoder("tagline")
    expected = {seed: decoder.generate(load.ASK, "temperature=1.0", seed=seed).text for seed in range(4)}
    traffic = load.Traffic(server.port, expected, model="tagline")
    with load.hostile(server.port, 50, 1, 1) as counted:
        asyncio.run(load.open_loop(traffic, 20, 1, 1))
    assert traffic.is_whole and counted[0] > 5
    assert 8 <= len(traffic.seconds) + traffic.busy <= 36  # 20 of a Poisson distribution


def test_processor_time_of_another_process_is_read():
    import os
    import time

    assert wire.cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.5)


@pytest.mark.parametrize(
    "values, verdict",
    [([1.0] * 8, "holds"), ([9.0] * 8, "MISSED"), ([1.0, 9.0] * 6, "open"), ([1.0] * 5, "open")],
)
def test_a_bar_is_decided_when_the_interval_is_on_one_side(values, verdict):
    assert overhead.Figure("x", "ms", values, bar=3.0).verdict == verdict


def test_the_interval_of_a_median_holds_it_in_95_of_100_samples():
    import random

    rng, count = random.Random(1), 2000
    samples = ([rng.expovariate(1) for _ in range(15)] for _ in range(count))
    inside = sum(low <= 0.6931 <= high for low, high in map(overhead.interval, samples))
    assert 0.95 <= inside / count <= 0.98
