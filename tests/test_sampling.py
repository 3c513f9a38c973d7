import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit import LogitsProcessor, Sampler, Step, noise, stream
from decodekit.drawing import sample_plainly, sample_pruned
from decodekit.errors import ContractError, NumericalError, StrategyError
from decodekit.history import History
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.min_p import MinP
from decodekit.strategies.penalties import FrequencyPenalty, PresencePenalty, RepetitionPenalty
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP
from decodekit.testing import TableModel, histories

V = 64
TABLE = (np.random.default_rng(3).standard_normal((V, V)) * 3).astype(np.float32)
CHAINS = [
    (),
    (Greedy(),),
    (Temperature(0.8),),
    (Temperature(0.9), TopK(8), TopP(0.9)),
    (TopP(0.7),),
    (RepetitionPenalty(1.3), FrequencyPenalty(0.4), PresencePenalty(0.3), MinP(0.1)),
    (TopK(12), RepetitionPenalty(1.5), TopP(0.95)),
]


def ids(chain, seed=0, n=12, compact=True, sample=0):
    sampler = Sampler(chain, compact=compact)
    tokens = stream(TableModel(TABLE), [1], sampler, [MaxNewTokens(n)], seed=seed, sample=sample)
    return [token.id for token in tokens]


def row(seed, position=3):
    return History(np.zeros(position, np.int64), 1, seed)


def test_the_draw_has_the_probabilities_of_the_softmax():
    n, p = 60_000, np.asarray([0.5, 0.3, 0.2])
    keys = noise.keys(tuple(row(seed) for seed in range(n)))
    drawn = sample_plainly(np.broadcast_to(np.log(p), (n, 3)), keys, np.broadcast_to(np.arange(3), (n, 3)))
    counts = np.bincount(drawn, minlength=3)
    assert np.allclose(counts / n, p, atol=4 * np.sqrt(p * (1 - p) / n).max())  # 4 standard errors


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), scale=st.sampled_from([0.0, 0.01, 1.0, 4.0, 30.0, 1e4]))
def test_the_pruned_draw_is_the_plain_draw(seed, scale):
    rng = np.random.default_rng(seed % 2**32)
    logits = (rng.standard_normal(20_000) * scale).astype(np.float32)
    logits[rng.random(20_000) < 0.1] = -np.inf
    key, all_ids = noise.keys((row(seed),)), np.arange(20_000)
    assert sample_pruned(logits, key, all_ids) == sample_plainly(logits[None], key, all_ids[None])[0]


def test_the_pruned_draw_finds_the_only_candidate():
    logits = np.full(20_000, -np.inf, np.float32)
    logits[777] = 1.0
    assert sample_pruned(logits, noise.keys((row(5),)), np.arange(20_000)) == 777


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_dropping_removed_columns_changes_no_token(chain, seed):
    assert ids(chain, seed, compact=True) == ids(chain, seed, compact=False)


LARGE = [
    (TopK(50),),
    (TopP(0.9), TopK(3)),
    (MinP(0.02), TopP(0.6), MinP(0.3)),
    (Temperature(0.7), TopK(40), TopP(0.5)),
    (FrequencyPenalty(0.5), MinP(0.1), RepetitionPenalty(1.5), TopP(0.9)),
]


@pytest.mark.parametrize("chain", LARGE, ids=repr)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), grid=st.sampled_from([1e-4, 0.5]), scale=st.sampled_from([0.5, 3.0]))
def test_survivors_are_what_is_not_removed(chain, seed, grid, scale):
    rng, size = np.random.default_rng(seed), 9_001
    logits = (np.round(rng.standard_normal((1, size)) * scale / grid) * grid).astype(np.float32)  # with ties
    logits[rng.random((1, size)) < 0.1] = -np.inf
    step = Step.dense(histories(rng.integers(0, size, 50).tolist()), size)
    quick, plain = (
        Sampler(chain, compact=compact).draw(logits, step, ((),) * len(chain)) for compact in (True, False)
    )
    assert quick.tokens == plain.tokens and quick.scores == plain.scores
    for short, whole in zip(quick.stages, plain.stages, strict=True):
        left, expected = (stage.logits > -np.inf for stage in (short, whole))
        assert np.array_equal(short.ids[left], whole.ids[expected])
        assert np.array_equal(short.logits[left], whole.logits[expected])


def test_survivors_that_are_none_are_not_asked_for_again():
    class Nobody(TopK):
        def survivors(self, logits, step, state):
            return np.zeros(logits.shape[1], bool)

    sampler = Sampler((Nobody(1),))
    assert sampler(TABLE[:1], Step.dense(histories([0]), V), sampler.init(1))[0] == TABLE[0].argmax()


@pytest.mark.parametrize("told", [np.ones(3, bool), np.asarray([V])], ids=["mask", "column"])
def test_survivors_that_are_no_columns_end_the_request_with_a_name(told):
    class Elsewhere(TopK):
        def survivors(self, logits, step, state):
            return told

    sampler = Sampler((Elsewhere(1),))
    with pytest.raises(StrategyError, match=r"Elsewhere\(k=1\).* raised "):
        sampler(TABLE[:1], Step.dense(histories([0]), V), sampler.init(1))


def test_a_row_draws_the_same_token_alone_and_in_a_batch():
    sampler = Sampler((Temperature(0.9), TopK(8), TopP(0.9)))
    rows = histories([4], [9], [11])
    together, _ = sampler(TABLE[[4, 9, 11]], Step.dense(rows, V), sampler.init(3))
    for i, row in enumerate(rows):
        alone, _ = sampler(TABLE[[row.ids[-1]]], Step.dense((row,), V), sampler.init(1))
        assert alone[0] == together[i]


def test_seed_and_sample_name_the_tokens():
    assert ids((), seed=1) == ids((), seed=1)
    assert len({tuple(ids((), seed=s, sample=n)) for s in range(4) for n in range(4)}) == 16


def test_greedy_breaks_ties_toward_the_lower_id_with_and_without_dropped_columns():
    logits = np.full((1, V), -1.0, np.float32)
    logits[0, [40, 9, 23]] = 5.0
    for chain in [(TopK(3), Greedy()), (Greedy(),), (Temperature(0.0),)]:
        for compact in (False, True):
            sampler = Sampler(chain, compact=compact)
            assert sampler(logits, Step.dense(histories([0]), V), sampler.init(1))[0] == [9]


class Returns(LogitsProcessor):
    """Answers what a test says."""

    def __init__(self, answer):
        self.answer = answer

    def __repr__(self):
        return "Returns()"

    def process(self, logits, step, state):
        return self.answer(logits)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda logits: np.full_like(logits, -np.inf), ContractError, "no candidate left after Returns"),
        (lambda logits: np.full_like(logits, np.nan), ContractError, "Returns.* gave NaN"),
        (lambda logits: np.full_like(logits, np.inf), ContractError, "Returns.* gave NaN or .inf"),
        (
            lambda logits: logits[:, :3],
            ContractError,
            r"keep shape and dtype, float32 \[1, 64\], got .*\[1, 3\]",
        ),
        (lambda logits: logits.astype(np.float64), ContractError, "got float64"),
        (lambda logits: None, ContractError, "got 'NoneType'"),
        (lambda logits: logits.fill(0), StrategyError, "Returns.* raised ValueError.*read-only"),
        (lambda logits: sys.exit(0), StrategyError, "Returns.* raised SystemExit.0. at token 0"),
        (lambda logits: 1 / 0, StrategyError, "Returns.* raised ZeroDivisionError.* at token 0"),
    ],
)
def test_a_strategy_that_breaks_the_contract_is_named(answer, error, message):
    sampler = Sampler((TopK(64), Returns(answer)))
    with pytest.raises(error, match=message):
        sampler(TABLE[:1], Step.dense(histories([0]), V), sampler.init(1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_gives_no_numbers_is_named(value):
    table = TABLE.copy()
    table[5, 7] = value
    with pytest.raises(NumericalError, match="the model gave .* logits at token 0"):
        list(stream(TableModel(table), [5], Sampler(), [MaxNewTokens(3)]))


def test_state_moves_only_when_a_token_is_accepted():
    class Counts(LogitsProcessor):
        def init(self, batch):
            return np.zeros((batch, 1))

        def process(self, logits, step, state):
            return logits

        def accept(self, logits, column, state):
            return state + 1

    sampler = Sampler((Counts(),))
    states = sampler.init(1)
    step = Step.dense(histories([0]), V)
    for expected in (1, 2, 3):
        _, states = sampler(TABLE[:1], step, states)
        assert states[0] == [[expected]]


def test_no_chain_writes_to_the_logits():
    logits = TABLE[:1].copy()
    logits.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chain in CHAINS:
            sampler = Sampler(chain)
            sampler(logits, Step.dense(histories([0, 3, 3]), V), sampler.init(1))
