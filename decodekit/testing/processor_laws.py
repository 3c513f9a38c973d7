"""
The laws of a logits processor, each by its sentence.

Every law is a function of a `Bench` that raises AssertionError with the sentence if it is broken.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from decodekit.history import History
from decodekit.ops import Array
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.sampling import Sampler
from decodekit.testing.surroundings import changed, surroundings
from decodekit.testing.table_model import frozen, histories

DRAWS = 4000  # whose total variation from 16 probabilities is 0.02 or so
DEAD = 5  # a candidate of the first row that an earlier strategy removed


@dataclass(frozen=True)
class Bench:
    """Three rows of different histories, on which a processor is tried.

    processor  bound to its tokens, where it wants to be
    logits     float32 [3, V], one of them -inf
    step       the columns are all ids, in order
    """

    processor: LogitsProcessor
    logits: Array
    step: Step

    @staticmethod
    def of(processor: LogitsProcessor, vocabulary: int = 257, seed: int = 0) -> Bench:
        draw = np.random.default_rng(seed)
        logits = (draw.standard_normal((3, vocabulary)) * 3).astype(np.float32)
        logits[0, DEAD] = -np.inf
        companion = (draw.standard_normal((3, vocabulary)) * 3).astype(np.float32)
        wants = processor.companion_prompt() is not None
        rows = histories([1, 2, 3], [4, 4], [7])
        return Bench(processor, logits, Step.dense(rows, vocabulary, companion if wants else None))

    def row(self, i: int) -> Bench:
        """One row alone."""
        companion = None if self.step.companion is None else self.step.companion[i : i + 1]
        step = Step(self.step.rows[i : i + 1], self.step.ids[i : i + 1], companion)
        return replace(self, logits=self.logits[i : i + 1], step=step)

    def __call__(self, state: State = None) -> Array:
        """What the processor makes of the logits; writing to an input fails loudly."""
        state = self.processor.init(len(self.logits)) if state is None else state
        return self.processor.process(frozen(self.logits), self.step, state)

    def accept(self, out: Array, state: State) -> State:
        """The state after the best candidate of each row was drawn."""
        return self.processor.accept(frozen(out), frozen(out.argmax(axis=-1)), state)


def keeps_shape(bench: Bench) -> None:
    """keeps shape and dtype"""
    out = bench()
    assert out.shape == bench.logits.shape and out.dtype == bench.logits.dtype


def writes_to_no_input(bench: Bench) -> None:
    """never writes to its inputs"""
    before = bench.logits.copy()
    try:
        bench()
    except ValueError as exc:
        assert "read-only" not in str(exc)
        raise
    assert np.array_equal(bench.logits, before)


def gives_numbers(bench: Bench) -> None:
    """answers no NaN and no +inf"""
    out = bench()
    assert not np.isnan(out).any() and not np.isposinf(out).any()


def leaves_a_candidate(bench: Bench) -> None:
    """leaves a candidate in every row"""
    assert np.isfinite(bench()).any(axis=-1).all()


def revives_none(bench: Bench) -> None:
    """never brings back a removed candidate"""
    assert not np.isfinite(bench()[0, DEAD])


def repeats(bench: Bench) -> None:
    """same inputs, same output"""
    assert np.array_equal(bench(), bench())


def draws_no_random_numbers(bench: Bench) -> None:
    """draws no random numbers"""
    outs = []
    for seed in (0, 1):
        kept = np.random.get_state(), random.getstate()
        np.random.seed(seed)
        random.seed(seed)
        before = surroundings()
        outs.append(bench())
        used = [name for name in changed(before, surroundings()) if "random" in name]
        np.random.set_state(kept[0])
        random.setstate(kept[1])
        assert not used
    assert np.array_equal(*outs)


def leaves_the_process_alone(bench: Bench) -> None:
    """changes nothing around it"""
    before = surroundings()
    bench.accept(bench(), bench.processor.init(3))
    assert not (names := changed(before, surroundings())), ", ".join(names)


def keeps_to_its_row(bench: Bench) -> None:
    """a row does not see its neighbours"""
    out = bench()
    for i in range(3):
        assert np.allclose(out[i : i + 1], bench.row(i)(), rtol=1e-6)


def asks_for_ids(bench: Bench) -> None:
    """columns are candidates, not token ids: permuting them permutes the answer"""
    order = np.random.default_rng(1).permutation(bench.logits.shape[1])
    ids = np.broadcast_to(order, bench.logits.shape)
    shuffled = replace(bench, logits=bench.logits[:, order], step=replace(bench.step, ids=ids))()
    assert np.isclose(bench()[:, order], shuffled, rtol=1e-5).all()


def takes_fewer_columns(bench: Bench) -> None:
    """columns that were removed may be gone"""
    out = bench()
    state = bench.processor.init(3)
    assert np.isfinite(out).any()
    alive = np.flatnonzero(np.isfinite(bench.logits).all(axis=0))
    fewer = replace(
        bench, logits=bench.logits[:, alive], step=replace(bench.step, ids=bench.step.ids[:, alive])
    )
    try:
        assert fewer(state).shape == (3, len(alive))
    except (ValueError, IndexError) as exc:
        raise AssertionError(str(exc)) from exc


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
    assert np.array_equal(_walk(bench.row(0), 5, back=3), _walk(bench.row(0), 5))


def keeps_no_memory_of_its_own(bench: Bench) -> None:
    """memory is in the state: two sequences through one object do not mix"""
    one, two = bench.row(0), bench.row(1)
    alone = _walk(one, 5)
    mixed = _walk(one, 5, between=lambda: _walk(two, 2))
    assert np.array_equal(alone, mixed)


def draws_follow(bench: Bench) -> None:
    """draws follow the distribution it returns"""
    out, (history,) = bench.row(0)(), bench.row(0).step.rows
    few = np.argsort(-out[0])[:16]
    given = np.broadcast_to(out[:, few], (DRAWS, len(few)))
    rows = tuple(History(history.ids, history.asked, seed) for seed in range(DRAWS))
    step = Step(rows, np.broadcast_to(few, given.shape))
    tokens = Sampler((_Given(given),)).draw(given, step, ((),)).tokens
    p = np.exp(out[0, few] - out[0, few].max(), dtype=np.float64)
    seen = (tokens[:, None] == few).mean(axis=0)
    assert seen[p == 0].sum() == 0 and 0.5 * np.abs(seen - p / p.sum()).sum() < 0.05


class _Given(LogitsProcessor):
    def __init__(self, out: Array) -> None:
        self.out = out

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return self.out


LAWS: tuple[Callable[[Bench], None], ...] = (
    writes_to_no_input,
    keeps_shape,
    gives_numbers,
    leaves_a_candidate,
    revives_none,
    repeats,
    draws_no_random_numbers,
    leaves_the_process_alone,
    keeps_to_its_row,
    asks_for_ids,
    takes_fewer_columns,
    moves_state_by_value,
    repeats_its_state,
    copies_what_it_keeps,
    repeats_from_a_state,
    goes_back,
    keeps_no_memory_of_its_own,
    draws_follow,
)


def check_logits_processor(processor: LogitsProcessor, *, vocab: int = 257, seed: int = 0) -> None:
    """Raise AssertionError, naming the law, if `processor` breaks the contract."""
    bench = Bench.of(processor, vocab, seed)
    for law in LAWS:
        try:
            law(bench)
        except AssertionError as exc:
            raise AssertionError(f"{law.__doc__}{f': {exc}' if str(exc) else ''}") from exc


def equal(a: State, b: State) -> bool:
    """Whether two states are the same."""
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(np.all(np.asarray(a == b)))


def _walk(bench: Bench, steps: int, *, back: int = 0, between: Callable[[], object] | None = None) -> Array:
    """Outputs [steps, V] along the best candidates of one row; having gone further and back, if asked."""
    (row,), state = bench.step.rows, bench.processor.init(1)
    ids, states = row.ids.tolist(), [state]
    outs: list[Array] = []
    for step in range(steps + back):
        if step == steps:
            del outs[steps - back :]
            del ids[len(row.ids) + steps - back :]
            state = states[steps - back]
        here = replace(bench.step, rows=(History(frozen(np.asarray(ids)), row.asked, row.seed),))
        out = replace(bench, step=here)(state)
        if between is not None:
            between()
        state = bench.accept(out, state)
        if step < steps:
            states.append(state)
        ids.append(int(here.ids[0, int(out[0].argmax())]))
        outs.append(out[0])
    return np.stack(outs)
