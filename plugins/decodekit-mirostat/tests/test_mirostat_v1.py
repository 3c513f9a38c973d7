"""Mirostat 1 against the paper's algorithm in plain Python."""

import math
import random
from itertools import combinations_with_replacement

import numpy as np
import pytest
from decodekit_mirostat import MirostatV1, zipf_count, zipf_exponent

from decodekit import Sampler, stream
from decodekit.errors import ParameterError
from decodekit.ops import softmax
from decodekit.plugins import load_plugins
from decodekit.processors import Step
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.testing import TableModel, check_logits_processor, histories

GRID = (-math.inf, -5.0, -1.3, 0.0, 0.7, 2.1)
SHUFFLE = random.Random(0)
ROWS = [
    SHUFFLE.sample(row, size)
    for size in range(1, 7)
    for row in combinations_with_replacement(GRID, size)
    if max(row) > -math.inf
]


def reference(row, mu, m):
    """The candidates that stay, and how far k is from the next whole number."""
    ranked = sorted((logit for logit in row if logit > -math.inf), reverse=True)
    n = len(ranked)
    if n == 1:
        return [logit > -math.inf for logit in row], 1.0
    above = below = 0.0
    for i in range(1, min(m, n)):
        t = math.log((i + 1) / i)
        above += t * (ranked[i - 1] - ranked[i])
        below += t * t
    s = above / below
    if s < 1e-4:  # k is beyond all numbers, or 1; one way or the other equals stay together
        return None, 0.0
    e = s - 1
    k = ((e * 2**mu) / (1 - n**-e)) ** (1 / s) if e else (2**mu / math.log(n)) ** (1 / s)
    kept = ranked[min(max(int(k), 1), n) - 1]
    return [logit >= kept for logit in row], abs(k - round(k))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [2, 3, 100])
@pytest.mark.parametrize("mu", [-3.0, 0.5, 1.5, 3.0, 20.0])
def test_small_vocabularies_follow_the_algorithm(mu, m, dtype):
    compared = 0
    for row in ROWS:
        logits = np.asarray([row], dtype)
        out = MirostatV1(m=m).process(logits, None, np.asarray([[mu]], np.float32))
        expected, margin = reference(logits[0].astype(float).tolist(), mu, m)
        if expected is not None and margin > 1e-6:
            assert (out[0] > -np.inf).tolist() == expected, row
            compared += 1
    assert compared > len(ROWS) * 0.4  # the others: the m best are equal, s = 0


def test_keeps_the_contract():
    check_logits_processor(MirostatV1(tau=1.0))
    check_logits_processor(MirostatV1(tau=3.0, m=2))


def test_a_zipf_law_is_recognised():
    for s in (0.3, 1.0, 2.5):
        assert zipf_exponent(-s * np.log(np.arange(1, 51))) == pytest.approx(s)


@pytest.mark.parametrize(
    ("s", "mu", "n", "k"),
    [
        (2.0, 2.0, 4, 2),  # ((1 * 4) / (1 - 1/4))^(1/2) = 2.31
        (2.0, 3.0, 4, 3),  # 3.27
        (2.0, 9.0, 4, 4),  # no more than there are
        (2.0, -9.0, 4, 1),  # no fewer than one
        (1.0, 3.0, 50, 2),  # 8 / ln 50 = 2.04, the limit
        (1.0 + 1e-12, 3.0, 50, 2),
        (0.5, 5.0, 10, 54),  # (-0.5 * 32 / (1 - 10^0.5))^2 = 54.7
        (0.0, 9.0, 50, 50),  # all equal, 2^9 / 49 > 1
        (0.0, 1.0, 50, 1),
        (1e30, 5.0, 50, 1),
        (1.2, 1e5, 50, 50),
        (math.inf, 5.0, 50, 1),
    ],
)
def test_the_count_by_hand(s, mu, n, k):
    assert zipf_count(s, mu, n) == min(k, n)


def test_removed_candidates_do_not_count():
    rng, mu = np.random.default_rng(0), np.asarray([[4.0]], np.float32)
    logits = rng.standard_normal((1, 40))
    padded = np.concat([np.full((1, 5000), -np.inf), logits], axis=-1)
    assert np.array_equal(
        MirostatV1().process(padded, None, mu)[:, 5000:], MirostatV1().process(logits, None, mu)
    )


def test_each_row_has_its_own_bound():
    logits = np.repeat(np.random.default_rng(1).standard_normal((1, 30)) * 2, 3, axis=0)
    mu = np.asarray([[1.0], [4.0], [6.0]], np.float32)
    rows = MirostatV1().process(logits, None, mu)
    counts = (rows > -np.inf).sum(axis=-1).tolist()
    assert counts == sorted(set(counts))
    for i in range(3):
        assert np.array_equal(rows[i : i + 1], MirostatV1().process(logits[i : i + 1], None, mu[i : i + 1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_odd_logits_leave_the_best(dtype):
    mirostat = MirostatV1()
    logits = np.asarray(
        [[3e38, -3e38, 0, -np.inf], [1e30, 1e30, 5, 0], [0, 0, 0, 0], [-np.inf] * 3 + [2]], dtype
    )
    out = mirostat.process(logits, None, mirostat.init(4))
    assert (out.max(axis=-1) == logits.max(axis=-1)).all() and not np.isnan(out).any()
    assert mirostat.process(np.zeros((1, 1), dtype), None, mirostat.init(1)).tolist() == [[0.0]]


def test_the_bound_moves_as_in_the_paper():
    mirostat, mu = MirostatV1(tau=2.0, eta=0.3), 4.0
    rng, state = np.random.default_rng(2), MirostatV1(tau=2.0, eta=0.3).init(1)
    for _ in range(50):
        logits = (rng.standard_normal((1, 60)) * 2).astype(np.float32)
        out = mirostat.process(logits, None, state)
        expected, _ = reference(logits[0].astype(float).tolist(), float(state[0, 0]), 100)
        assert (out[0] > -np.inf).tolist() == expected
        p = softmax(out.astype(float))[0]
        column = int(rng.choice(60, p=p))
        mu -= 0.3 * (-math.log2(p[column]) - 2.0)
        state = mirostat.accept(out, np.asarray([column]), state)
        assert state[0, 0] == pytest.approx(mu, abs=1e-4)


def test_the_surprise_of_a_long_text_comes_near_the_target():
    table = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32) * 2

    def surprise(*processors):
        """Bits of each token among those that stayed, on average."""
        sampler, ids, bits = Sampler(processors), [1], []
        states = sampler.init(1)
        for _ in range(1000):
            draw = sampler.draw(table[ids[-1:]], Step.dense(histories(ids), 64), states)
            stage = draw.stages[0]
            (token,) = draw.tokens
            bits.append(-math.log2(softmax(stage.logits)[0, np.flatnonzero(stage.ids[0] == token)[0]]))
            ids, states = [*ids, int(token)], draw.states
        return np.mean(bits[200:])

    assert surprise(MirostatV1(tau=2.0)) == pytest.approx(2.0, abs=0.2)
    assert surprise(MirostatV1(tau=3.0)) == pytest.approx(3.0, abs=0.3)


def test_an_answer_can_be_repeated():
    table = np.random.default_rng(3).standard_normal((64, 64)).astype(np.float32) * 2
    runs = [
        [
            t.id
            for t in stream(TableModel(table), [1], Sampler((MirostatV1(3.0),)), [MaxNewTokens(50)], seed=1)
        ]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_both_are_registered():
    registry = load_plugins(only=("mirostat",)).logits_processors
    assert {"mirostat", "mirostat_v1"} <= set(registry.entries)
    assert registry.create("mirostat_v1", 3.0) == MirostatV1(tau=3.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0}, r"mirostat_v1: tau must be in \(0, inf\), got 0"),
        ({"eta": 1.5}, r"mirostat_v1: eta must be in \(0, 1\], got 1.5"),
        ({"m": 1}, r"mirostat_v1: m must be in \[2, inf\), got 1"),
        ({"m": 2.5}, r"mirostat_v1: m must be a whole number"),
    ],
)
def test_parameters_have_a_domain(options, message):
    with pytest.raises(ParameterError, match=message):
        MirostatV1(**options)
