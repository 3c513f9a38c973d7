"""
What a draw costs: the definition beside its pruned form, which gives the same token.

    python tests/benchmarks/draw.py
"""

import statistics
import time
from functools import partial

import numpy as np

from decodekit import Step, noise
from decodekit.drawing import sample_plainly, sample_pruned
from decodekit.testing import histories

RUNS = 50
VOCABULARIES = (32_000, 49_152, 151_936)
SCALE = 2.0  # of the logits: a distribution that is neither flat nor peaked


def milliseconds(function) -> float:
    function()
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def main() -> None:
    print("| vocabulary | plain, ms | pruned, ms | ratio |\n|---|---|---|---|")
    for vocabulary in VOCABULARIES:
        logits = (np.random.default_rng(0).standard_normal((1, vocabulary)) * SCALE).astype(np.float32)
        step = Step.dense(histories([1, 2, 3]), vocabulary)
        keys = noise.keys(step.rows)
        assert sample_plainly(logits, keys, step.ids)[0] == sample_pruned(logits[0], keys, step.ids[0])
        plain = milliseconds(partial(sample_plainly, logits, keys, step.ids))
        pruned = milliseconds(partial(sample_pruned, logits[0], keys, step.ids[0]))
        print(f"| {vocabulary:,} | {plain:.2f} | {pruned:.2f} | {plain / pruned:.1f} |")


if __name__ == "__main__":
    main()
