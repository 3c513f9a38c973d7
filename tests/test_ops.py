"""Fast paths give what the textbook forms give, whatever the logits look like."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decodekit import LogitsProcessor, Sampler
from decodekit.columns import drop_removed_columns
from decodekit.errors import ContractError
from decodekit.ops import BLOCK, SMALL, k_best, keep, keep_evenly, keep_few, kth_largest, true_columns
from decodekit.processors import Step
from decodekit.strategies.min_p import MinP, min_p
from decodekit.strategies.top_k import TopK, top_k, top_k_pruned
from decodekit.strategies.top_p import TopP, nucleus_edge, nucleus_edge_pruned, top_p
from decodekit.testing import check_logits_processor, histories

LARGE = 151_936
SHAPES = {
    "flat": lambda rng, n: rng.standard_normal(n) * 1e-3,
    "normal": lambda rng, n: rng.standard_normal(n) * 2,
    "steep": lambda rng, n: rng.standard_normal(n) * 30,
    "power law": lambda rng, n: -1.5 * np.log1p(rng.permutation(n)),
    "one far ahead": lambda rng, n: rng.standard_normal(n) + 25 * (np.arange(n) == n // 3),
    "all equal": lambda rng, n: np.full(n, 3.25),
    "plateaus": lambda rng, n: np.round(rng.standard_normal(n)),
    "two values": lambda rng, n: rng.integers(0, 2, n) * 1e-6,
    "rising": lambda rng, n: np.linspace(-9, 9, n),
    "falling": lambda rng, n: np.linspace(9, -9, n),
    "best in one block": lambda rng, n: rng.standard_normal(n) + 9 * (np.arange(n) % (n // BLOCK) == 5),
    "most removed": lambda rng, n: np.where(
        (rng.random(n) < 0.999) & (np.arange(n) > 0), -np.inf, rng.standard_normal(n)
    ),
    "one left": lambda rng, n: np.where(np.arange(n) == n - 1, 1.0, -np.inf),
    "huge": lambda rng, n: rng.standard_normal(n) * 1e30,
    "tiny": lambda rng, n: rng.standard_normal(n) * 1e-40,
    "far below": lambda rng, n: np.where(rng.random(n) < 0.5, -1e30, rng.standard_normal(n)),
    "lifted": lambda rng, n: rng.standard_normal(n) + 300,
}
shapes = st.sampled_from(sorted(SHAPES))
sizes = st.sampled_from([SMALL + 1, 5_000, 20_011])


def logits(shape, n, seed=0, dtype=np.float32):
    return SHAPES[shape](np.random.default_rng(seed), n).astype(dtype)


def ranked_by_hand(row, p):
    """The nucleus as it is defined, in float64: bool [N], and for each candidate how far from p it was."""
    order = np.argsort(-row, kind="stable")
    with np.errstate(over="ignore"):
        weight = np.exp((row - row.max()).astype(np.float64))[order]
    above = (np.cumsum(weight) - weight) / weight.sum()
    count = max(1, np.count_nonzero(above < p))
    return row >= row[order[count - 1]], above[order.argsort()] - p


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("k", [1, 2, 50, 500, LARGE // BLOCK, LARGE // BLOCK + 1, LARGE - 1, LARGE])
def test_top_k_keeps_what_is_no_less_than_the_kth_of_all_sorted(shape, k):
    row = logits(shape, LARGE)
    assert np.array_equal(top_k(row, k), np.where(row >= np.sort(row)[LARGE - k], row, -np.inf))


@settings(max_examples=150, deadline=None)
@given(shape=shapes, n=sizes, k=st.integers(1, SMALL // BLOCK), seed=st.integers(0, 2**32 - 1))
def test_the_k_best_by_blocks_are_those_of_the_sort(shape, n, k, seed):
    row = logits(shape, n, seed)
    assert np.array_equal(k_best(row, k), np.flatnonzero(row >= np.sort(row)[n - k]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kth_largest_keeps_rows_dtype_and_namespace(dtype):
    rows = np.stack([logits("normal", 5_000, seed, dtype) for seed in range(6)]).reshape(2, 3, 5_000)
    found = kth_largest(rows, 7)
    assert found.shape == (2, 3, 1) and found.dtype == dtype
    assert np.array_equal(found[..., 0], np.sort(rows, axis=-1)[..., -7])
    strict = kth_largest(array_api_strict.asarray(rows), 7)
    assert np.array_equal(np.asarray(strict), found)
    pruned = top_k_pruned(rows[:, ::-1], 7)  # rows that do not lie one after the other
    assert pruned.dtype == dtype and np.array_equal(pruned, keep(rows, rows >= found)[:, ::-1])


@pytest.mark.parametrize("shape", sorted(SHAPES))
@pytest.mark.parametrize("share", [0.0, 1e-4, 0.5, 1.0])
def test_keeping_is_a_choice_by_a_mask(shape, share):
    row = logits(shape, 20_011)
    row[3] = -0.0
    kept = np.random.default_rng(1).random(20_011) < share
    for out in (keep_evenly(row, kept), keep_few(row, kept), keep(row, kept)):
        assert out.dtype == row.dtype
        assert out.tobytes() == np.where(kept, row, np.float32(-np.inf)).tobytes()  # signs of zeros too


def test_keeping_lets_masks_broadcast_and_writes_to_nothing():
    rows = np.stack([logits("normal", 5_000, seed) for seed in range(2)])
    before, kept = rows.copy(), np.arange(5_000) % 3 == 0
    assert np.array_equal(keep(rows, kept), np.where(kept, rows, -np.inf))
    assert np.array_equal(keep(rows, kept[None]), keep(rows, kept))
    assert np.array_equal(rows, before)


@settings(max_examples=250, deadline=None)
@given(
    shape=shapes,
    n=sizes,
    p=st.one_of(st.sampled_from([0.0, 1e-9, 0.1, 0.5, 0.9, 0.999, 1 - 1e-12]), st.floats(0, 0.9999)),
    seed=st.integers(0, 2**32 - 1),
)
@example(shape="all equal", n=20_011, p=0.0, seed=0)
@example(shape="tiny", n=20_011, p=0.5, seed=0)
def test_the_nucleus_is_that_of_the_definition(shape, n, p, seed):
    row = logits(shape, n, seed)
    kept, distance = ranked_by_hand(row, p)
    for edge in (nucleus_edge_pruned(row, p), nucleus_edge(row, p)[0]):
        wrong = (row >= edge) != kept
        assert np.abs(distance[wrong]).max(initial=0) < 1e-6
        assert (row >= edge).any() and edge.dtype == row.dtype


@pytest.mark.parametrize("shape", ["flat", "normal", "power law", "plateaus", "far below"])
@pytest.mark.parametrize("p", [0.5, 0.9])
def test_the_nucleus_of_a_large_vocabulary_is_that_of_the_textbook(shape, p):
    row = logits(shape, LARGE)
    assert nucleus_edge_pruned(row, p) == nucleus_edge(row, p)[0]


@pytest.mark.parametrize("count", [1, 45, 20_000])
def test_what_is_not_a_number_is_blamed_on_who_gave_it(count):
    class Broken(LogitsProcessor):
        def process(self, logits, step, state):
            return np.where(np.arange(logits.shape[-1]) < count, np.nan, logits)

    rows, step = logits("normal", 20_000)[None], Step.dense(histories([1]), 20_000)
    for after in (TopK(40), TopP(0.9), TopP(0.0), MinP(0.1)):
        sampler = Sampler((Broken(), after))
        try:
            draw = sampler.draw(rows, step, sampler.init(1))
        except ContractError as error:
            assert "Broken" in str(error) and "NaN" in str(error)
        else:  # as the textbook form does: what is not a number is not kept
            assert draw.tokens[0] >= count


def test_the_nucleus_by_hand():
    row = np.full(5_000, -30.0, np.float32)
    row[[10, 4_000, 77, 123]] = np.log([0.4, 0.3, 0.2, 0.1])
    for p, count in [(0.0, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.91, 4), (0.999, 4)]:
        assert np.count_nonzero(row >= nucleus_edge_pruned(row, p)) == count


def test_masses_of_many_equals_add_up():
    """In float32 a sum of 151,936 equal parts is off by far more than one of them."""
    row = np.where(np.arange(LARGE) < LARGE // 2, 1e-4, 0.0).astype(np.float32)
    share = np.exp(1e-4) / (np.exp(1e-4) + 1)  # of the better half
    for edge in (nucleus_edge, nucleus_edge_pruned):
        assert np.max(edge(row, share - 1e-5)) == row[0]
        assert np.max(edge(row, share + 1e-5)) == 0.0


@pytest.mark.parametrize("processor", [TopK(50), TopP(0.9), TopP(0.0), MinP(0.05)], ids=repr)
@pytest.mark.parametrize("vocabulary", [SMALL, SMALL + 1, 40_000])
def test_fast_paths_keep_the_contract(processor, vocabulary):
    check_logits_processor(processor, vocab=vocabulary)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_hooks_give_what_the_functions_give(shape):
    rows = np.stack([logits(shape, 6_000, seed) for seed in range(2)])
    step = Step.dense(histories([1], [2]), 6_000)
    for p in (0.3, 0.9):
        assert np.array_equal(TopP(p).process(rows, step, ()), top_p(rows, p))
    assert np.array_equal(TopK(40).process(rows, step, ()), top_k(rows, 40))
    assert np.array_equal(MinP(0.1).process(rows, step, ()), min_p(rows, 0.1))


@pytest.mark.parametrize("namespace", [np, array_api_strict])
def test_top_k_of_any_namespace_is_the_textbook_form(namespace):
    row = logits("plateaus", 40 * BLOCK)
    out = np.asarray(top_k(namespace.asarray(row), 30))
    assert np.array_equal(out, np.where(row >= np.sort(row)[-30], row, -np.inf))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([0.0, 0.02, 0.2, 0.9]))
def test_dropping_keeps_every_candidate_that_is_left(seed, batch, share):
    rng = np.random.default_rng(seed)
    rows = np.where(rng.random((batch, 60)) < share, rng.standard_normal((batch, 60)), -np.inf)
    ids = np.stack([rng.permutation(100)[:60] for _ in range(batch)])
    step = Step(histories(*[[i] for i in range(batch)]), ids)
    left, after = drop_removed_columns(rows, step)
    assert left.shape == after.ids.shape
    for i in range(batch):
        alive = rows[i] > -np.inf
        still = left[i] > -np.inf
        assert after.ids[i][still].tolist() == ids[i][alive].tolist()
        assert left[i][still].tolist() == rows[i][alive].tolist()
    widest = max(1, np.count_nonzero(rows > -np.inf, axis=-1).max())
    assert left.shape[-1] == (widest if widest * 4 <= 60 else 60)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 40))
def test_columns_are_where_the_ids_are(seed, width, length):
    rng = np.random.default_rng(seed)
    ids, wanted = rng.permutation(50)[:width], rng.integers(0, 60, length)
    step = Step(histories([0]), ids[None])
    expected = [ids.tolist().index(i) for i in wanted.tolist() if i in ids.tolist()]
    assert step.columns(0, wanted).tolist() == expected


def test_columns_of_the_whole_vocabulary_are_the_ids():
    whole, permuted = Step.dense(histories([0]), 9), Step(histories([0]), np.arange(9)[None])
    assert whole.whole and not permuted.whole
    for step in (whole, permuted):
        assert step.columns(0, np.asarray([8, 3, 3, 9, 200])).tolist() == [8, 3, 3]
    assert not Step(histories([0]), np.asarray([[1, 0, 2]])).whole


def test_of_columns_that_repeat_an_id_the_first_counts():
    """Rows that are shorter than others are filled up with removed columns of some id."""
    rows = np.asarray([[0.0, -np.inf, 1.0, -np.inf] * 5, [-np.inf] * 19 + [2.0]])
    rows[0, 3:] = -np.inf
    left, step = drop_removed_columns(rows, Step.dense(histories([0], [1]), 20))
    assert left.tolist() == [[0.0, 1.0], [2.0, -np.inf]]
    assert step.columns(0, np.asarray([2, 0])).tolist() == [1, 0]
    assert step.columns(1, np.asarray([19])).tolist() == [0]
    assert Step(histories([0]), np.asarray([[7, 4, 7]])).columns(0, np.asarray([7])).tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.booleans())
def test_counts_are_how_often_an_id_occurs(seed, batch, dense):
    rng = np.random.default_rng(seed)
    rows = histories(*[rng.integers(0, 30, rng.integers(3, 60)).tolist() for _ in range(batch)], asked=3)
    ids = np.broadcast_to(np.arange(25), (batch, 25))
    step = Step.dense(rows, 25) if dense else Step(rows, rng.permuted(ids, axis=-1))
    counts, generated = step.counts(), step.generated_counts()
    for i, row in enumerate(rows):
        assert counts[i].tolist() == [row.ids.tolist().count(id) for id in step.ids[i].tolist()]
        assert generated[i].tolist() == [row.generated.tolist().count(id) for id in step.ids[i].tolist()]


@pytest.mark.parametrize("size", [0, 7, 8, 9, 4096, 4099])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_true_columns_are_found(size, share):
    mask = np.random.default_rng(size).random(size) < share
    for one in (mask, ~mask):
        for count in (int(one.sum()), 0):  # a wrong one makes it slow, not wrong
            assert np.array_equal(true_columns(one, count), np.flatnonzero(one))
