"""Locally typical sampling, against the definition in plain Python."""

import itertools
import math

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decodekit.errors import ParameterError
from decodekit.ops import log_softmax
from decodekit.processors import Step
from decodekit.strategies.typical import SMALL, Typical, entropy, typical, typical_pruned
from decodekit.testing import check_logits_processor, histories

GRID = (-math.inf, -1.3, 0.0, 0.7)
CORNERS = (0.0, 0.2, 0.5, 0.9, 0.999, 1.0)
P = np.asarray([[0.5, 0.25, 0.125, 0.125]])  # H = 1.75 bits; surprises 1, 2, 3, 3 bits


def kept(logits):
    return (np.asarray(logits) > -np.inf).tolist()


def process(processor, logits):
    step = Step.dense(histories(*[[0]] * len(logits)), logits.shape[-1])
    return processor.process(logits, step, processor.init(len(logits)))


def reference(logits, p):
    """What stays of one row, by the definition; and how far the nearest edge is."""
    live = [i for i, logit in enumerate(logits) if logit > -math.inf]
    best = max(logits)
    total = math.fsum(math.exp(logits[i] - best) for i in live)
    log_p = {i: logits[i] - best - math.log(total) for i in live}
    expected = -math.fsum(math.exp(log_p[i]) * log_p[i] for i in live)
    distance = {i: abs(-log_p[i] - expected) for i in live}
    mass, margin = 0.0, 1.0
    for last in sorted(live, key=distance.get):
        mass += math.exp(log_p[last])
        margin = min(margin, abs(mass - p))
        if mass >= p:
            break
    stay = [i in distance and distance[i] <= distance[last] for i in range(len(logits))]
    apart = [abs(distance[i] - distance[last]) for i in live if logits[i] != logits[last]]
    return stay, min([margin, *apart])


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@pytest.mark.parametrize("size", range(1, 7))
def test_small_vocabularies_follow_the_definition(size, dtype, tolerance):
    rows = [row for row in itertools.product(GRID, repeat=size) if max(row) > -math.inf]
    logits = np.asarray(rows, dtype)
    edges = 0
    for p in CORNERS:
        out = kept(typical(logits, p))
        for row, got in zip(logits.astype(float).tolist(), out, strict=True):
            stay, margin = reference(row, p)
            edges += got != stay
            assert got == stay or margin < tolerance, (row, p)
    assert edges <= len(rows) // 10


@pytest.mark.parametrize(
    ("p", "stay"),
    [
        (0.0, [False, True, False, False]),  # the most typical one, not the most probable
        (0.25, [False, True, False, False]),  # exactly reached
        (0.26, [True, True, False, False]),
        (0.75, [True, True, False, False]),
        (0.76, [True, True, True, True]),  # the last two are equals
    ],
)
def test_four_candidates_by_hand(p, stay):
    assert kept(typical(np.log(P), p)) == [stay]


def test_the_most_probable_candidate_may_go():
    logits = np.log(np.asarray([[0.4, *[0.06] * 10]], np.float32))
    assert kept(typical(logits, 0.5)) == [[False] + [True] * 10]


def test_entropy_is_in_nats_and_takes_no_part_from_the_impossible():
    log_p = np.log(np.asarray([[0.5, 0.5], [1.0, 1e-300]]))
    log_p[1, 1] = -np.inf
    assert entropy(log_p) == pytest.approx(np.asarray([[math.log(2)], [0.0]]))


@pytest.mark.parametrize("processor", [Typical(0.0), Typical(0.5), Typical(0.99)], ids=repr)
@pytest.mark.parametrize("vocab", [257, SMALL + 1])
def test_keeps_the_contract(processor, vocab):
    check_logits_processor(processor, vocab=vocab)


def test_the_neutral_value_returns_its_input():
    logits = np.log(P)
    assert process(Typical(1), logits) is logits


@pytest.mark.parametrize("function", [lambda row, p: typical(row[None], p)[0], typical_pruned])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_edge_is_inclusive_to_one_step_of_the_number(function, dtype):
    logits = np.log(P[0]).astype(dtype)
    mass = float(np.exp(log_softmax(logits))[1])  # of the most typical candidate
    assert mass == pytest.approx(0.25)
    assert sum(kept(function(logits, mass))) == 1
    assert sum(kept(function(logits, math.nextafter(mass, 1)))) == 2


def test_a_removed_column_is_as_good_as_gone():
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((1, 40)) * 2).astype(np.float32)
    dead = rng.random(40) < 0.5
    out = typical(np.where(dead, -np.inf, logits).astype(np.float32), 0.6)
    assert np.array_equal(out[:, ~dead], typical(logits[:, ~dead], 0.6))
    assert (out[:, dead] == -np.inf).all()


@pytest.mark.parametrize("p", CORNERS)
def test_a_single_candidate_stays(p):
    assert kept(process(Typical(p), np.asarray([[3.0]], np.float32))) == [[True]]
    alone = np.asarray([[-np.inf, -7.0, -np.inf]], np.float32)
    assert kept(process(Typical(p), alone)) == [[False, True, False]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", CORNERS)
def test_huge_logits_give_no_nan_and_leave_a_candidate(p, dtype):
    logits = np.asarray([[1e30, 0, -1e30, 5], [3e38, 3e38, 1e30, -np.inf], [1e-40, 0, 0, 0]], dtype)
    out = process(Typical(p), logits)
    assert not np.isnan(out).any() and (out > -np.inf).any(axis=-1).all()
    assert kept(out)[0][0] and kept(out)[1][:2] == [True, True]


def test_rows_and_their_parameters_are_their_own():
    rng = np.random.default_rng(1)
    logits, p = rng.standard_normal((5, 30)), np.linspace(0.1, 0.9, 5)[:, None]
    rows = typical(logits, p)
    for i in range(5):
        assert np.array_equal(rows[i : i + 1], typical(logits[i : i + 1], p[i, 0]))


def test_runs_on_any_standard_array():
    logits = np.random.default_rng(2).standard_normal((2, 9)).astype(np.float32)
    strict = typical(array_api_strict.asarray(logits), 0.7)
    assert np.array_equal(np.asarray(strict), typical(logits, 0.7))


plateaus = st.integers(1, 60).flatmap(
    lambda n: arrays(np.float32, n, elements=st.sampled_from([-np.inf, -200, -9.5, -1, 0, 0.25, 3, 40]))
)


@settings(max_examples=200, deadline=None)
@given(plateaus.filter(lambda row: row.max() > -np.inf), st.floats(0, 1))
def test_the_pruned_form_gives_the_same_on_plateaus(logits, p):
    assert np.array_equal(typical_pruned(logits, p), typical(logits, p))


def test_the_pruned_form_has_its_edges_where_the_plain_one_has():
    logits = (np.random.default_rng(4).standard_normal(20) * 0.1).astype(np.float32)
    log_p = log_softmax(logits)
    order = np.argsort(np.abs(log_p + entropy(log_p)))
    for p in np.cumsum(np.exp(log_p)[order], dtype=np.float64).tolist():
        assert np.array_equal(typical_pruned(logits, p), typical(logits[None], p)[0])


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0, 30.0])
@pytest.mark.parametrize("p", [0.0, 1e-6, 0.3, 0.95, 1 - 1e-9])
def test_the_pruned_form_gives_the_same_on_large_vocabularies(scale, p):
    logits = (np.random.default_rng(3).standard_normal((2, 20_000)) * scale).astype(np.float32)
    logits[1, ::3] = -np.inf
    assert np.array_equal(process(Typical(p), logits), typical(logits, p))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_value_outside_the_domain_is_refused(p):
    with pytest.raises(ParameterError, match=r"typical: p must be in \[0, 1\]"):
        Typical(p)
    with pytest.raises(ParameterError, match=r"typical: p must be a number in \[0, 1\]"):
        Typical("0.9")
