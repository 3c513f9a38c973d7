"""
What a step of sampling takes in a graph and on the host, and what crosses: medians, milliseconds a row.

    timing.py [--device cpu] [--rounds 15]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from decodekit.answer import Answer
from decodekit.graph_sampling.reducer import Reducer
from decodekit.sampling import Sampler
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.min_p import MinP
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP

VOCABULARIES = (32_000, 49_152, 151_936)
CHAINS = {
    "greedy": (Greedy(),),
    "temperature, min_p": (Temperature(0.8), MinP(0.05)),
    "temperature, top_k, top_p": (Temperature(0.8), TopK(50), TopP(0.9)),
    "top_p": (TopP(0.9),),
}
ROWS = (1, 8)


def timings(device: str, rounds: int) -> list[dict[str, Any]]:
    """For each vocabulary, chain and number of rows: both ways on the same logits, taking turns."""
    found = []
    for vocabulary in VOCABULARIES:
        logits = _logits(max(ROWS), vocabulary)
        reducer = Reducer(vocabulary, device=device)
        for name, chain in CHAINS.items():
            for rows in ROWS:
                found.append(_timed(name, chain, logits[:rows], reducer, rounds))
    return found


def _timed(name: str, chain: Any, logits: Any, reducer: Reducer, rounds: int) -> dict[str, Any]:
    rows, vocabulary = logits.shape
    there = _on_device(logits, reducer)
    plans = [reducer.plan(chain) for _ in range(rows)]
    answers = [Answer([1], Sampler(chain), (), seed=row) for row in range(rows)]

    def host() -> None:
        for row, answer in enumerate(answers):
            answer.take(logits[row : row + 1])

    def graph() -> None:
        for plan in plans:
            plan.misses = 0
        told = [plan.told(one.history, one.states) for plan, one in zip(plans, answers, strict=True)]
        for row, left in enumerate(reducer.reduce(plans, there, told)):
            answers[row].take(None if left else logits[row : row + 1], left)

    times: dict[str, list[float]] = {"host": [], "graph": []}
    for _ in range(rounds):
        for way, run in (("host", host), ("graph", graph)):
            times[way].append(_seconds(run))
    return {
        "chain": name,
        "vocabulary": vocabulary,
        "rows": rows,
        "host_ms": 1e3 * median(times["host"]) / rows,
        "graph_ms": 1e3 * median(times["graph"]) / rows,
        "crossing_bytes": plans[0].graph.row_bytes(),
        "row_bytes": 4 * vocabulary,
    }


def _on_device(logits: Any, reducer: Reducer) -> Any:
    if reducer.device == "cpu":
        return logits
    from decodekit.device_logits import DeviceRows
    from decodekit.device_memory import DeviceMemory

    memory = DeviceMemory(reducer.device)
    array = memory.zeros(logits.shape, logits.dtype)
    memory.move(np.ascontiguousarray(logits), array)
    return DeviceRows(array, memory)


def _logits(rows: int, vocabulary: int) -> Any:
    """A few likely tokens and a long tail, as of a model."""
    rng = np.random.default_rng(0)
    ranks = rng.permuted(np.tile(np.arange(vocabulary), (rows, 1)), axis=1)
    return (12 - 2.2 * np.log1p(ranks) + rng.standard_normal((rows, vocabulary)) * 0.3).astype(np.float32)


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def table(found: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| chain | vocabulary | rows | host, ms a row | graph, ms a row | bytes that cross | all |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        "| {chain} | {vocabulary:,} | {rows} | {host_ms:.2f} | {graph_ms:.2f} | {crossing_bytes:,} "
        "| {row_bytes:,} |".format(**one)
        for one in found
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(table(timings(args.device, args.rounds)))
