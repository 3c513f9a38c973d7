"""
What Ray costs: blocks through an actor that does nothing, and a job with two actors beside one process.

    python plugins/decodekit-ray/benchmarks.py --rows 2000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray
from decodekit_ray.actors import BLOCK_ROWS

from decodekit.jobs.sources import Mark, Row


@ray.remote(max_concurrency=4)
class Nothing:
    """Answers at once, as long as an answer is."""

    def answer(self, rows: list[Row]) -> list[dict[str, object]]:
        usage = {"prompt_tokens": 13, "completion_tokens": 12}
        text = {"text": "Fresh bread for the whole street.", "finish_reason": "stop", "stopped_by": "token 0"}
        return [
            {"row": row.number, "id": f"r{row.number}", **text, "seed": 1, "usage": usage} for row in rows
        ]


def blocks(count: int) -> tuple[float, float]:
    """Seconds of a block alone, and of each of many, eight at a time."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    rows = [
        Row(Mark(i), Mark(i + 1), {"id": f"r{i}", "prompt": f"Give me a tagline for shop number {i}."})
        for i in range(BLOCK_ROWS)
    ]
    actor = Nothing.remote()
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
    ray.shutdown()
    return alone, many


def job(folder: Path, name: str, *words: str) -> float:
    """Seconds of a command."""
    began = time.perf_counter()
    where = ["tagline", str(folder / "in.jsonl"), str(folder / name), "--seed", "1", "--threads", "1"]
    chain = ["-p", "temperature=0.8", "--max-new-tokens", "12"]
    subprocess.run(
        [sys.executable, "-m", "decodekit.cli", "batch", *where, *chain, *words],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--blocks", type=int, default=2000)
    arguments = parser.parse_args()
    alone, many = blocks(arguments.blocks)
    print(
        f"a block of {BLOCK_ROWS} rows: {1e3 * alone:.2f} ms alone, {1e3 * many:.2f} ms of many", flush=True
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = (
            json.dumps({"id": f"r{i}", "prompt": f"Give me a tagline for shop number {i}."}) + "\n"
            for i in range(arguments.rows)
        )
        (folder / "in.jsonl").write_text("".join(lines))
        one, two = job(folder, "one.jsonl"), job(folder, "two.jsonl", "--ray", "local", "--ray-actors", "2")
        same = (folder / "one.jsonl").read_bytes() == (folder / "two.jsonl").read_bytes()
    print(f"{arguments.rows:,} rows: {one:.1f} s in one process, {two:.1f} s with two actors, start included")
    print("the same bytes" if same else "OTHER BYTES")
    return not same


if __name__ == "__main__":
    sys.exit(main())
