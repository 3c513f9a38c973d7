"""
For plugin authors: a model without weights, and the contracts as executable laws.

    from decodekit.testing import check_logits_processor

    def test_keeps_the_contract():
        check_logits_processor(TopP(0.9))
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from decodekit.history import History
from decodekit.ops import Array
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.stopping import Progress, Stop, StoppingCriterion


@dataclass(frozen=True)
class Tokens:
    """The cache of a TableModel: the tokens themselves."""

    ids: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return len(self.ids)

    def keep(self, length: int) -> Tokens:
        return Tokens(self.ids[:length])

    def copy(self) -> Tokens:
        return self


@dataclass(frozen=True)
class TableModel:
    """A bigram model: the logits after token i are row i of `table`, float [V, V]."""

    table: Array
    context_length: int = 1 << 20

    @property
    def vocabulary(self) -> int:
        return len(self.table)

    def new_cache(self) -> Tokens:
        return Tokens()

    def __call__(self, tokens: Array, cache: Tokens, *, last: int = 1) -> tuple[Array, Tokens]:
        return self.table[tokens[len(tokens) - last :]], Tokens((*cache.ids, *np.asarray(tokens).tolist()))


def histories(*rows: list[int], asked: int = 1) -> tuple[History, ...]:
    """One History per list of ids, of which the first `asked` are the prompt; seeds 0, 1, ..."""
    return tuple(History(_frozen(np.asarray(ids, np.int64)), asked, seed) for seed, ids in enumerate(rows))


def check_logits_processor(processor: LogitsProcessor, *, vocab: int = 257, seed: int = 0) -> None:
    """Raise AssertionError, naming the law, if `processor` breaks the contract."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((3, vocab)) * 3).astype(np.float32)
    logits[0, 5] = -np.inf
    rows = histories([1, 2, 3], [4, 4], [7])
    step = Step.dense(rows, vocab)

    def apply(logits: Array, step: Step, state: State) -> Array:
        return processor.process(_frozen(logits), step, state)  # writing to an input fails loudly

    before = _global_random_state()
    out = apply(logits, step, processor.init(3))
    assert _global_random_state() == before, "draws no random numbers"
    assert out.shape == logits.shape and out.dtype == logits.dtype, "keeps shape and dtype"
    assert not np.isnan(out).any() and not np.isposinf(out).any(), "answers no NaN and no +inf"
    assert np.isfinite(out).any(axis=-1).all(), "leaves a candidate in every row"
    assert not np.isfinite(out[0, 5]), "never brings back a removed candidate"

    again = apply(logits, step, processor.init(3))
    assert np.array_equal(out, again), "same inputs, same output"

    for i in range(3):
        row = apply(logits[i : i + 1], Step.dense(rows[i : i + 1], vocab), processor.init(1))
        assert np.allclose(out[i : i + 1], row, rtol=1e-6), "a row does not see its neighbours"

    order = rng.permutation(vocab)
    shuffled_step = Step(rows, np.broadcast_to(order, logits.shape))
    shuffled = apply(logits[:, order], shuffled_step, processor.init(3))
    same = np.isclose(out[:, order], shuffled, rtol=1e-5)
    assert same.all(), "columns are candidates, not token ids: permuting them permutes the answer"

    _check_state(processor, out, apply, logits, step)


def _check_state(processor: LogitsProcessor, out: Array, apply: Any, logits: Array, step: Step) -> None:
    state = processor.init(3)
    before = copy.deepcopy(state)
    column = out.argmax(axis=-1)
    after = processor.accept(_frozen(out), _frozen(column), state)
    assert _equal(state, before), "state moves by value: accept returns the new one and leaves the old"
    again = processor.accept(_frozen(out), _frozen(column), state)
    assert _equal(after, again), "same inputs, same state"
    kept, lent = copy.deepcopy(after), out.copy()
    remembered = processor.accept(_frozen(lent), _frozen(column), state)
    lent[...] = 0.0
    assert _equal(remembered, kept), "the logits are the caller's: a state that remembers some copies them"
    first = apply(logits, step, after)
    assert np.array_equal(first, apply(logits, step, again)), "same state, same output"
    assert _equal(state, before), "process does not write to the state"


def check_stopping_criterion(criterion: StoppingCriterion, *, seed: int = 0) -> None:
    """Raise AssertionError, naming the law, if `criterion` breaks the contract."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abc .\n"))
    for length in range(1, 40):
        text = "".join(rng.choice(letters, length))
        (history,) = histories([0, *rng.integers(0, 50, length).tolist()])
        progress = Progress(history, text, int(rng.integers(0, length)), elapsed=0.1 * length)
        stop = criterion.check(progress)
        assert stop is None or isinstance(stop, Stop), "answers a Stop or None"
        assert stop == criterion.check(progress), "same progress, same verdict"
        if stop is not None:
            assert isinstance(stop.reason, str) and stop.reason, "gives a reason"
            assert stop.keep is None or 0 <= stop.keep <= length, "keeps a part of the text"
        assert 0 <= criterion.pending(text) <= length, "holds back a part of the text"


def _frozen(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _global_random_state() -> str:
    return repr(np.random.get_state())


def _equal(a: State, b: State) -> bool:
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(np.all(np.asarray(a == b)))
