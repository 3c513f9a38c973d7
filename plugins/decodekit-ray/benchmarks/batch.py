"""
What Ray costs a batch: blocks through an actor that does nothing, and a job through one actor beside
the same job in this process.

    python plugins/decodekit-ray/benchmarks/batch.py [--rows N] [--blocks N] [--rounds N]

Both jobs are timed from their first row on: starting Ray and loading the model are told by themselves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from decodekit_ray.actors import BLOCK_ROWS, Actors, Engine
from decodekit_ray.cluster import ray
from ray import cloudpickle

import decodekit
from decodekit.commands.batch import begun_with
from decodekit.jobs.answering import Answerer, Record
from decodekit.jobs.job import Job, Unseen
from decodekit.jobs.row import Mark, Row
from decodekit.jobs.sources import open_source
from decodekit.plugin_choice import Choice

AHEAD = 64  # sequences, as `decodekit batch` gives an engine
COST = {"num_cpus": 1, "num_gpus": 0}
CHAIN = (["temperature=0.8"], {"max_new_tokens": 12}, None)


class Nothing:
    """Answers at once, as long as an answer is."""

    def answer(self, rows: list[Row]) -> list[Record]:
        return [
            {
                "row": row.number,
                "id": f"r{row.number}",
                "text": f"Fresh bread for street number {row.number}.",
                "finish_reason": "stop",
                "stopped_by": "token 0",
                "seed": row.number << 40,
                "usage": {"prompt_tokens": 13, "completion_tokens": 12},
            }
            for row in rows
        ]


def measure_blocks(count: int) -> None:
    """Seconds of a block alone, and of each of many, eight at a time; bytes there and back."""
    rows = [
        Row(Mark(i), Mark(i + 1), {"id": f"r{i}", "prompt": f"Give me a tagline for shop number {i}."})
        for i in range(BLOCK_ROWS)
    ]
    actor = ray.remote(max_concurrency=4, num_cpus=0)(Nothing).remote()
    ray.get(actor.answer.remote(rows))
    began = time.perf_counter()
    for _ in range(count // 10):
        ray.get(actor.answer.remote(rows))
    alone = (time.perf_counter() - began) / (count // 10)
    began, running = time.perf_counter(), []
    for _ in range(count):
        running.append(actor.answer.remote(rows))
        if len(running) == 8:
            _, running = ray.wait(running)
    ray.get(running)
    many = (time.perf_counter() - began) / count
    there, back = len(cloudpickle.dumps(rows)), len(cloudpickle.dumps(Nothing().answer(rows)))
    print(f"a block of {BLOCK_ROWS} rows: {1e3 * alone:.2f} ms alone, {1e3 * many:.2f} ms of many")
    print(f"bytes a row: {there / BLOCK_ROWS:.0f} there, {back / BLOCK_ROWS:.0f} back", flush=True)


def run(folder: Path, name: str, answerer: Answerer) -> tuple[float, bytes]:
    """Seconds of a job, and its records."""
    (folder / name).unlink(missing_ok=True)
    (folder / f"{name}.job").unlink(missing_ok=True)
    source = open_source(str(folder / "in.jsonl"), folder=folder)
    job = Job(source, folder / name, {}, lambda seed: answerer, seed=1, ahead=AHEAD)
    began = time.perf_counter()
    job.run(lambda rows, done: Unseen())
    return time.perf_counter() - began, (folder / name).read_bytes()


def measure_jobs(rows: int, rounds: int) -> bool:
    """The same job in this process and through one actor, in turns. Whether the records were the same."""
    none = Choice(frozenset())
    with decodekit.load("tagline", plugins=decodekit.load_plugins(none), threads=1) as decoder:
        facts = begun_with(decoder, {})
    engine = Engine("tagline", {"threads": 1}, none, CHAIN, {"name": "tagline"}, facts)
    began = time.perf_counter()
    actors = Actors(engine, 1, address="local", count=1, cost=COST, ahead=AHEAD)
    print(f"an actor with its model: {time.perf_counter() - began:.1f} s")
    here = engine.answering(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = (
            json.dumps({"prompt": f"Give me a tagline for shop number {i}."}) + "\n" for i in range(rows)
        )
        (folder / "in.jsonl").write_text("".join(lines))
        found = [(run(folder, "one", here), run(folder, "two", actors)) for _ in range(rounds + 1)][1:]
    here.decoder.close()
    one, two = (statistics.median(pair[side][0] for pair in found) for side in (0, 1))
    extra = statistics.median(pair[1][0] - pair[0][0] for pair in found)
    print(
        f"{rows:,} rows: {one:.2f} s in this process, {two:.2f} s through an actor; medians of {rounds}; "
        f"{1e3 * extra / rows:+.2f} ms a row"
    )
    return all(pair[0][1] == pair[1][1] for pair in found)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    began = time.perf_counter()
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    print(f"Ray: {time.perf_counter() - began:.1f} s")
    measure_blocks(arguments.blocks)
    same = measure_jobs(arguments.rows, arguments.rounds)
    ray.shutdown()
    print("the same bytes" if same else "OTHER BYTES")
    return not same


if __name__ == "__main__":
    sys.exit(main())
