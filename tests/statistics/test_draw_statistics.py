"""A short form of the command beside this file, and whether it tells what is wrong."""

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
DRAWS = 12_000


@pytest.fixture(scope="module")
def statistics():
    """The command, which has the name of a standard module and imports its neighbours by name."""
    path = list(sys.path)
    sys.path.append(str(HERE))
    spec = importlib.util.spec_from_file_location("draw_statistics", HERE / "draws.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


@pytest.fixture
def chi_square(statistics):
    return importlib.import_module("chi_square")


def test_every_strategy_draws_what_it_says(statistics):
    strategies, pairs = statistics.measure(DRAWS)
    assert not list(statistics.failures(strategies, pairs))


def test_what_is_beyond_a_bar_is_told(statistics):
    fair = {"draws": 10**6, "total_variation": 0.0, "p_value": 0.5, "outside": 0}
    found = {
        "far": {**fair, "total_variation": 0.1},
        "unlikely": {**fair, "p_value": 1e-9},
        "outside": {**fair, "outside": 1},
    }
    told = statistics.failures(found, {"noise": {"p_value": 0.5, "standard_errors": -6.0}})
    assert [line.partition(":")[0] for line in told] == ["far", "outside", "unlikely", "noise"]


@pytest.mark.parametrize(
    ("freedom", "statistic", "probability"),
    [(1, 3.841, 0.05), (2, 5.991, 0.05), (15, 30.578, 0.01), (255, 293.25, 0.05)],
)
def test_the_tail_of_chi_square_is_that_of_tables(chi_square, freedom, statistic, probability):
    assert chi_square.tail(freedom, statistic) == pytest.approx(probability, rel=2e-3)


def test_a_number_beside_itself_is_told(chi_square):
    u = np.random.default_rng(0).random(5000)
    joint = np.bincount((u * 16).astype(int) * 17, minlength=256)
    assert chi_square.chi_square(joint, np.full(256, len(u) / 256)) < 1e-9
