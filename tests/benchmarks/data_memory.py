"""
Reading training data: rows a second, and bytes of memory that a row costs.

    data_memory.py CHECKPOINT [ROWS ...]

A file of so many short pairs is written, each another, and read as a run would read it. Memory is what
the process holds of its own (RssAnon); tokens are in files, which the system may keep or drop.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from decodekit_export.data import Reading, load
from decodekit_export.pretrained import Pretrained, open_pretrained

WARM = 20_000  # rows after which the tokenizer's own cache is full


def main(checkpoint: str, *counts: str) -> None:
    start = open_pretrained(Path(checkpoint))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        measured(path, start, WARM)
        for rows in map(int, counts or ("50000", "200000")):
            seconds, added = measured(path, start, rows)
            size = path.stat().st_size
            print(
                f"{rows:,} rows, {size / 2**20:.0f} MiB: {rows / seconds:,.0f} rows/s, "
                f"{size / 2**20 / seconds:.1f} MiB/s, {added / rows:.0f} bytes of memory a row"
            )


def measured(path: Path, start: Pretrained, rows: int) -> tuple[float, int]:
    """Seconds to read so many rows, and the bytes that were then held in addition."""
    with path.open("w") as file:
        for i in range(rows):
            pair = {
                "prompt": f"What follows {i}, and why does it?",
                "completion": f"{i + 1}, since one is added.",
            }
            file.write(json.dumps(pair) + "\n")
    before, began = held(), time.perf_counter()
    data = load(path, start.chat, Reading(max_length=start.context_length))
    seconds, added = time.perf_counter() - began, held() - before
    assert data.counts.rows == rows
    return seconds, added


def held() -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in status if line.startswith("RssAnon")))


if __name__ == "__main__":
    main(*sys.argv[1:])
