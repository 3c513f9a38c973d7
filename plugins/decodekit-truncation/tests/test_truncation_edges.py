"""Truncations by hand, at their edges, on odd logits; and their fast forms against the plain ones."""

import importlib.metadata
import math

import array_api_strict
import numpy as np
import pytest
from decodekit_truncation import Epsilon, Eta, PLess, PLessNorm, TailFree, TopA, TopH, TopNSigma
from decodekit_truncation.epsilon import epsilon_sampling, eta_sampling
from decodekit_truncation.p_less import p_less, p_less_norm
from decodekit_truncation.tail_free import SMALL, tail_free, tail_free_pruned
from decodekit_truncation.top_a import top_a
from decodekit_truncation.top_h import _entropies, top_h, top_h_pruned
from decodekit_truncation.top_n_sigma import top_n_sigma
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from decodekit.errors import ParameterError
from decodekit.ops import log_softmax, softmax
from decodekit.plugins import load_plugins
from decodekit.processors import Step
from decodekit.strategies.typical import entropy
from decodekit.testing import check_logits_processor, histories

ALL = [
    *(Epsilon(e) for e in (1e-4, 0.02, 1.0)),
    *(Eta(e) for e in (1e-4, 0.02, 1.0)),
    *(TopA(a) for a in (0.01, 0.2, 1.0)),
    *(TailFree(z) for z in (0.0, 0.5, 0.99)),
    *(TopNSigma(n) for n in (0.01, 1.0, 1e6)),
    *(TopH(alpha) for alpha in (0.0, 0.4, 0.99)),
    PLess(),
    PLessNorm(),
]
FUNCTIONS = {
    "epsilon": lambda logits: epsilon_sampling(logits, 0.05),
    "eta": lambda logits: eta_sampling(logits, 0.05),
    "top_a": lambda logits: top_a(logits, 0.3),
    "tail_free": lambda logits: tail_free(logits, 0.9),
    "top_n_sigma": lambda logits: top_n_sigma(logits, 1.2),
    "top_h": lambda logits: top_h(logits, 0.6),
    "p_less": p_less,
    "p_less_norm": p_less_norm,
}


def process(processor, logits):
    step = Step.dense(histories(*[[0]] * len(logits)), logits.shape[-1])
    return processor.process(logits, step, processor.init(len(logits)))


def count(logits):
    return int((logits > -np.inf).sum())


def of(*probabilities):
    return np.log(np.asarray([probabilities]))


@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_keeps_the_contract(processor):
    check_logits_processor(processor)


@pytest.mark.parametrize("processor", [TopH(0.4), TopH(0.99), TailFree(0.0), TailFree(0.9)], ids=repr)
def test_keeps_the_contract_in_its_fast_form(processor):
    check_logits_processor(processor, vocab=SMALL + 1)


@pytest.mark.parametrize(
    "processor", [Epsilon(0), Eta(0), TopA(0), TailFree(1), TopNSigma(0), TopH(1)], ids=repr
)
def test_the_neutral_value_returns_its_input(processor):
    logits = of(0.4, 0.3, 0.2, 0.1)
    assert process(processor, logits) is logits


@pytest.mark.parametrize(
    ("processor", "stay"),
    [
        (Epsilon(0.15), 3),
        (Epsilon(1.0), 1),
        (Eta(0.15), 3),  # sqrt(0.15) * exp(-1.28) = 0.108
        (Eta(0.12), 4),  # 0.096
        (TopA(0.9), 3),  # 0.9 * 0.4^2 = 0.144
        (TopNSigma(0.5), 1),  # logits -0.92, -1.20, -1.61, -2.30; sigma 0.52: above -1.18
        (TopNSigma(1.0), 2),  # above -1.44
        (TopH(0.5), 1),  # H = 1.28, half of it 0.64; of two 0.683, of three 1.061
        (TopH(0.6), 2),
        (TopH(0.9), 3),
        (PLess(), 2),  # 0.16 + 0.09 + 0.04 + 0.01 = 0.3, and a hair
        (PLessNorm(), 4),  # (4 * 0.3 - 1) / 3 = 0.067
    ],
    ids=repr,
)
def test_four_candidates_by_hand(processor, stay):
    assert count(process(processor, of(0.4, 0.3 + 1e-9, 0.2, 0.1))) == stay


def test_tail_free_cuts_where_the_bend_ends():
    logits = of(0.5, 0.3, 0.05, 0.05, 0.05, 0.05)  # bends 0.05, 0.25, 0, 0
    assert count(tail_free(logits, 0.1)) == 1
    assert count(tail_free(logits, 0.2)) == 2
    assert count(tail_free(logits, 0.99)) == 2


def test_fewer_than_three_candidates_have_no_tail():
    assert count(tail_free(of(0.9, 0.1), 0.0)) == 2
    assert count(tail_free(np.append(of(0.9, 0.1), [[-np.inf, -np.inf]], axis=-1), 0.0)) == 2


@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_equals_share_their_fate(processor):
    logits = of(*[0.3] * 2, *[0.1] * 3, *[0.05] * 2)
    stays = np.isfinite(process(processor, logits))[0]
    assert stays[:2].all() and stays[2:5].all() in (True, stays[2]) and stays[5] == stays[6]
    assert stays[2] == stays[3] == stays[4]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_where_all_are_equal_all_stay(processor, size, dtype):
    assert count(process(processor, np.full((1, size), 0.1, dtype))) == size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_a_single_candidate_stays(processor, dtype):
    logits = np.asarray([[-np.inf, 3.0, -np.inf]], dtype)
    assert np.array_equal(process(processor, logits), logits)
    assert np.array_equal(process(processor, logits[:, 1:2]), logits[:, 1:2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_huge_logits_give_no_nan_and_keep_the_best(processor, dtype):
    logits = np.asarray(
        [
            [1e30, 0, -1e30, 5, -np.inf],
            [3e38, 3e38, 1e30, -np.inf, 0],
            [3e38, -3e38, 0, 1, 3],
            [-3e38, -3e38, -np.inf, -np.inf, -np.inf],
        ],
        dtype,
    )
    with np.errstate(over="ignore"):  # a probability is 0 where a difference is beyond all numbers
        out = process(processor, logits)
    assert not np.isnan(out).any()
    assert (out.max(axis=-1) == logits.max(axis=-1)).all()


def logarithm(p, dtype):
    """A number whose exponential is p to the last digit."""
    near = np.log(dtype(p))
    return next(
        x for x in (near, np.nextafter(near, dtype(0)), np.nextafter(near, -dtype(9))) if np.exp(x) == p
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("function", "edge", "at", "past"),
    [
        (epsilon_sampling, 0.125, 4, 2),
        (top_a, 0.5, 4, 2),  # 0.5 * 0.5^2
        (tail_free, 0.5, 2, 1),  # bends 0.125, 0.125
    ],
)
def test_a_bound_is_inclusive_to_one_step_of_the_number(function, edge, at, past, dtype):
    logits = np.asarray([[0.0, *(logarithm(p, dtype) for p in (0.5, 0.25, 0.25))]], dtype)
    assert softmax(logits).tolist() == [[0.5, 0.25, 0.125, 0.125]]
    away = 0 if function is tail_free else 1
    assert count(function(logits, dtype(edge))) == at
    assert count(function(logits, np.nextafter(dtype(edge), dtype(away)))) == past


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_bound_in_sigmas_is_inclusive_to_one_step_of_the_number(dtype):
    logits = np.asarray([[0.0, -2.0]], dtype)  # sigma 1
    assert count(top_n_sigma(logits, dtype(2))) == 2
    assert count(top_n_sigma(logits, np.nextafter(dtype(2), dtype(0)))) == 1


@pytest.mark.parametrize("function", [lambda row, alpha: top_h(row[None], alpha)[0], top_h_pruned])
def test_a_bound_on_the_entropy_is_inclusive_to_one_step_of_the_number(function):
    logits = of(0.6, 0.3, 0.1)[0]
    log_p = log_softmax(logits)
    two, all_three = float(_entropies(log_p)[1]), float(entropy(log_p)[0])
    near = two / all_three
    alpha = next(a for a in (near, math.nextafter(near, 0), math.nextafter(near, 1)) if a * all_three == two)
    assert count(function(logits, alpha)) == 2
    assert count(function(logits, alpha * (1 - 1e-15))) == 1


ENTROPY = -sum(p * math.log(p) for p in (0.6, 0.3, 0.1))
MEAN = sum(math.log(p) for p in (0.6, 0.3, 0.1)) / 3
SIGMA = math.sqrt(sum((math.log(p) - MEAN) ** 2 for p in (0.6, 0.3, 0.1)) / 3)


@pytest.mark.parametrize(
    ("function", "edge"),
    [
        (epsilon_sampling, 0.3),
        (eta_sampling, (0.3 * math.exp(ENTROPY)) ** 2),
        (top_a, 0.3 / 0.6**2),
        (top_n_sigma, (math.log(0.6) - math.log(0.3)) / SIGMA),
        (top_h, -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / ENTROPY),
    ],
)
def test_the_second_candidate_goes_at_the_value_of_the_formula(function, edge):
    logits = of(0.6, 0.3, 0.1)
    counts = [count(function(logits, edge * (1 + step))) for step in (-1e-14, 1e-14)]
    assert (min(counts), max(counts)) == (1, 2)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_removed_columns_are_as_good_as_gone(function):
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = (rng.standard_normal((1, 30)) * 2).astype(np.float32)
        dead = rng.random(30) < 0.6
        dead[0] = False
        out = function(np.where(dead, -np.inf, logits).astype(np.float32))
        assert np.array_equal(out[:, ~dead], function(logits[:, ~dead]))
        assert (out[:, dead] == -np.inf).all()


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_rows_are_their_own(function):
    logits = np.random.default_rng(1).standard_normal((4, 25)) * np.asarray([[0.1], [1], [3], [9]])
    rows = function(logits)
    for i in range(4):
        assert np.array_equal(rows[i : i + 1], function(logits[i : i + 1]))


@pytest.mark.parametrize("function", [epsilon_sampling, eta_sampling, top_a, tail_free, top_n_sigma, top_h])
def test_a_parameter_may_differ_by_row(function):
    logits = np.repeat(np.random.default_rng(2).standard_normal((1, 25)), 3, axis=0)
    values = np.asarray([[0.02], [0.3], [0.8]])
    rows = function(logits, values)
    for i in range(3):
        assert np.array_equal(rows[i : i + 1], function(logits[i : i + 1], values[i, 0]))


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_the_functions_run_on_any_standard_array(function):
    logits = np.random.default_rng(3).standard_normal((2, 9)).astype(np.float32)
    logits[0, 4] = -np.inf
    assert np.array_equal(np.asarray(function(array_api_strict.asarray(logits))), function(logits))


plateaus = st.integers(1, 60).flatmap(
    lambda n: arrays(np.float32, n, elements=st.sampled_from([-np.inf, -200, -30, -9.5, -1, 0, 0.25, 3, 40]))
).filter(lambda row: row.max() > -np.inf)  # fmt: skip
PRUNED = [(top_h, top_h_pruned), (tail_free, tail_free_pruned)]


@pytest.mark.parametrize(("plain", "pruned"), PRUNED)
@settings(max_examples=150, deadline=None)
@given(logits=plateaus, value=st.floats(0, 1))
def test_the_pruned_form_gives_the_same_on_plateaus(plain, pruned, logits, value):
    assert np.array_equal(pruned(logits, value), plain(logits, value))


@pytest.mark.parametrize(("plain", "pruned"), PRUNED)
@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0, 30.0])
def test_the_pruned_form_gives_the_same_on_large_vocabularies(plain, pruned, scale):
    logits = (np.random.default_rng(4).standard_normal((2, 20_000)) * scale).astype(np.float32)
    logits[1, ::3] = -np.inf
    for value in (0.0, 1e-6, 0.3, 0.9, 0.999, 1 - 1e-9):
        out = np.stack([pruned(row, value) for row in logits])
        assert np.array_equal(out, plain(logits, value)), value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Epsilon(-1e-3), r"epsilon: epsilon must be in \[0, 1\], got -0.001"),
        (lambda: Eta(1.5), r"eta: epsilon must be in \[0, 1\], got 1.5"),
        (lambda: TopA("0.2"), r"top_a: a must be a number in \[0, 1\], got '0.2'"),
        (lambda: TailFree(float("nan")), r"tail_free: z must be in \[0, 1\], got nan"),
        (lambda: TopNSigma(float("inf")), r"top_n_sigma: n must be in \[0, 1e6\], got inf"),
        (lambda: TopH(-0.1), r"top_h: alpha must be in \[0, 1\], got -0.1"),
    ],
)
def test_a_value_outside_its_domain_is_named_with_the_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_the_installed_distribution_registers_all_of_them():
    assert any(e.name == "truncation" for e in importlib.metadata.entry_points(group="decodekit"))
    registry = load_plugins(only=("truncation",)).logits_processors
    made = {name: registry.create(name, *([] if name.startswith("p_less") else [0.5])) for name in FUNCTIONS}
    assert {type(strategy).__name__ for strategy in made.values()} == {type(s).__name__ for s in ALL}
