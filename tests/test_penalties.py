"""Penalties: by hand, beside plain loops, and what counts of prompt and answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit import Sampler
from decodekit.errors import ParameterError
from decodekit.processors import Step
from decodekit.strategies.penalties import (
    FrequencyPenalty,
    PresencePenalty,
    RepetitionPenalty,
    frequency_penalty,
    presence_penalty,
    repetition_penalty,
)
from decodekit.strategies.top_k import TopK
from decodekit.testing import check_logits_processor, histories

STRATEGIES = [
    RepetitionPenalty(1.3),
    RepetitionPenalty(0.5, window=2),
    RepetitionPenalty(1e6),
    RepetitionPenalty(1e-6),
    FrequencyPenalty(0.7),
    FrequencyPenalty(-100),
    PresencePenalty(100),
    PresencePenalty(-0.5),
]


def process(processor, logits, ids, *, asked=1, columns=None):
    row = np.asarray([logits], np.float32)
    rows = histories(ids, asked=asked)
    step = Step.dense(rows, row.shape[-1]) if columns is None else Step(rows, np.asarray([columns]))
    return processor.process(row, step, processor.init(1))[0].tolist()


def by_loop(processor, logits, columns, ids, asked):
    """What a penalty does to one row, candidate by candidate."""
    out = []
    for logit, id in zip(logits, columns, strict=True):
        if isinstance(processor, RepetitionPenalty):
            window = processor.window
            counted = ids if window is None else ids[len(ids) - min(window, len(ids)) :]
            if id in counted:
                logit = logit * processor.theta if logit < 0 else logit / processor.theta
        elif isinstance(processor, FrequencyPenalty):
            logit = logit - processor.f * ids[asked:].count(id)
        elif id in ids[asked:]:
            logit = logit - processor.f
        out.append(logit)
    return out


@pytest.mark.parametrize("processor", STRATEGIES, ids=repr)
@pytest.mark.parametrize("vocabulary", [257, 6_000])
def test_keeps_the_contract(processor, vocabulary):
    check_logits_processor(processor, vocab=vocabulary)


@pytest.mark.parametrize("processor", STRATEGIES, ids=repr)
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 40),
    asked=st.integers(1, 8),
    gone=st.booleans(),
)
def test_every_penalty_is_the_plain_loop(processor, seed, length, asked, gone):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, 20).astype(np.float32)
    logits[rng.random(20) < 0.1] = -np.inf
    ids, asked = rng.integers(0, 25, length).tolist(), min(asked, length)
    columns = rng.permutation(25)[:20].tolist() if gone else list(range(20))
    got = process(processor, logits, ids, asked=asked, columns=columns if gone else None)
    assert got == pytest.approx(by_loop(processor, logits.tolist(), columns, ids, asked), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("dense", [True, False])
def test_penalties_of_what_was_seen_are_those_of_all_candidates(dense):
    """The textbook forms, which look at every candidate, to the bit."""
    rng, vocabulary = np.random.default_rng(0), 20_000
    rows = histories(*[rng.integers(0, 300, 2000).tolist() for _ in range(3)], asked=700)
    ids = np.broadcast_to(np.arange(vocabulary), (3, vocabulary))
    step = Step.dense(rows, vocabulary) if dense else Step(rows, rng.permuted(ids, axis=-1))
    logits = rng.normal(0, 3, (3, vocabulary)).astype(np.float32)
    pairs = [
        (RepetitionPenalty(1.2), repetition_penalty(logits, step.counts(), 1.2)),
        (FrequencyPenalty(0.3), frequency_penalty(logits, step.generated_counts(), 0.3)),
        (PresencePenalty(0.9), presence_penalty(logits, step.generated_counts(), 0.9)),
    ]
    for processor, expected in pairs:
        assert np.array_equal(processor.process(logits, step, ()), expected)
        assert not np.array_equal(expected, logits)


def test_fifty_times_in_the_prompt_counts_once():
    once = process(RepetitionPenalty(1.5), [3.0, -3.0, 3.0], [0, 1], asked=2)
    assert once == process(RepetitionPenalty(1.5), [3.0, -3.0, 3.0], [0] * 50 + [1] * 50, asked=100)
    assert once == [2.0, -4.5, 3.0]


def test_a_logit_of_zero_stays():
    assert process(RepetitionPenalty(7.0), [0.0, 1.0], [0]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("window", "penalized"),
    [
        (None, [0, 1, 2, 3]),
        (0, []),
        (1, [3]),
        (2, [2, 3]),
        (3, [1, 2, 3]),
        (4, [0, 1, 2, 3]),
        (99, [0, 1, 2, 3]),
    ],
)
def test_the_window_is_the_end_of_prompt_and_answer(window, penalized):
    out = process(RepetitionPenalty(2.0, window=window), [8.0] * 5, [0, 1, 2, 3], asked=2)
    assert [i for i, logit in enumerate(out) if logit == 4.0] == penalized


def test_a_window_of_nothing_and_neutral_values_give_the_input_itself():
    logits, step = np.ones((1, 4), np.float32), Step.dense(histories([0, 1]), 4)
    for processor in [
        RepetitionPenalty(1),
        RepetitionPenalty(2.0, window=0),
        FrequencyPenalty(0),
        PresencePenalty(0),
    ]:
        assert processor.process(logits, step, ()) is logits


def test_nothing_generated_changes_nothing():
    for processor in (FrequencyPenalty(2.0), PresencePenalty(2.0)):
        assert process(processor, [1.0, 2.0], [0, 1, 1], asked=3) == [1.0, 2.0]


def test_ids_that_are_no_candidates_are_passed_over():
    for processor in (RepetitionPenalty(2.0), FrequencyPenalty(1.0), PresencePenalty(1.0)):
        assert process(processor, [4.0, 4.0], [9, 70_000], asked=1) == [4.0, 4.0]
        assert process(processor, [4.0, 4.0], [9, 70_000], asked=1, columns=[5, 1]) == [4.0, 4.0]


def test_removed_candidates_stay_removed():
    for processor in STRATEGIES:
        out = process(processor, [-np.inf, 1.0], [1, 0, 0])
        assert out[0] == -np.inf and np.isfinite(out[1])


@pytest.mark.parametrize("processor", STRATEGIES, ids=repr)
def test_extremes_stay_numbers(processor):
    for logits in ([1e30, -1e30, 0.0, 1.0], [1e-40, -1e-40, -0.0, 5.0]):
        out = process(processor, logits, [0, 0, 1, 2, 2], asked=1)
        assert np.isfinite(out).all()


def test_a_penalty_behind_a_truncation_sees_the_candidates_that_are_left():
    logits = np.asarray([[0.0] * 40 + [9.0, 8.0, 7.9]], np.float32)
    step = Step.dense(histories([0, 41]), 43)
    sampler = Sampler((TopK(3), PresencePenalty(1.0)))
    draw = sampler.draw(logits, step, sampler.init(1))
    assert draw.stages[1].ids.tolist() == [[40, 41, 42]]
    assert draw.stages[1].logits[0] == pytest.approx([9.0, 7.0, 7.9])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RepetitionPenalty(-1.0), r"repetition_penalty: theta must be in \[1e-6, 1e6\], got -1.0"),
        (lambda: RepetitionPenalty(1e30), r"theta must be in \[1e-6, 1e6\], got 1e\+30"),
        (lambda: RepetitionPenalty(float("nan")), "got nan"),
        (lambda: RepetitionPenalty("1.1"), "must be a number"),
        (lambda: RepetitionPenalty(1.1, window=-1), r"window must be in \[0, inf\), got -1"),
        (lambda: RepetitionPenalty(1.1, window=2.5), "window must be a whole number"),
        (lambda: PresencePenalty(101), r"presence_penalty: f must be in \[-100, 100\], got 101"),
    ],
)
def test_parameters_have_a_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
