"""How fast a bundle decodes on a device: beside a bare loop, in a batch, and beside what memory allows."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
from devices.bare import Bare

import decodekit
from decodekit.bundle import Bundle
from decodekit.device_memory import DeviceMemory
from decodekit.footprint import footprint
from decodekit.onnx_file import read_onnx
from decodekit.stopping import StoppingCriterion

PROMPT = [1, 2, 3]
ROUNDS = 3


class StepClock(StoppingCriterion):
    """Never stops; notes when each token came, and the how manyth of its sequence it was."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, int]] = []

    def check(self, progress: Any) -> None:
        self.moments.append((time.perf_counter(), len(progress.history.generated)))

    def step_seconds(self, count: int) -> float:
        """Of a step in which all sequences take part."""
        began = max(moment for moment, length in self.moments if length == 1)
        ended = min(moment for moment, length in self.moments if length == count)
        steps = {length for moment, length in self.moments if began < moment <= ended}
        return (ended - began) / max(1, len(steps))


def stream(bundle: Bundle, device: str, count: int) -> dict[str, Any]:
    """Tokens a second of one greedy stream and of a bare loop on the same graph, taking turns; the best."""
    bare, best = Bare(bundle, device, len(PROMPT) + count), {"decodekit": 0.0, "bare": 0.0}
    with decodekit.load(bundle.path, device=device, prefix_bytes=0) as decoder:
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            completion = decoder.generate(PROMPT, "greedy", max_new_tokens=count, ignore_eos=True)
            rate = len(completion.tokens) / (time.perf_counter() - began)
            best["decodekit"] = max(best["decodekit"], rate)
            best["bare"] = max(best["bare"], count / bare.seconds(PROMPT, count))
    return {**best, "share": best["decodekit"] / best["bare"]}


def batch(bundle: Bundle, device: str, rows: int, count: int) -> dict[str, Any]:
    """Milliseconds a step of so many rows, greedy and with top-p; the share that a graph left to the host."""
    found: dict[str, Any] = {"rows": rows}
    prompts = [[1 + row % 7, 2, 3 + row % 5] for row in range(rows)]
    with decodekit.load(bundle.path, device=device, max_rows=rows, prefix_bytes=0) as decoder:
        for name, chain in (("greedy", "greedy"), ("top_p", "temperature=0.7, top_p=0.9")):
            times = []
            for _ in range(1 + ROUNDS):
                clock = StepClock()
                decoder.generate(
                    prompts, chain, criteria=[clock], max_new_tokens=count, ignore_eos=True, seed=0
                )
                times.append(clock.step_seconds(count))
            found[f"{name}_ms"] = 1e3 * median(times[1:])
        reducer = decoder.engine.reducer
        found["chains run in"] = "NumPy" if reducer is None else "a graph"
        if reducer is not None:
            found["left_to_the_host"] = reducer.missed / max(1, reducer.rows)
    return {**found, "top_p_over_greedy": found["top_p_ms"] / found["greedy_ms"]}


def floor(bundle: Bundle, device: str, tokens_per_second: float, length: int, size: int) -> dict[str, Any]:
    """What a token moves, at a length in the middle of the answer, beside what memory could move meanwhile.

    size  bytes of the arrays that are copied to see how fast memory is
    """
    feet = footprint(bundle, read_onnx(bundle.graph))
    weights = feet.read if device == "cpu" else feet.read * feet.stored / feet.loaded
    moved = weights + bundle.cache.bytes_per_token * length
    rate = bandwidth(device, size)
    return {
        "bytes_per_token": round(moved),
        "bandwidth_gb_s": rate / 1e9,
        "floor_ms": 1e3 * moved / rate,
        "over_floor": rate / (moved * tokens_per_second),
    }


def bandwidth(device: str, size: int) -> float:
    """Bytes a second that a copy reads and writes; the best of several."""
    memory = DeviceMemory(device)
    one, other = memory.zeros((size,), np.uint8), memory.zeros((size,), np.uint8)
    best = 0.0
    for _ in range(10):
        began = time.perf_counter()
        memory.move(one, other)
        best = max(best, 2 * size / (time.perf_counter() - began))
    return best
