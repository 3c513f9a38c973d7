"""
The laws of a logits processor, each by its sentence; those of one call, here, and those of a sequence.

A law is a function of a `Bench` that raises AssertionError if it is broken; its docstring is the sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from decodekit.processors import LogitsProcessor, edited, masked
from decodekit.testing import sequence_laws
from decodekit.testing.bench import DEAD, Bench
from decodekit.testing.obedience import obey
from decodekit.testing.surroundings import changed, surroundings

MANY = 8192  # candidates, where shortcuts begin


def writes_to_no_input(bench: Bench) -> None:
    """never writes to its inputs"""
    before = bench.logits.copy()
    try:
        bench()
    except ValueError as exc:
        assert "read-only" not in str(exc), exc
    except Exception:
        return  # the next law's affair
    assert np.array_equal(bench.logits, before)


def takes_a_step(bench: Bench) -> None:
    """raises nothing, from init over process to accept"""
    state = bench.processor.init(3)
    bench.accept(bench(state), state)
    bench.processor.forced(bench.step.rows[0], bench.processor.init(1))


def keeps_shape(bench: Bench) -> None:
    """keeps shape and dtype"""
    for dtype in (np.float32, np.float64):
        logits = bench.logits.astype(dtype)
        out = replace(bench, logits=logits)()
        assert out.shape == logits.shape and out.dtype == dtype, f"{dtype.__name__} gave {out.dtype}"


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
        assert not used, ", ".join(used)
    assert np.array_equal(*outs)


def leaves_the_process_alone(bench: Bench) -> None:
    """changes nothing around it"""
    before = surroundings()
    state = bench.processor.init(3)
    bench.accept(bench(state), state)
    assert not (names := changed(before, surroundings())), ", ".join(names)


def keeps_to_its_row(bench: Bench) -> None:
    """a row does not see its neighbours"""
    out = bench()
    after = bench(bench.accept(out, bench.processor.init(3)))
    for i in range(3):
        row, state = bench.row(i), bench.processor.init(1)
        alone = row(state)
        assert np.allclose(out[i], alone[0], rtol=1e-6, atol=1e-5)
        assert np.allclose(after[i], row(row.accept(alone, state))[0], rtol=1e-6, atol=1e-5), "after a token"


def asks_for_ids(bench: Bench) -> None:
    """columns are candidates, not token ids: permuting them permutes the answer"""
    order = np.random.default_rng(1).permutation(bench.logits.shape[1])
    assert np.allclose(bench()[:, order], bench.columns(order)(), rtol=1e-5, atol=1e-5)


def takes_fewer_columns(bench: Bench) -> None:
    """columns that were removed may be gone: the others are treated as if they were there"""
    row = bench.row(0)
    ranked = np.argsort(-row()[0])
    left = np.sort(ranked[np.arange(len(ranked)) % 3 == 0])  # the best stays, and a third of all
    dead = np.full_like(row.logits, -np.inf)
    dead[:, left] = row.logits[:, left]
    try:
        fewer = row.columns(left)()
    except (ValueError, IndexError) as exc:
        raise AssertionError(str(exc)) from exc
    assert fewer.shape == (1, len(left)), "one for each that is there"
    assert np.allclose(replace(row, logits=dead)()[:, left], fewer, rtol=1e-5, atol=1e-5)


def tells_its_survivors(bench: Bench) -> None:
    """`survivors` are the candidates that process keeps, as they are"""
    for vocabulary in (bench.logits.shape[1], MANY):
        row = Bench.of(bench.processor, vocabulary).row(0)
        kept = bench.processor.survivors(row.logits, row.step, bench.processor.init(1))
        if kept is None:
            continue
        expected = np.full_like(row.logits, -np.inf)
        expected[:, kept] = row.logits[:, kept]
        assert np.array_equal(row(), expected), f"of {vocabulary} candidates"
        assert kept.dtype == bool or (np.diff(kept) > 0).all(), "columns ascend"


def does_what_it_says(bench: Bench) -> None:
    """what it says of a row, edits or a mask, is what process does"""
    kind = type(bench.processor)
    for row in map(bench.row, range(3)):
        state, (history,) = bench.processor.init(1), row.step.rows
        if kind.mask is not LogitsProcessor.mask:
            mask = bench.processor.mask(history, state)
            assert mask is None or (mask.dtype == np.uint8 and mask.ndim == 1), f"{mask!r:.80}"
            said = masked(row.logits, row.step, [mask])
        elif kind.edits is not LogitsProcessor.edits:
            said = edited(row.logits, row.step, [bench.processor.edits(history, state)])
        else:
            return
        assert np.array_equal(row(state), said)


LAWS: tuple[Callable[[Bench], None], ...] = (
    writes_to_no_input,
    takes_a_step,
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
    tells_its_survivors,
    does_what_it_says,
    *sequence_laws.LAWS,
)


def check_logits_processor(processor: LogitsProcessor, *, vocab: int = 257, seed: int = 0) -> None:
    """Raise AssertionError, naming the law, if `processor` breaks the contract."""
    bench = Bench.of(processor, vocab, seed)
    for law in LAWS:
        obey(law.__doc__ or "", partial(law, bench))
