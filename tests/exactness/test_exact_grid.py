"""
Vocabularies up to 6, logits on a grid, all parameter corners: every strategy equals its slow reference.

DECODEKIT_SOAK=1 goes through the whole grid; by default rows of 5 and 6 candidates are a sample.
"""

import itertools
import math
import os
from functools import partial

import numpy as np
import pytest
from exactness.agreement import outside
from exactness.corners import OF_HISTORY, OF_LOGITS, OF_STATE
from exactness.definitions import definition
from exactness.reference import Row

from decodekit.plugins import load_plugins
from decodekit.processors import Step
from decodekit.testing import histories

GRIDS = {
    "spread": ((-math.inf, -2.5, 0.0, 0.7, 3.0), 0.0),
    "edges": ((-math.inf, 0.0, math.log(2), math.log(4)), 0.25),  # probabilities are ratios of small numbers
}
IDS = [7, 2, 9, 0, 5, 4]  # of the columns
SOAK = os.environ.get("DECODEKIT_SOAK") == "1"
FAMILIES = ("truncation", "shaping", "mirostat", "repetition", "bias")
PLUGINS = load_plugins().logits_processors


def grid(points, size):
    """The rows of so many candidates, float64 [R, size]."""
    rows = [row for row in itertools.product(points, repeat=size) if max(row) > -math.inf]
    return np.asarray(rows if SOAK or size < 4 else rows[:: {4: 3, 5: 23, 6: 97}[size]])


def count_edges(shaped, rows, defined, moves):
    """How many rows agree with the definition only where its bounds are moved; all others agree with it."""
    edges = outside(shaped, np.asarray([defined(row) for row in rows]))
    for i in edges:
        moved = (np.asarray([defined(rows[i], **move)]) for move in moves)
        assert any(not len(outside(shaped[i : i + 1], other)) for other in moved), (
            f"{rows[i]} became {shaped[i].tolist()}, by the definition {defined(rows[i])}"
        )
    return len(edges)


def bounds_moved(name, ulp):
    """What a rounding of one ulp may do to the bounds of a definition."""
    if name == "typical":
        return [{"edge": e * ulp, "tilt": t * ulp} for e, t in itertools.product((0, -1, 1), repeat=2)]
    return [{"edge": -ulp}, {"edge": ulp}]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("points", "share_at_edges"), GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("name", OF_LOGITS)
def test_a_strategy_is_its_definition(name, points, share_at_edges, dtype):
    if name not in PLUGINS.entries:
        pytest.skip(f"{name} is not installed")
    moves = bounds_moved(name, float(np.spacing(dtype(max(points)))))
    total = edges = 0
    for size, corner in itertools.product(range(1, 7), OF_LOGITS[name]):
        strategy, logits = PLUGINS.create(name, **corner), grid(points, size).astype(dtype)
        step = Step(histories(*[[0]] * len(logits)), np.broadcast_to(IDS[:size], logits.shape))
        shaped = strategy.process(logits, step, strategy.init(len(logits)))
        rows = [Row(row, IDS[:size], [0], []) for row in logits.astype(float).tolist()]
        edges += count_edges(shaped, rows, partial(definition(name), **corner), moves)
        total += len(rows)
    assert edges <= share_at_edges * total


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("top_p", {"p": 0.5}, 1),
        ("min_p", {"p": 0.5}, 3),
        ("epsilon", {"epsilon": 0.25}, 3),
        ("top_a", {"a": 1.0}, 3),
        ("xtc", {"probability": 1, "threshold": 0.25}, 2),
        ("xtc_expected", {"probability": 1, "threshold": 0.25}, 2),
        ("mirostat", {"tau": 1.0}, 3),
    ],
)
def test_a_candidate_exactly_at_the_bound_is_within(name, options, count):
    if name not in PLUGINS.entries:
        pytest.skip(f"{name} is not installed")
    logits = np.log([[0.5, 0.25, 0.25]])
    assert (np.exp(logits - logits.max()) == [[1.0, 0.5, 0.5]]).all()  # so no rounding decides
    strategy = PLUGINS.create(name, **options)
    shaped = strategy.process(logits, Step.dense(histories([0]), 3), strategy.init(1))
    assert np.count_nonzero(shaped > -np.inf) == count


def test_no_strategy_is_without_a_definition():
    families = {"decodekit", *(f"decodekit-{name}" for name in FAMILIES)}
    ours = {name for name in PLUGINS.entries if PLUGINS.plugin(name).distribution.split()[0] in families}
    assert ours <= {*OF_LOGITS, *OF_HISTORY, *OF_STATE}
