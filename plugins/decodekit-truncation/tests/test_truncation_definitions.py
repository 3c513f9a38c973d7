"""Every truncation against its formula in plain Python, for all small vocabularies over a grid of logits."""

import itertools
import math
import random

import numpy as np
import pytest
from decodekit_truncation import Epsilon, Eta, PLess, PLessNorm, TailFree, TopA, TopH, TopNSigma

from decodekit.processors import Step
from decodekit.testing import histories

GRID = (-math.inf, -30.0, -1.3, 0.0, 0.7, 2.1)
SHUFFLE = random.Random(0)
ROWS = {
    size: [
        SHUFFLE.sample(row, size)
        for row in itertools.combinations_with_replacement(GRID, size)
        if max(row) > -math.inf
    ]
    for size in range(1, 7)
}


def distribution(row):
    """Probabilities, and their logarithms, of the candidates that are left, by column."""
    best = max(row)
    live = [i for i, logit in enumerate(row) if logit > -math.inf]
    total = math.fsum(math.exp(row[i] - best) for i in live)
    log_p = {i: row[i] - best - math.log(total) for i in live}
    return {i: math.exp(log_p[i]) for i in live}, log_p


def entropy(log_p):
    return -math.fsum(math.exp(value) * value for value in log_p.values())


def at_least(row, p, bound):
    """What a bound on p leaves, the best in any case; and how near to the bound a candidate comes."""
    margin = min(abs(value - bound) for value in p.values())
    return [row[i] == max(row) or (i in p and p[i] >= bound) for i in range(len(row))], margin


def epsilon(row, e):
    return at_least(row, distribution(row)[0], e)


def eta(row, e):
    p, log_p = distribution(row)
    return at_least(row, p, min(e, math.sqrt(e) * math.exp(-entropy(log_p))))


def top_a(row, a):
    p, _ = distribution(row)
    return at_least(row, p, a * max(p.values()) ** 2)


def p_less(row):
    p, _ = distribution(row)
    return at_least(row, p, math.fsum(value**2 for value in p.values()))


def p_less_norm(row):
    p, _ = distribution(row)
    if len(p) == 1:
        return at_least(row, p, 0.5)
    return at_least(row, p, (len(p) * math.fsum(v**2 for v in p.values()) - 1) / (len(p) - 1))


def top_n_sigma(row, n):
    live = [logit for logit in row if logit > -math.inf]
    mean = math.fsum(live) / len(live)
    sigma = math.sqrt(math.fsum((logit - mean) ** 2 for logit in live) / len(live))
    bound = max(live) - n * sigma
    return [x == max(live) or x >= bound for x in row], min(abs(x - bound) for x in live)


def prefix(row, p, ranked, count):
    """The first `count` of the ranked candidates, and those as probable as the last of them."""
    last = p[ranked[count - 1]]
    return [i in p and p[i] >= last for i in range(len(row))]


def top_h(row, alpha):
    p, log_p = distribution(row)
    ranked = sorted(p, key=p.get, reverse=True)
    bound, count, margin = alpha * entropy(log_p), 1, 1.0
    for m in range(2, len(ranked) + 1):
        mass = math.fsum(p[i] for i in ranked[:m])
        kept = -math.fsum(p[i] / mass * math.log(p[i] / mass) for i in ranked[:m] if p[i])
        margin = min(margin, abs(kept - bound))
        count = m if kept <= bound else count
    return prefix(row, p, ranked, count), margin


def tail_free(row, z):
    p, _ = distribution(row)
    if len(p) < 3:
        return [i in p for i in range(len(row))], 1.0
    ranked = sorted(p, key=p.get, reverse=True)
    bends = [abs(p[i] - 2 * p[j] + p[k]) for i, j, k in zip(ranked, ranked[1:], ranked[2:])]
    count, sum_of_bends, margin = 1, 0.0, 1.0
    for bend in [*bends, 0.0]:  # the last candidate has no bend of its own
        sum_of_bends += bend
        margin = min(margin, abs(sum_of_bends - z * sum(bends)))
        count += sum_of_bends <= z * sum(bends)
    return prefix(row, p, ranked, count), margin


CASES = [
    (Epsilon, epsilon, (1e-13, 1e-3, 0.1, 0.34, 1.0)),
    (Eta, eta, (1e-13, 1e-3, 0.1, 0.34, 1.0)),
    (TopA, top_a, (1e-13, 0.05, 0.3, 0.77, 1.0)),
    (TopNSigma, top_n_sigma, (1e-3, 0.5, 1.0, 1.7, 1e6)),
    (TopH, top_h, (0.0, 0.2, 0.4, 0.8, 0.999)),
    (TailFree, tail_free, (0.0, 0.1, 0.5, 0.9, 0.999)),
]


def kept(processor, rows, dtype):
    logits = np.asarray(rows, dtype)
    step = Step.dense(histories(*[[0]] * len(rows)), logits.shape[-1])
    out = processor.process(logits, step, ())
    stays = out > -np.inf
    assert np.array_equal(out[stays], logits[stays]), "a truncation changes no logit that it keeps"
    return stays.tolist()


def compare(processor, definition, dtype, size):
    """Equal supports, but for candidates at the edge to within rounding."""
    tolerance = 2e-6 if dtype == np.float32 else 1e-14
    edges = 0
    for row, got in zip(ROWS[size], kept(processor, ROWS[size], dtype), strict=True):
        expected, margin = definition(np.asarray(row, dtype).tolist())
        assert got == expected or margin < tolerance, (processor, row)
        edges += got != expected
    assert edges <= len(ROWS[size]) // 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("make", "definition", "corners"), CASES, ids=lambda value: getattr(value, "__name__", "")
)
def test_small_vocabularies_follow_the_formula(make, definition, corners, dtype):
    for size in ROWS:
        for value in corners:
            compare(make(value), lambda row, value=value: definition(row, value), dtype, size)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("make", "definition"), [(PLess, p_less), (PLessNorm, p_less_norm)])
def test_small_vocabularies_follow_the_formula_without_a_parameter(make, definition, dtype):
    for size in ROWS:
        compare(make(), definition, dtype, size)
