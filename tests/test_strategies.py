import array_api_strict
import numpy as np
import pytest

from decodekit.errors import ParameterError
from decodekit.processors import Step
from decodekit.strategies.greedy import Greedy, greedy
from decodekit.strategies.logit_bias import LogitBias, logit_bias
from decodekit.strategies.min_p import MinP, min_p
from decodekit.strategies.penalties import (
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
    frequency_penalty,
    presence_penalty,
    repetition_penalty,
)
from decodekit.strategies.temperature import Temperature, temperature
from decodekit.strategies.top_k import TopK, top_k
from decodekit.strategies.top_p import TopP, top_p
from decodekit.testing import check_logits_processor, histories

P = np.asarray([[0.4, 0.3, 0.2, 0.1]])
LOGITS = np.log(P).astype(np.float32)
ALL = [
    Greedy(),
    Temperature(0.7),
    Temperature(0),
    Temperature(1e-40),
    Temperature(1e6),
    TopK(1),
    TopK(5),
    TopK(10_000),
    TopP(0.0),
    TopP(0.9),
    MinP(0.05),
    MinP(1),
    RepetitionPenalty(1.3),
    FrequencyPenalty(0.5),
    PresencePenalty(-0.5),
    LogitBias({3: 5.0, "7": -100}),
]
NEUTRAL = [
    Temperature(1),
    TopK(0),
    TopK(-1),
    TopP(1),
    MinP(0),
    RepetitionPenalty(1),
    FrequencyPenalty(0),
    PresencePenalty(0),
    LogitBias({}),
]


def kept(logits):
    return np.isfinite(logits)[0].tolist()


def process(processor, logits, *, history=(0,), ids=None, asked=1):
    rows = histories(list(history), asked=asked)
    step = Step.dense(rows, logits.shape[-1]) if ids is None else Step(rows, np.asarray([ids]))
    return processor.process(logits, step, processor.init(1))


@pytest.mark.parametrize("processor", ALL, ids=repr)
def test_every_strategy_keeps_the_contract(processor):
    check_logits_processor(processor)


@pytest.mark.parametrize("processor", NEUTRAL, ids=repr)
def test_neutral_parameters_change_nothing(processor):
    assert np.array_equal(process(processor, LOGITS, history=(0, 1, 1)), LOGITS)


def test_temperature_divides():
    assert temperature(np.asarray([2.0, -4.0]), 2.0).tolist() == [1.0, -2.0]


def test_temperature_zero_is_greedy():
    assert kept(process(Temperature(0), LOGITS)) == [True, False, False, False]
    assert kept(process(Temperature(-0.0), LOGITS)) == [True, False, False, False]


def test_greedy_keeps_the_lowest_id_of_equals():
    assert kept(greedy(np.zeros((1, 3)), np.asarray([[5, 2, 9]]))) == [False, True, False]


def test_top_k_by_hand():
    assert kept(top_k(LOGITS, 2)) == [True, True, False, False]
    assert kept(top_k(LOGITS, 4)) == [True] * 4


def test_top_k_keeps_ties_with_the_last_one_kept():
    assert kept(top_k(np.asarray([[1.0, 3.0, 1.0, 0.0]]), 2)) == [True, True, True, False]


@pytest.mark.parametrize(
    ("p", "count"), [(0.0, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.91, 4), (1.0, 4)]
)
def test_top_p_keeps_the_smallest_set_that_reaches_the_mass(p, count):
    assert sum(kept(top_p(LOGITS, p))) == count


def test_top_p_keeps_exactly_two_where_two_reach_the_mass():
    assert kept(top_p(np.log(P), 0.7)) == [True, True, False, False]


def test_top_p_depends_on_no_order():
    order = [2, 0, 3, 1]
    assert kept(top_p(LOGITS[:, order], 0.65)) == np.asarray(kept(top_p(LOGITS, 0.65)))[order].tolist()


@pytest.mark.parametrize(("p", "count"), [(0.0, 4), (0.24, 4), (0.26, 3), (0.51, 2), (0.76, 1), (1.0, 1)])
def test_min_p_is_relative_to_the_best(p, count):
    assert sum(kept(min_p(LOGITS, p))) == count


def test_repetition_penalty_counts_a_token_once_however_often_it_was_there():
    counts = np.asarray([[50, 1, 0]])
    assert repetition_penalty(np.asarray([[2.0, -2.0, 2.0]]), counts, 2.0).tolist() == [[1.0, -4.0, 2.0]]


def test_repetition_penalty_sees_prompt_and_answer():
    out = process(RepetitionPenalty(2.0), np.ones((1, 4), np.float32), history=(0, 2), asked=1)
    assert out.tolist() == [[0.5, 1.0, 0.5, 1.0]]


def test_frequency_and_presence_see_the_answer_only():
    logits, history = np.zeros((1, 4), np.float32), (0, 0, 2, 2)  # the first id is the prompt
    assert process(FrequencyPenalty(1.5), logits, history=history).tolist() == [[-1.5, 0, -3.0, 0]]
    assert process(PresencePenalty(1.5), logits, history=history).tolist() == [[-1.5, 0, -1.5, 0]]


def test_penalties_follow_ids_not_columns():
    out = process(PresencePenalty(1.0), np.zeros((1, 2), np.float32), history=(0, 9), ids=[9, 4])
    assert out.tolist() == [[-1.0, 0.0]]


def test_logit_bias_names_ids():
    out = process(LogitBias({4: 2.0, 99: 1.0}), np.zeros((1, 2), np.float32), ids=[9, 4])
    assert out.tolist() == [[0.0, 2.0]]
    logits = np.zeros((1, 2), np.float32)
    assert logit_bias(logits, np.asarray([[9, 4]]), {}) is logits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopP(1.2), r"top_p: p must be in \[0, 1\], got 1.2"),
        (lambda: TopP(float("nan")), r"top_p: p must be in \[0, 1\], got nan"),
        (lambda: TopP("0.9"), r"top_p: p must be a number in \[0, 1\], got '0.9'"),
        (lambda: TopP(True), "must be a number"),
        (lambda: Temperature(-1), r"temperature: t must be in \[0, inf\), got -1"),
        (lambda: Temperature(float("inf")), "got inf"),
        (lambda: TopK(1.5), "top_k: k must be a whole number"),
        (lambda: TopK(-2), r"top_k: k must be in \[-1, inf\), got -2; 0 or -1 keeps everything"),
        (lambda: MinP(1.05), r"min_p: p must be in \[0, 1\], got 1.05"),
        (lambda: RepetitionPenalty(0), r"repetition_penalty: theta must be in \[1e-6, 1e6\], got 0"),
        (lambda: FrequencyPenalty(float("nan")), "frequency_penalty: f must be in"),
        (lambda: LogitBias({"abc": 1}), "logit_bias: bias must map token ids to numbers"),
        (lambda: LogitBias({1: float("inf")}), r"logit_bias: bias\[1\] must be in \[-100, 100\], got inf"),
        (lambda: LogitBias([1]), "logit_bias: bias must map"),
        (lambda: LogitBias({1.5: 1}), "logit_bias: bias must map token ids to numbers, got the id 1.5"),
        (lambda: LogitBias({"1": 1, "01": 2}), "logit_bias: bias must name each token once"),
    ],
)
def test_a_value_outside_its_domain_is_named_with_the_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    "function",
    [
        lambda xp, logits, counts: temperature(logits, 0.7),
        lambda xp, logits, counts: top_p(logits, 0.8),
        lambda xp, logits, counts: min_p(logits, 0.1),
        lambda xp, logits, counts: greedy(logits, xp.astype(counts, xp.int64)),
        lambda xp, logits, counts: repetition_penalty(logits, counts, 1.2),
        lambda xp, logits, counts: frequency_penalty(logits, counts, 0.5),
        lambda xp, logits, counts: presence_penalty(logits, counts, 0.5),
    ],
    ids=["temperature", "top_p", "min_p", "greedy", "repetition", "frequency", "presence"],
)
def test_the_functions_run_on_any_standard_array(function):
    rng = np.random.default_rng(0)
    logits, counts = (
        rng.standard_normal((2, 9)).astype(np.float32),
        rng.permuted(np.tile(np.arange(9), (2, 1)), axis=1),
    )
    strict = function(array_api_strict, array_api_strict.asarray(logits), array_api_strict.asarray(counts))
    assert np.allclose(np.asarray(strict), function(np, logits, counts))


@pytest.mark.parametrize("function", [top_p, min_p, temperature])
def test_a_parameter_may_differ_by_row(function):
    logits = np.repeat(LOGITS, 2, axis=0)
    rows = function(logits, np.asarray([[0.3], [0.8]], np.float32))
    assert np.array_equal(rows[:1], function(LOGITS, np.float32(0.3)))
    assert np.array_equal(rows[1:], function(LOGITS, np.float32(0.8)))
