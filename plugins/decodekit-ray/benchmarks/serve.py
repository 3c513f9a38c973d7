"""
What Ray Serve costs a request: the same requests to `decodekit serve` and to `decodekit serve-ray` with
one replica, in turns, by one client and by several; and the processor's time of what stands between.

    python plugins/decodekit-ray/benchmarks/serve.py [--requests N] [--rounds N] [--clients N]
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

ASK = {"model": "tagline", "prompt": "A slogan for a bakery:", "seed": 1}
SHORT = {**ASK, "max_tokens": 1}
STREAM = {**ASK, "max_tokens": 200, "stream": True, "decodekit": {"ignore_eos": True}}
BETWEEN = {"proxy": "ray::ProxyActor", "ingress": "ray::ServeReplica:decodekit:ingress"}


@contextmanager
def server(*words: str) -> Iterator[httpx.Client]:
    """A command that serves, and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "decodekit.cli",
        *words,
        "tagline",
        "--port",
        str(port),
        "--threads",
        "1",
    ]
    environment = {k: v for k, v in os.environ.items() if k != "DECODEKIT_API_KEY"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving"), " ".join(command)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            process.wait(60)


def answer(client: httpx.Client) -> None:
    client.post("/v1/completions", json=SHORT).raise_for_status()


def stream(client: httpx.Client) -> tuple[float, float, int]:
    """Seconds to the first piece, seconds of a token after it, and how many pieces there were."""
    began, times = time.perf_counter(), []
    with client.stream("POST", "/v1/completions", json=STREAM) as response:
        for _ in response.iter_raw():
            times.append(time.perf_counter())
    return times[0] - began, (times[-1] - times[0]) / (STREAM["max_tokens"] - 1), len(times)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def at_once(client: httpx.Client, work: Callable[[httpx.Client], object], count: int, clients: int) -> float:
    """Of `work` a second, by several clients."""
    with ThreadPoolExecutor(clients) as pool:
        return count / seconds(lambda: list(pool.map(work, [client] * count)))


def processor_seconds(title: str) -> float:
    """Of the processes with this title, since they were started."""
    found = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_text().startswith(title):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:  # it has ended
            continue
    return found


def spent(work: Callable[[], int]) -> dict[str, float]:
    """Milliseconds of the processor that stand between client and replica, for each of what `work` counts."""
    before = {name: processor_seconds(title) for name, title in BETWEEN.items()}
    count = work()
    return {name: 1e3 * (processor_seconds(title) - before[name]) / count for name, title in BETWEEN.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args()
    with server("serve", "--quiet") as plain, server("serve-ray") as ray:
        alone: dict[str, list[float]] = {"plain": [], "ray": []}
        firsts: dict[str, list[float]] = {"plain": [], "ray": []}
        gaps: dict[str, list[float]] = {"plain": [], "ray": []}
        rates: dict[str, list[float]] = {"plain": [], "ray": []}
        for round in range(args.rounds + 1):
            for name, client in (("plain", plain), ("ray", ray)):
                one = [seconds(lambda client=client: answer(client)) for _ in range(args.requests)]
                streams = [stream(client) for _ in range(max(1, args.requests // 20))]
                rate = at_once(client, answer, args.requests, args.clients)
                if round:  # the first warms up
                    alone[name] += one
                    firsts[name] += [first for first, _, _ in streams]
                    gaps[name] += [gap for _, gap, _ in streams]
                    rates[name].append(rate)

        def answers() -> int:
            at_once(ray, answer, args.requests, args.clients)
            return args.requests

        told: list[int] = []  # pieces of each stream

        def streams_of_ray() -> int:
            told.extend(stream(ray)[2] for _ in range(max(1, args.requests // 4)))
            return len(told)

        a_request, a_stream = spent(answers), spent(streams_of_ray)
        further = statistics.mean(told) - 1
        a_piece = {name: (a_stream[name] - a_request[name]) / further for name in BETWEEN}
    for what, found in (
        ("a request of one token", alone),
        ("first piece of a stream", firsts),
        ("each further token", gaps),
    ):
        one, two = (1e3 * statistics.median(found[name]) for name in ("plain", "ray"))
        late = [1e3 * statistics.quantiles(found[name], n=20)[-1] for name in ("plain", "ray")]
        print(
            f"{what}: {one:.2f} ms plain, {two:.2f} ms with Ray, {two - one:+.2f}; "
            f"the slowest twentieth from {late[0]:.2f} and {late[1]:.2f}"
        )
    one, two = (statistics.median(rates[name]) for name in ("plain", "ray"))
    print(f"{args.clients} clients: {one:.0f} requests/s plain, {two:.0f} with Ray")
    for what, found in (("a request", a_request), ("a further piece of a stream", a_piece)):
        print(
            f"processor's time of {what}: " + ", ".join(f"{ms:.2f} ms {name}" for name, ms in found.items())
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
