"""Shaping by hand, at its edges, on odd logits; chance and memory."""

import importlib.metadata
import math

import array_api_strict
import numpy as np
import pytest
from decodekit_shaping import AdaptiveP, DynamicTemperature, Skew, Smoothing, Xtc, XtcExpected
from decodekit_shaping.adaptive_p import _mark, _probability, adaptive_p
from decodekit_shaping.dynamic_temperature import dynamic_temperature
from decodekit_shaping.skew import skew
from decodekit_shaping.smoothing import smoothing
from decodekit_shaping.xtc import top_choices, xtc_expected

from decodekit import Sampler, stream
from decodekit.errors import ParameterError
from decodekit.history import History
from decodekit.ops import softmax
from decodekit.plugins import load_plugins
from decodekit.processors import Step
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.top_k import TopK, top_k
from decodekit.testing import TableModel, check_logits_processor, histories

ALL = [
    DynamicTemperature(0.5, 1.5),
    DynamicTemperature(0.0, 2.0, 0.5),
    Smoothing(0.3),
    Smoothing(2.0, 4.0),
    Skew(1.0),
    Skew(-3.0),
    Xtc(1.0, 0.02),
    Xtc(0.5, 0.02, protect=[3]),
    XtcExpected(0.5, 0.02),
    XtcExpected(1.0, 0.02),
    AdaptiveP(0.5),
    AdaptiveP(0.0, decay=0.0),
]
NEUTRAL = [
    DynamicTemperature(1, 1, 3.0),
    Smoothing(0, 2.0),
    Skew(0),
    Xtc(0, 0.1),
    Xtc(1, 0.51),
    XtcExpected(0, 0.1),
    XtcExpected(1, 1),
    AdaptiveP(-1),
]


def at(position, *, seed=0, sample=0):
    """A row whose next token is at `position`."""
    return History(np.zeros(position, np.int64), 1, seed, sample)


def process(processor, logits, *, rows=None, ids=None):
    rows = rows or histories(*[[0]] * len(logits))
    step = Step.dense(rows, logits.shape[-1]) if ids is None else Step(rows, np.asarray(ids))
    return processor.process(logits, step, processor.init(len(logits)))


def of(*probabilities):
    return np.log(np.asarray([probabilities]))


def kept(logits):
    return (logits > -np.inf)[0].tolist()


@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_keeps_the_contract(processor):
    check_logits_processor(processor)


@pytest.mark.parametrize("processor", NEUTRAL, ids=repr)
def test_the_neutral_value_returns_its_input(processor):
    logits = of(0.4, 0.3, 0.2, 0.1)
    assert process(processor, logits) is logits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_a_single_candidate_stays_alone(processor, dtype):
    assert kept(process(processor, np.asarray([[-np.inf, 3.0, -np.inf]], dtype))) == [False, True, False]
    assert kept(process(processor, np.asarray([[-7.0]], dtype))) == [True]


@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_equals_stay_equal(processor):
    p = softmax(process(processor, of(0.3, 0.1, 0.3, 0.1, 0.2)))[0]
    assert p[0] == pytest.approx(p[2]) and p[1] == pytest.approx(p[3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_huge_logits_give_no_nan_and_leave_a_candidate(processor, dtype):
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
    assert not np.isnan(out).any() and not np.isposinf(out).any()
    assert (out > -np.inf).any(axis=-1).all()
    assert (out[logits == -np.inf] == -np.inf).all()


@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_removed_columns_are_as_good_as_gone(processor):
    rng = np.random.default_rng(0)
    rows = histories([0])
    for _ in range(20):
        logits = rng.standard_normal((1, 30)) * 2
        dead = rng.random(30) < 0.6
        dead[0] = False
        out = process(processor, np.where(dead, -np.inf, logits), rows=rows)
        fewer = process(processor, logits[:, ~dead], rows=rows, ids=[np.flatnonzero(~dead)])
        assert np.allclose(out[:, ~dead], fewer, rtol=1e-9, atol=1e-9)


def test_the_temperature_goes_from_low_to_high_with_the_entropy():
    sure, unsure = of(1 - 3e-9, 1e-9, 1e-9, 1e-9), np.asarray([[0.0, 0.0, 0.0, -1e-9]])
    assert (sure[0, 1] - sure[0, 0]) / dynamic_temperature(sure, 0.5, 2.0)[0, 1] == pytest.approx(
        0.5, abs=1e-6
    )
    assert -1e-9 / dynamic_temperature(unsure, 0.5, 2.0)[0, 3] == pytest.approx(2.0)
    half = of(0.5, 0.5, 1e-300, 1e-300)  # H / ln N = 1/2
    depth = half[0, 2] - half[0, 0]
    for exponent, t in [(1.0, 1.25), (2.0, 0.875)]:
        assert depth / dynamic_temperature(half, 0.5, 2.0, exponent)[0, 2] == pytest.approx(t)


def test_one_temperature_for_both_ends_is_that_temperature():
    logits = of(0.4, 0.3, 0.2, 0.1)
    assert softmax(dynamic_temperature(logits, 0.7, 0.7)) == pytest.approx(softmax(logits / 0.7))


def test_at_temperature_zero_the_best_and_its_equals_stay():
    assert kept(dynamic_temperature(np.asarray([[1.0, 2.0, 2.0]]), 0.0, 0.0)) == [False, True, True]


def test_smoothing_squares_the_depth_below_the_best():
    assert smoothing(np.asarray([[5.0, 3.0, 4.5]]), 0.5).tolist() == [[5.0, 3.0, 4.875]]
    assert smoothing(np.asarray([[5.0, 3.0]]), 0.5, 3.0).tolist() == [[5.0, 1.0]]  # the cube


def test_a_curve_above_three_lets_the_best_fall_behind():
    out = smoothing(np.asarray([[0.0, -0.2]]), 1.0, 4.0)
    assert out[0, 1] > out[0, 0] == 0.0


@pytest.mark.parametrize("s", [-1.0, 0.7, 2.0])
def test_skew_is_the_law_of_a_bent_uniform_number(s):
    p = np.asarray([0.1, 0.4, 0.2, 0.25, 0.05])
    u = (np.arange(200_000) + 0.5) / 200_000
    order = np.argsort(-p)
    drawn = order[np.searchsorted(np.cumsum(p[order]), u ** math.exp(-s))]
    shares = np.bincount(drawn, minlength=5) / len(u)
    assert softmax(skew(np.log(p), s)) == pytest.approx(shares, abs=1e-5)


def test_a_positive_skew_moves_mass_to_less_likely_candidates():
    p = softmax(skew(of(0.6, 0.3, 0.1)[0], 1.0))
    assert p[0] < 0.6 and p[2] > 0.1


def test_skew_is_exact_far_down_the_ranking():
    logits = np.asarray([0.0, -40.0, -200.0])
    expected = math.log(math.exp(1.0)) + logits[1:]  # F is 1 to within e^-40: p' = exp(s) p
    assert skew(logits, 1.0)[1:] - skew(logits, 1.0)[0] == pytest.approx(expected, abs=1e-9)


def test_top_choices_are_all_that_qualify_but_the_least_probable():
    assert top_choices(of(0.4, 0.3, 0.2, 0.1), 0.2 - 1e-9).tolist() == [[True, True, False, False]]
    assert not top_choices(of(0.4, 0.3, 0.2, 0.1), 0.35).any()  # only one qualifies
    assert top_choices(of(0.4, 0.2, 0.2, 0.2), 0.1).tolist() == [[True, False, False, False]]
    assert not top_choices(of(0.25, 0.25, 0.25, 0.25), 0.25).any()


def test_the_threshold_is_inclusive_to_one_step_of_the_number():
    logits = of(0.6, 0.3, 0.1).astype(np.float32)
    p = softmax(logits)[0]
    assert top_choices(logits, p[1]).any()
    assert not top_choices(logits, np.nextafter(p[1], np.float32(1))).any()


def test_a_protected_token_neither_goes_nor_counts():
    logits = of(0.5, 0.3, 0.2)
    assert kept(process(Xtc(1, 0.15, protect=[7]), logits, ids=[[7, 8, 9]])) == [True, False, True]
    assert kept(process(Xtc(1, 0.25, protect=[8]), logits, ids=[[7, 8, 9]])) == [True, True, True]
    expected = softmax(process(XtcExpected(1, 0.15, protect=[7]), logits, ids=[[7, 8, 9]]))[0]
    assert expected == pytest.approx([0.5 / 0.7, 0, 0.2 / 0.7])


class StopsAt7:
    size, stop_ids = 10, frozenset({7})


@pytest.mark.parametrize("make", [Xtc, XtcExpected])
def test_end_tokens_are_protected_where_that_is_asked_for(make):
    assert make(1, 0.1).bind(StopsAt7()).protect == ()
    assert make(1, 0.1, protect=[3], protect_stop=True).bind(StopsAt7()).protect == (3, 7)
    with pytest.raises(ParameterError, match=r"token ids are in \[0, 10\), got 10"):
        make(1, 0.1, protect=[10]).bind(StopsAt7())


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 1.0])
def test_an_exclusion_happens_as_often_as_asked_for(probability):
    rows = tuple(at(position) for position in range(1, 2001))
    out = process(Xtc(probability, 0.1), np.repeat(of(0.6, 0.4), 2000, axis=0), rows=rows)
    share = (out[:, 0] == -np.inf).mean()
    assert abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / 2000)


def test_the_coin_belongs_to_seed_sample_and_position_alone():
    xtc, logits = Xtc(0.5, 0.1), np.repeat(of(0.6, 0.4), 64, axis=0)

    def tosses(logits=logits, **place):
        rows = tuple(at(position, **place) for position in range(1, 65))
        return (process(xtc, logits, rows=rows)[:, 0] == -np.inf).tolist()

    assert tosses() == tosses() == tosses(logits + 1.0)
    assert tosses() != tosses(seed=1) != tosses(sample=1) != tosses()


def test_the_expected_distribution_is_the_mean_of_both_outcomes():
    logits = np.random.default_rng(1).standard_normal((50, 20)) * 2
    outcome = softmax(process(Xtc(1, 0.05), logits))
    for probability in (0.1, 0.5, 0.9, 1.0):
        mean = (1 - probability) * softmax(logits) + probability * outcome
        assert softmax(process(XtcExpected(probability, 0.05), logits)) == pytest.approx(mean)


def test_draws_under_xtc_follow_the_expected_distribution():
    logits, n = of(0.4, 0.3, 0.15, 0.15), 8000
    sampler = Sampler((Xtc(0.3, 0.2),))
    step = Step.dense(tuple(at(position, seed=5) for position in range(1, n + 1)), 4)
    tokens, _ = sampler(np.repeat(logits, n, axis=0), step, sampler.init(n))
    expected = softmax(xtc_expected(logits, 0.3, top_choices(logits, 0.2)))[0]
    error = 4 * np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(np.bincount(tokens, minlength=4) / n - expected) < error).all()


def test_what_a_probability_was_can_be_read_from_the_shaped_logit():
    rng = np.random.default_rng(2)
    p, goal = rng.random((4, 500)) ** 3, rng.random((4, 1))
    p[:, 0], p[:, 1] = goal[:, 0], 0.0
    for dtype in (np.float32, np.float64):
        shaped = _mark(adaptive_p(p, goal).astype(dtype), p < goal)
        assert np.abs(_probability(shaped, goal) - p).max() < 1e-6
        assert np.allclose(shaped, adaptive_p(p, goal), rtol=3e-7, atol=1e-30)


class LlamaCpp:
    """The memory of adaptive-p as llama.cpp keeps it."""

    def __init__(self, target, decay):
        self.target, self.decay = target, decay
        self.weighted_sum, self.total_weight = target / (1 - decay), 1 / (1 - decay)

    def aim(self):
        return min(max(2 * self.target - self.weighted_sum / self.total_weight, 0.0), 1.0)

    def accept(self, p):
        self.weighted_sum = p + self.decay * self.weighted_sum
        self.total_weight = 1 + self.decay * self.total_weight


@pytest.mark.parametrize("target", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.9, 0.99])
def test_the_memory_is_that_of_llama_cpp(target, decay):
    rng, ours, theirs = np.random.default_rng(3), AdaptiveP(target, decay), LlamaCpp(target, decay)
    state = ours.init(1)
    for _ in range(60):
        logits = (rng.standard_normal((1, 12)) * 2).astype(np.float32)
        out = ours.process(logits, Step.dense(histories([0]), 12), state)
        p = softmax(logits.astype(float))
        assert softmax(out) == pytest.approx(softmax(adaptive_p(p, theirs.aim())), abs=1e-5)
        column = rng.integers(12)
        state = ours.accept(out, np.asarray([column]), state)
        theirs.accept(p[0, column])
        assert state[0] == pytest.approx([theirs.weighted_sum, theirs.total_weight], rel=1e-5, abs=1e-5)


def test_adaptive_p_that_is_off_remembers_nothing():
    off, logits = AdaptiveP(-1), np.asarray([[9.0, 3.0]], np.float32)
    state = off.init(1)
    assert off.accept(logits, np.asarray([0]), state) is state


def test_adaptive_p_brings_the_mean_probability_near_the_target():
    table = np.random.default_rng(4).standard_normal((64, 64)).astype(np.float32) * 2.5

    def mean(target, tokens=400):
        chain = TopK(8), AdaptiveP(target)
        ids = [
            1,
            *(t.id for t in stream(TableModel(table), [1], Sampler(chain), [MaxNewTokens(tokens)], seed=1)),
        ]
        before = softmax(top_k(table[ids[:-1]], 8))
        return before[np.arange(tokens), ids[1:]].mean()

    means = [mean(target) for target in (0.1, 0.3, 0.5, 0.7)]
    assert means == pytest.approx([0.1, 0.3, 0.5, 0.7], abs=0.12)
    assert means == sorted(means)


@pytest.mark.parametrize("processor", [AdaptiveP(0.3), Xtc(0.5, 0.05)], ids=repr)
def test_guesses_that_are_taken_back_leave_no_trace(processor):
    table = np.random.default_rng(5).standard_normal((32, 32)).astype(np.float32) * 2
    sampler = Sampler((processor,))

    def step(ids, states):
        (row,) = histories(ids)
        (token,), states = sampler(table[ids[-1:]], Step.dense((row,), 32), states)
        return [*ids, int(token)], states

    def answer(guesses):
        ids, states = [1], sampler.init(1)
        for _ in range(40):
            ahead, then = [*ids, 0], states
            for _ in range(guesses):
                ahead, then = step(ahead, then)  # forgotten
            ids, states = step(ids, states)
        return ids

    assert answer(0) == answer(3)


@pytest.mark.parametrize(
    "function",
    [
        lambda xp, logits: dynamic_temperature(logits, 0.5, 1.5, 2.0),
        lambda xp, logits: smoothing(logits, 0.3, 2.0),
        lambda xp, logits: xp.astype(top_choices(logits, 0.1), xp.int64),
        lambda xp, logits: xtc_expected(logits, 0.5, top_choices(logits, 0.1)),
        lambda xp, logits: adaptive_p(softmax(logits), 0.3),
    ],
    ids=["dynamic_temperature", "smoothing", "top_choices", "xtc_expected", "adaptive_p"],
)
def test_the_functions_run_on_any_standard_array(function):
    logits = np.random.default_rng(6).standard_normal((2, 9))
    logits[0, 4] = -np.inf
    strict = function(array_api_strict, array_api_strict.asarray(logits))
    assert np.allclose(np.asarray(strict), function(np, logits))


@pytest.mark.parametrize(
    "function",
    [
        lambda logits, value: dynamic_temperature(logits, value, 2 * value),
        smoothing,
        lambda logits, value: xtc_expected(logits, value, top_choices(logits, value)),
        lambda logits, value: adaptive_p(softmax(logits), value),
    ],
    ids=["dynamic_temperature", "smoothing", "xtc_expected", "adaptive_p"],
)
def test_a_parameter_may_differ_by_row(function):
    logits = np.repeat(np.random.default_rng(7).standard_normal((1, 25)), 3, axis=0)
    values = np.asarray([[0.02], [0.3], [0.8]])
    rows = function(logits, values)
    for i in range(3):
        assert np.array_equal(rows[i : i + 1], function(logits[i : i + 1], values[i, 0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DynamicTemperature(-1, 1), r"dynamic_temperature: low must be in \[0, 1e6\], got -1"),
        (lambda: DynamicTemperature(0, float("inf")), r"high must be in \[0, 1e6\], got inf"),
        (lambda: Smoothing(-0.1), r"smoothing: factor must be in \[0, 100\], got -0.1"),
        (lambda: Smoothing(1, 0.5), r"smoothing: curve must be in \[1, 10\], got 0.5"),
        (lambda: Skew(float("nan")), r"skew: s must be in \[-10, 10\], got nan"),
        (lambda: Xtc(1.1), r"xtc: probability must be in \[0, 1\], got 1.1"),
        (lambda: Xtc(0.5, 0), r"xtc: threshold must be in \(0, 1\], got 0"),
        (lambda: Xtc(0.5, protect="eos"), r"xtc: protect must be token ids, got 'eos'"),
        (lambda: XtcExpected("0.5"), r"xtc_expected: probability must be a number in \[0, 1\], got '0.5'"),
        (lambda: XtcExpected(0.5, protect=[-1]), r"xtc_expected: protect must be token ids, got \[-1\]"),
        (lambda: AdaptiveP(1.5), r"adaptive_p: target must be in \[-1, 1\], got 1.5"),
        (lambda: AdaptiveP(0.5, 1), r"adaptive_p: decay must be in \[0, 0.99\], got 1"),
    ],
)
def test_a_value_outside_its_domain_is_named_with_the_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_the_installed_distribution_registers_all_of_them():
    assert any(e.name == "shaping" for e in importlib.metadata.entry_points(group="decodekit"))
    registry = load_plugins(only=("shaping",)).logits_processors
    names = ("dynamic_temperature", "smoothing", "skew", "xtc", "xtc_expected", "adaptive_p")
    made = [
        registry.create(name, *([0.5, 1.0] if name == "dynamic_temperature" else [0.5])) for name in names
    ]
    assert {type(strategy) for strategy in made} == {type(strategy) for strategy in ALL}
