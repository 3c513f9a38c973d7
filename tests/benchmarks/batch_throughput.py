"""
Short prompts through `decodekit batch`, beside what the engine does with them by itself.

    python tests/benchmarks/batch_throughput.py --rows 20000

Both decode the same prompts with the same chain and seeds, in turn, so that noise
meets both; then there is one long job. Exit status 1 if the job is slower than 0.95 of the engine, its
memory grows or a row is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import decodekit
from decodekit.errors import DecodekitError
from decodekit.gathering import AHEAD
from decodekit.jobs.answering import Answering, row_seed
from decodekit.jobs.job import Job
from decodekit.jobs.sources import open_source
from decodekit.jobs.tasks import Tasks

CHAIN = "temperature=0.8, top_p=0.9"
SHARE = 0.95
GROWTH = 16e6  # bytes, from a tenth of the rows to the end
OPTIONS = {"max_new_tokens": 12}


class Memory:
    """Looks at the resident memory while a job goes on."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.first = 0.0

    def begin(self, rows: int, done: int) -> Memory:
        self.began, self.seconds = time.perf_counter(), 0.0
        return self

    def advance(self, record: Any) -> None:
        if not self.seconds:
            self.seconds = time.perf_counter() - self.began
        if record["row"] % 100 == 0:
            self.seen.append(resident())


def resident() -> float:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def prompt(row: int) -> str:
    return f"Give me a tagline for shop number {row}."


def by_engine(decoder: Any, rows: range) -> tuple[int, float]:
    """Tokens and seconds of the engine with all of the requests there from the beginning."""
    began = time.perf_counter()
    started = []
    tokens = 0
    waiting = iter(rows)
    while True:
        while len(started) < AHEAD * decoder.engine.max_rows and (row := next(waiting, None)) is not None:
            seed = row_seed(1, f"row-{row}")
            started.append(decoder.begin(prompt(row), CHAIN, seed=seed, **OPTIONS)[0])
        if not started:
            return tokens, time.perf_counter() - began
        future, pieces = started.pop(0)
        tokens += pieces.complete(future.result()).usage.completion_tokens


def by_job(decoder: Any, rows: range, folder: Path, memory: Memory) -> tuple[int, float, float]:
    """Tokens and seconds of a job, and how long it took to begin."""
    path = folder / f"{rows.start}.jsonl"
    path.write_text("".join(json.dumps({"id": f"row-{r}", "prompt": prompt(r)}) + "\n" for r in rows))
    began = time.perf_counter()
    tasks = Tasks(decoder.plugins, [CHAIN], OPTIONS)
    job = Job(
        source=open_source(str(path), folder=folder),
        results=folder / f"{rows.start}.out.jsonl",
        begun_with={},
        answerer=lambda seed: Answering(decoder, tasks, seed),
        seed=1,
        ahead=AHEAD * decoder.engine.max_rows,
    )
    summary = job.run(memory.begin)
    if summary.rows != len(rows) or summary.failed:
        raise DecodekitError(f"{summary.to_json()}")
    seconds = time.perf_counter() - began
    return summary.completion_tokens, seconds, memory.began - began


def pair(decoder: Any, number: int, rows: int, folder: Path) -> tuple[float, float]:
    """The job's speed over the engine's with the same rows: by the clock, and by the processor's time."""
    first = 1_000_000 + number * rows
    both = range(first, first + rows)
    ways = [lambda: by_engine(decoder, both), lambda: by_job(decoder, both, folder, Memory())[:2]]
    took: dict[int, tuple[float, float]] = {}
    for which in (0, 1) if number % 2 else (1, 0):  # in turn, so that none always comes first
        before = time.process_time()
        tokens, seconds = ways[which]()
        took[which] = seconds / tokens, (time.process_time() - before) / tokens
    return took[0][0] / took[1][0], took[0][1] / took[1][1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=20_000, help="of one job; 0: none")
    parser.add_argument("--pairs", type=int, default=6, help="of jobs beside the engine")
    parser.add_argument("--pair-rows", type=int, default=3_000)
    parser.add_argument("--model", default="tagline")
    arguments = parser.parse_args()
    decoder = decodekit.load(arguments.model, plugins=decodekit.load_plugins(only=()))
    by_engine(decoder, range(200))
    right = True
    with tempfile.TemporaryDirectory() as name:
        if arguments.pairs:
            clock, processor = zip(
                *(pair(decoder, i, arguments.pair_rows, Path(name)) for i in range(arguments.pairs))
            )
            share = statistics.median(clock)
            right = share >= SHARE
            print(
                f"{arguments.pairs} pairs of {arguments.pair_rows} rows: {share:.3f} of the engine's speed, "
                f"{statistics.median(processor):.3f} by processor time; medians; "
                f"quartiles {' to '.join(f'{q:.3f}' for q in statistics.quantiles(clock)[::2])}",
                flush=True,
            )
        if arguments.rows:
            memory = Memory()
            tokens, seconds, start = by_job(decoder, range(arguments.rows), Path(name), memory)
            grown = max(memory.seen) - max(memory.seen[: len(memory.seen) // 10])
            right = right and grown < GROWTH and start < 2
            print(
                f"{arguments.rows:,} rows in one job: {tokens / seconds:,.0f} tokens/s, {start:.2f} s before "
                f"the first; {max(memory.seen) / 1e6:.0f} MB, {grown / 1e6:.1f} MB more than after a tenth"
            )
    return not right


if __name__ == "__main__":
    sys.exit(main())
