"""
Strategies that transformers has too, on the same random logits: which candidates stay.

Intended differences, each with a test of its own:

    strategy  decodekit                                     transformers 5
    top_p     keeps equals of the last one kept             keeps some of them, by the order of a sort
    top_h     renormalises what is kept before it takes     adds -p ln p as it is, over the 100 best only
              its entropy, over all candidates
    epsilon,  0 is neutral, 1 is allowed                    the open interval (0, 1)
    eta,
    typical

Elsewhere supports are equal, but for candidates within float32 rounding of an edge: where they are
not, changes that small change the support in float64 too.
"""

import math

import numpy as np
import pytest
import torch
from decodekit_truncation.epsilon import epsilon_sampling, eta_sampling
from decodekit_truncation.top_h import top_h
from transformers.generation import logits_process as peer

from decodekit.strategies.min_p import min_p
from decodekit.strategies.top_k import top_k
from decodekit.strategies.top_p import top_p
from decodekit.strategies.typical import typical

SHARED = {
    "top_p": (top_p, peer.TopPLogitsWarper, (0.05, 0.5, 0.9, 0.99)),
    "min_p": (min_p, peer.MinPLogitsWarper, (0.001, 0.05, 0.3, 1.0)),
    "typical": (typical, peer.TypicalLogitsWarper, (0.05, 0.5, 0.9, 0.99)),
    "epsilon": (epsilon_sampling, peer.EpsilonLogitsWarper, (1e-5, 3e-4, 0.01, 0.2)),
    "eta": (eta_sampling, peer.EtaLogitsWarper, (1e-5, 3e-4, 0.01, 0.2)),
}
SHAPES = [(300, 5, 1.0), (300, 40, 2.0), (200, 300, 3.0), (50, 5000, 1.0), (50, 5000, 4.0)]


def random_logits(rows, columns, scale):
    rng = np.random.default_rng(columns)
    logits = (rng.standard_normal((rows, columns)) * scale).astype(np.float32)
    logits[rng.random((rows, columns)) < 0.1] = -np.inf
    logits[:, 0] = 0.0
    return logits


def theirs(warper, logits):
    return warper(None, torch.from_numpy(logits.copy())).numpy()


def at_an_edge(ours, logits, value):
    """Whether a change as small as float32 rounding changes who stays, by row."""
    rng, stays = np.random.default_rng(0), ours(logits, value) > -np.inf
    moved = np.zeros(len(logits), bool)
    for step in (-1e-5, 1e-5) * 10:
        near = ours(logits + rng.standard_normal(logits.shape) * 5e-6, value * (1 + step))
        moved |= ((near > -np.inf) != stays).any(axis=-1)
    return moved


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("ours", "make", "values"), SHARED.values(), ids=SHARED)
def test_the_same_candidates_stay(ours, make, values, shape):
    logits = random_logits(*shape)
    for value in values:
        supports = ours(logits, value) > -np.inf, theirs(make(value), logits) > -np.inf
        unequal = np.flatnonzero((supports[0] != supports[1]).any(axis=-1))
        assert len(unequal) <= 0.05 * len(logits)
        assert at_an_edge(ours, logits[unequal].astype(np.float64), value).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 3, 40])
def test_top_k_leaves_the_very_same_logits(shape, k):
    logits = np.round(random_logits(*shape), 1)  # with ties
    assert np.array_equal(top_k(logits, k), theirs(peer.TopKLogitsWarper(k), logits))


@pytest.mark.parametrize("name", ["min_p", "typical", "epsilon", "eta"])
def test_equals_share_their_fate_in_both(name):
    ours, make, values = SHARED[name]
    logits = np.log(np.asarray([[0.4, 0.15, 0.15, 0.15, 0.05, 0.05, 0.05]], np.float32))
    for value in values:
        assert np.array_equal(ours(logits, value), theirs(make(value), logits))


def test_top_p_keeps_all_of_the_equals_at_its_edge():
    logits = np.log(np.asarray([[0.4, 0.2, 0.2, 0.2]], np.float32))
    assert (top_p(logits, 0.5) > -np.inf).sum() == 4
    assert (theirs(peer.TopPLogitsWarper(0.5), logits) > -np.inf).sum() == 2


def cumulated(logits, alpha, *, best, renormalise):
    """How many of the ranked candidates stay under either rule of top_h."""
    l = np.sort(logits[logits > -np.inf].astype(np.float64))[::-1][:best]  # noqa: E741
    p = np.exp(l - l[0])
    p /= p.sum()
    sums, mass = np.cumsum(-p * np.log(p)), np.cumsum(p)
    kept = sums / mass + np.log(mass) if renormalise else sums
    kept[0] = 0.0
    bound = alpha * sums[-1]
    return int(np.flatnonzero(kept <= bound)[-1]) + 1, float(np.abs(kept[1:] - bound).min())


@pytest.mark.parametrize("alpha", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("shape", [(200, 40, 2.0), (100, 300, 3.0)])
def test_top_h_takes_the_entropy_of_what_is_kept(shape, alpha):
    logits = random_logits(*shape)
    ours = (top_h(logits, alpha) > -np.inf).sum(axis=-1)
    theirs_ = (theirs(peer.TopHLogitsWarper(alpha), logits) > -np.inf).sum(axis=-1)
    for row, count, other in zip(logits, ours, theirs_, strict=True):
        expected, margin = cumulated(row, alpha, best=None, renormalise=True)
        assert count == expected or margin < 1e-5
        expected, margin = cumulated(row, alpha, best=100, renormalise=False)
        assert other == expected or margin < 1e-5
    assert (ours != theirs_).any()


def test_top_h_by_hand():
    logits = np.log(np.asarray([[0.4, 0.3, 0.2, 0.1]], np.float32))  # H = 1.280
    renormalised = -(4 / 7 * math.log(4 / 7) + 3 / 7 * math.log(3 / 7))  # of two: 0.683
    as_it_is = -(0.4 * math.log(0.4) + 0.3 * math.log(0.3))  # 0.728
    assert renormalised < 0.55 * 1.280 < as_it_is
    assert (top_h(logits, 0.55) > -np.inf).sum() == 2
    assert (theirs(peer.TopHLogitsWarper(0.55), logits) > -np.inf).sum() == 1
