"""The laws of a logits processor along a sequence: its state, going back, taking back, the draw."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from decodekit.history import History
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.sampling import Sampler
from decodekit.testing.bench import Bench
from decodekit.testing.continuation import continuation
from decodekit.testing.table_model import frozen

DRAWS = 4000  # whose total variation from 16 probabilities is 0.02 or so


def moves_state_by_value(bench: Bench) -> None:
    """state moves by value: accept returns the new one and leaves the old"""
    out, state = bench(), bench.processor.init(3)
    before = copy.deepcopy(state)
    bench.accept(out, state)
    assert equal(state, before)


def repeats_its_state(bench: Bench) -> None:
    """same inputs, same state"""
    out, state = bench(), bench.processor.init(3)
    assert equal(bench.accept(out, state), bench.accept(out, state))


def copies_what_it_keeps(bench: Bench) -> None:
    """the logits are the caller's: a state that remembers some copies them"""
    out, state = bench(), bench.processor.init(3)
    kept, lent = copy.deepcopy(bench.accept(out, state)), out.copy()
    remembered = bench.processor.accept(frozen(lent), frozen(out.argmax(axis=-1)), state)
    lent[...] = 0.0
    assert equal(remembered, kept)


def repeats_from_a_state(bench: Bench) -> None:
    """same state, same output"""
    state = bench.accept(bench(), bench.processor.init(3))
    before = copy.deepcopy(state)
    first = bench(state)
    assert equal(state, before), "process does not write to the state"
    assert np.array_equal(first, bench(state))


def goes_back(bench: Bench) -> None:
    """going back to a state and on again gives the same"""
    row = bench.row(0)
    assert np.array_equal(row.walk(5, back=3)[0], row.walk(5)[0])


def keeps_no_memory_of_its_own(bench: Bench) -> None:
    """memory is in the state: two sequences through one object do not mix"""
    one, two = bench.row(0), bench.row(1)
    mixed, _ = one.walk(5, between=lambda: two.walk(2))
    assert np.array_equal(one.walk(5)[0], mixed)


def allows_what_it_forces(bench: Bench) -> None:
    """what must come next is not removed"""
    for i in range(3):
        row, state = bench.row(i), bench.processor.init(1)
        forced = list(bench.processor.forced(row.step.rows[0], state))
        assert all(isinstance(id, int | np.integer) for id in forced), f"forced gave {forced}"
        assert not forced or np.isfinite(row(state)[0, forced[0]]), f"forced gave {forced}"


def takes_back_for_good(bench: Bench) -> None:
    """text that it takes back was held back before, and its first token does not come again"""
    if type(bench.processor).take_back is LogitsProcessor.take_back:
        return
    for seed in range(20):
        _take_back_once(bench.row(2), seed)


def _take_back_once(row: Bench, seed: int) -> None:
    """Follow a text until some of it is taken back."""
    state, shown = row.processor.init(1), 0
    for progress in continuation(row.processor, seed):
        before = replace(row, step=replace(row.step, rows=(_cut(progress.history, 1),)))
        state = row.processor.accept(before(state), progress.history.generated[-1:], state)
        verdict = row.processor.take_back(progress, state)
        if verdict is not None:
            count, state = verdict
            assert 0 < count <= len(progress.history.generated), f"{count} tokens"
            assert shown <= progress.starts[-count], "text was shown"
            again = replace(row, step=replace(row.step, rows=(_cut(progress.history, count),)))
            assert again(state)[0, progress.history.generated[-count]] == -np.inf, "it may come again"
            return
        held = row.processor.pending(progress.text)
        assert 0 <= held <= len(progress.text), f"holds back {held} of {len(progress.text)} characters"
        certain = len(progress.text) - held
        if held:  # what is taken back are whole tokens
            certain = max(start for start in progress.starts if start <= certain)
        shown = max(shown, certain)


def _cut(history: History, tokens: int) -> History:
    return replace(history, ids=history.ids[:-tokens])


def draws_follow(bench: Bench) -> None:
    """draws follow the distribution it returns: it knows nothing of the noise"""
    row = bench.row(0)
    few = np.sort(np.argsort(-row()[0])[:16])
    logits = frozen(np.repeat(row.logits[:, few], DRAWS, axis=0))
    rows = tuple(replace(row.step.rows[0], seed=seed) for seed in range(DRAWS))
    companion = row.step.companion
    many = None if companion is None else np.broadcast_to(companion, (DRAWS, companion.shape[1]))
    step = Step(rows, frozen(np.broadcast_to(few, logits.shape)), many)
    sampler = Sampler((bench.processor,))
    draw = sampler.draw(logits, step, sampler.init(DRAWS))
    out = draw.stages[0].logits
    chances = np.exp(out - out.max(axis=-1, keepdims=True), dtype=np.float64)
    expected = (chances / chances.sum(axis=-1, keepdims=True)).mean(axis=0)
    ids = draw.stages[0].ids[0]
    seen = (draw.tokens[:, None] == ids).mean(axis=0)
    assert seen[expected == 0].sum() == 0
    distance = 0.5 * np.abs(seen - expected).sum()
    assert distance < 0.05, f"total variation {distance:.3f} over {DRAWS} draws"


LAWS: tuple[Callable[[Bench], None], ...] = (
    moves_state_by_value,
    repeats_its_state,
    copies_what_it_keeps,
    repeats_from_a_state,
    goes_back,
    keeps_no_memory_of_its_own,
    allows_what_it_forces,
    takes_back_for_good,
    draws_follow,
)


def equal(a: State, b: State) -> bool:
    """Whether two states are the same."""
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(np.all(np.asarray(a == b)))
