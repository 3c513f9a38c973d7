"""
Millions of rows through a job whose model costs nothing: memory, sizes, and how long it takes to go on.

    python tests/benchmarks/batch_scale.py --rows 5000000

The decoder is a stub that answers at once; reading, checking, ordering, writing and syncing are real. The
job is killed in the middle and goes on. Exit status 1 if a row is missing or if memory grew with the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from decodekit.jobs import job_file
from decodekit.jobs.answering import Finished
from decodekit.jobs.job import Job
from decodekit.jobs.journal import Journal
from decodekit.jobs.row import Row
from decodekit.jobs.sources import open_source

GROWTH = 64e6  # bytes that a process may need beyond what it needs for a hundredth of the rows


class Stub:
    """Answers at once."""

    def begin(self, row: Row) -> Finished:
        assert isinstance(row.fields, dict)
        usage = {"prompt_tokens": 8, "completion_tokens": 12}
        answer = {"text": row.fields["prompt"][::-1], "finish_reason": "stop", "stopped_by": "token 0"}
        return Finished({"row": row.number, "id": row.fields["id"], **answer, "seed": 1, "usage": usage})


class Killer:
    """Kills the process when so many rows are done in this run."""

    def __init__(self, left: int) -> None:
        self._left, self.began = left, time.monotonic()
        self.first = 0.0  # seconds until the first row was done

    def advance(self, record: Any) -> None:
        self.first = self.first or time.monotonic() - self.began
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def run(folder: Path, kill_after: int, ordered: bool) -> dict[str, float]:
    """A job in a process of its own; what it took."""
    read, write = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        watches: list[Killer] = []
        began_child = time.monotonic()

        def watch(rows: int, done: int) -> Killer:
            watches.append(Killer(kill_after))
            return watches[-1]

        source = open_source(str(folder / "in.jsonl"), folder=folder)
        job = Job(source, folder / "out.jsonl", {}, lambda seed: Stub(), seed=1, ordered=ordered)
        job.run(watch)
        facts = {
            "to first row": watches[0].began - began_child if watches else time.monotonic() - began_child
        }
        os.write(write, json.dumps(facts).encode())
        os._exit(0)
    os.close(write)
    facts = json.loads(os.read(read, 10_000) or "{}")
    os.close(read)
    _, status, usage = os.wait4(pid, 0)
    return {"seconds": time.monotonic() - began, "peak MB": usage.ru_maxrss / 1000, "status": status, **facts}


def write_input(path: Path, rows: int) -> None:
    with path.open("w") as file:
        for i in range(rows):
            file.write(f'{{"id": "customer-{i:09}", "prompt": "Give me a tagline for shop number {i}."}}\n')


def numbers(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        for line in file:
            yield int(line[len(b'{"row": ') : line.index(b",")])


def measure(rows: int, ordered: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder / "in.jsonl", rows)
        killed = run(folder, rows // 2, ordered)
        written = (folder / "out.jsonl").stat().st_size
        job = job_file.read(job_file.path_of(folder / "out.jsonl"))
        went_on = run(folder, 0, ordered)
        begun = {
            "rows": rows,
            "ordered": ordered,
            "input bytes a row": (folder / "in.jsonl").stat().st_size / rows,
        }
        found = numbers(folder / "out.jsonl")
        right = (
            all(a == b for a, b in zip(found, range(rows), strict=True))
            if ordered
            else sorted(found) == [*range(rows)]
        )
        finished = run(folder, 0, ordered)
        journal = Journal(folder / "out.jsonl")
        journal.close()
        return begun | {
            "output bytes a row": journal.synced / rows,
            "job file bytes": job_file.path_of(folder / "out.jsonl").stat().st_size,
            "read again at going on, bytes": written - (job.checkpoint.bytes if job else 0),
            "first half, rows/s": rows / 2 / killed["seconds"],
            "second half, rows/s": rows / 2 / (went_on["seconds"] - went_on["to first row"]),
            "seconds until it went on": went_on["to first row"],
            "seconds to find it finished": finished["seconds"],
            "peak MB": [round(r["peak MB"], 1) for r in (killed, went_on, finished)],
            "each row once": right,
        }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--order", default="input", choices=["input", "done"])
    arguments = parser.parse_args()
    ordered = arguments.order == "input"
    small, large = measure(arguments.rows // 100, ordered), measure(arguments.rows, ordered)
    for facts in (small, large):
        print(json.dumps(facts), flush=True)
    grown = 1e6 * (max(large["peak MB"]) - max(small["peak MB"]))
    print(f"{grown / 1e6:.1f} MB more for {arguments.rows:,} rows than for {arguments.rows // 100:,}")
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(f"of this the process begins with {own:.1f} MB at most")
    return not (small["each row once"] and large["each row once"] and grown < GROWTH)


if __name__ == "__main__":
    sys.exit(main())
