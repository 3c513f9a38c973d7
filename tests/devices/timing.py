"""
What a step of sampling takes in a graph and on the host, and what crosses: medians, milliseconds a row.

    timing.py [--device cpu] [--rounds 15]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from decodekit.answer import Answer
from decodekit.graph_sampling.reducer import Reducer
from decodekit.graph_sampling.telling import feeds
from decodekit.processors import LogitsProcessor
from decodekit.sampling import Sampler
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.min_p import MinP
from decodekit.strategies.penalties import RepetitionPenalty
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP


@dataclass(frozen=True)
class Half(LogitsProcessor):
    """Lets through every other id, by a mask."""

    def mask(self, row: Any, state: Any) -> Any:
        return np.full(max(VOCABULARIES) // 8, 0b01010101, np.uint8)


VOCABULARIES = (32_000, 49_152, 151_936)
CHAINS = {
    "greedy": (Greedy(),),
    "temperature, min_p": (Temperature(0.8), MinP(0.05)),
    "temperature, top_k, top_p": (Temperature(0.8), TopK(50), TopP(0.9)),
    "top_p": (TopP(0.9),),
    "repetition_penalty, top_p": (RepetitionPenalty(1.1), TopP(0.9)),
    "half the ids, top_p": (Half(), TopP(0.9)),
}
SEVERAL = ("temperature, top_k, top_p", "top_p")
FORMS = ("rank", "halve", "sort")
ROWS = (1, 8)


def timings(device: str, rounds: int, vocabularies: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """For each vocabulary, chain, form of it and number of rows: host and graph, taking turns."""
    found = []
    for vocabulary in vocabularies or VOCABULARIES:
        logits = _logits(max(ROWS), vocabulary)
        for name, chain in CHAINS.items():
            for form in FORMS if name in SEVERAL else FORMS[:1]:
                reducer = Reducer(vocabulary, device=device, form=form)
                for rows in ROWS:
                    timed = _timed(chain, logits[:rows], reducer, rounds)
                    found.append({"chain": name, "form": form} | timed)
    return found


def _timed(chain: Any, logits: Any, reducer: Reducer, rounds: int) -> dict[str, Any]:
    rows, vocabulary = logits.shape
    there = _on_device(logits, reducer)
    plans = [reducer.plan(chain) for _ in range(rows)]
    answers = [Answer(range(1, 200), Sampler(chain), (), seed=row) for row in range(rows)]

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
        "vocabulary": vocabulary,
        "rows": rows,
        "host_ms": 1e3 * median(times["host"]) / rows,
        "graph_ms": 1e3 * median(times["graph"]) / rows,
        "told_bytes": told_bytes(plans[0], answers[0]),
        "crossing_bytes": plans[0].graph.row_bytes(),
        "row_bytes": 4 * vocabulary,
    }


def told_bytes(plan: Any, answer: Answer) -> int:
    """What the graph is told of a row besides its parameters: edits, masks."""
    told = plan.told(answer.history, answer.states)
    graph = plan.graph
    return sum(array.nbytes for array in feeds(graph.kinds, [told], graph.vocabulary).values())


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
        "| chain | form | vocabulary | rows | host, ms | graph, ms | bytes told | bytes back | all |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        "| {chain} | {form} | {vocabulary:,} | {rows} | {host_ms:.2f} | {graph_ms:.2f} | {told_bytes:,} "
        "| {crossing_bytes:,} | {row_bytes:,} |".format(**one)
        for one in found
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(table(timings(args.device, args.rounds)))
