"""Every strategy against its formula in plain Python, for all small vocabularies over a grid of logits."""

import math
import random
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from decodekit_shaping import AdaptiveP, DynamicTemperature, Skew, Smoothing, Xtc, XtcExpected

from decodekit.processors import Step
from decodekit.testing import histories

GRID = (-math.inf, -30.0, -1.3, 0.0, 0.7, 2.1)
SHUFFLE = random.Random(0)
ROWS = {
    size: [
        SHUFFLE.sample(row, size) for row in combinations_with_replacement(GRID, size) if max(row) > -math.inf
    ]
    for size in range(1, 7)
}


def softmax(row):
    best = max(row)
    weights = [math.exp(logit - best) for logit in row]
    return [weight / math.fsum(weights) for weight in weights]


def dynamic_temperature(row, low, high, exponent):
    live = [p for p, logit in zip(softmax(row), row) if logit > -math.inf]
    share = -sum(p * math.log(p) for p in live if p) / math.log(len(live)) if len(live) > 1 else 0.0
    t = low + (high - low) * max(share, 0.0) ** exponent
    if t == 0:
        return [(logit == max(row)) / row.count(max(row)) for logit in row]
    return softmax([(logit - max(row)) / t for logit in row])


def smoothing(row, factor, curve):
    k, s, best = (3 - curve) / 2, (curve - 1) / 2, max(row)
    bent = []
    for logit in row:
        d = logit - best
        dead = logit == -math.inf
        bent.append(-math.inf if dead else -k * factor * d**2 + s * factor * d**3 + best)
    return softmax(bent)


def skew(row, s):
    p, power = softmax(row), math.exp(s)
    shaped = [0.0] * len(row)
    reached = 0.0
    for value in sorted(set(p) - {0.0}, reverse=True):
        equals = [i for i, other in enumerate(p) if other == value]
        before, reached = reached, reached + value * len(equals)
        for i in equals:
            shaped[i] = (reached**power - before**power) / len(equals)
    return [value / math.fsum(shaped) for value in shaped]


def excluded(row, threshold):
    p = softmax(row)
    choices = [i for i, value in enumerate(p) if value >= threshold and row[i] > -math.inf]
    return [i for i in choices if row[i] > min(row[j] for j in choices)]


def xtc(row, probability, threshold):
    gone = excluded(row, threshold) if probability == 1 else []
    return softmax([-math.inf if i in gone else logit for i, logit in enumerate(row)])


def xtc_expected(row, probability, threshold):
    plain, without = softmax(row), xtc(row, 1, threshold)
    return [(1 - probability) * a + probability * b for a, b in zip(plain, without, strict=True)]


def adaptive_p(row, target, decay):
    """The first step, as llama.cpp takes it: the mean is the target, so that is where it aims."""
    logits = []
    for p, logit in zip(softmax(row), row, strict=True):
        x = abs(p - target) / 0.3
        logits.append(-math.inf if logit == -math.inf else 5.0 - 10.0 * x * x / (1.0 + x))
    return softmax(logits)


CASES = [
    *((DynamicTemperature, dynamic_temperature, case) for case in product((0.0, 0.9), (0.5, 2), (0, 0.4, 3))),
    *((Smoothing, smoothing, case) for case in product((0.05, 1.0, 100.0), (1.0, 2.5, 3.0, 10.0))),
    *((Skew, skew, (s,)) for s in (-10.0, -1.0, 0.3, 2.0)),
    *((Xtc, xtc, case) for case in product((0, 1), (0.01, 0.11, 0.29, 0.5))),
    *((XtcExpected, xtc_expected, case) for case in product((0, 0.3, 1), (0.01, 0.11, 0.29, 0.5))),
    *((AdaptiveP, adaptive_p, case) for case in product((0.0, 0.3, 1.0), (0.0, 0.99))),
]


def process(processor, rows, dtype):
    logits = np.asarray(rows, dtype)
    step = Step.dense(histories(*[[0]] * len(rows)), logits.shape[-1])
    return processor.process(logits, step, processor.init(len(rows)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float64, 1e-11)])
@pytest.mark.parametrize(
    ("make", "definition", "values"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_small_vocabularies_follow_the_formula(make, definition, values, dtype, tolerance):
    for rows in ROWS.values():
        for row, out in zip(rows, process(make(*values), rows, dtype).astype(float), strict=True):
            expected = definition(np.asarray(row, dtype).tolist(), *values)
            off = max(abs(a - b) for a, b in zip(softmax(out.tolist()), expected, strict=True))
            assert off <= tolerance, row
