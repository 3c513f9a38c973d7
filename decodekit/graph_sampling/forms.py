"""
Forms: strategies written for a graph, where the textbook sorts the vocabulary and need not.

Each gives the textbook's candidates or says that it cannot: a row that it is not sure of becomes NaN,
and the host takes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import ndonnx as ndx
import numpy as np
import spox.opset.ai.onnx.v21 as op

from decodekit.ops import keep, kth_largest
from decodekit.processors import LogitsProcessor
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP

HALVINGS = 28  # 20 nats to the precision of a float32 logit near 10, and a little more

NAN, LEAST = ndx.asarray(np.float32(np.nan)), ndx.asarray(np.float32(-np.inf))

Form = Callable[[Any, ndx.Array, int, int], ndx.Array]


def top_k(strategy: TopK, logits: ndx.Array, vocabulary: int, most: int) -> ndx.Array:
    """The k-th largest by the operator TopK, where k is no more than a graph gives anyway."""
    k: Any = strategy.k
    if k <= 0 or k >= vocabulary:
        return logits
    if k > most:
        edge = kth_largest(logits, k)
    else:
        best = _top(logits, min(most, vocabulary))
        place = ndx.zeros_like(best[:, :1], dtype=ndx.int64) + (k - 1)
        edge = ndx.take_along_axis(best, place, axis=-1)
    kept: ndx.Array = keep(logits, logits >= edge)
    return kept


def top_p_by_rank(strategy: TopP, logits: ndx.Array, vocabulary: int, most: int) -> ndx.Array:
    """The edge of the nucleus among the best candidates that a graph gives; wider, the row is NaN."""
    p: Any = strategy.p
    if p == 1:
        return logits
    ranked = _top(logits, min(most, vocabulary))
    best = ranked[:, :1]
    total = ndx.sum(_weight(logits, best), axis=-1, keepdims=True)
    mass = ndx.cumulative_sum(_weight(ranked, best), axis=-1, include_initial=True)
    nucleus = mass[:, :-1] < total * p
    edge = ndx.min(ndx.where(nucleus, ranked, best), axis=-1, keepdims=True)
    reached = mass[:, -1:] >= total * p
    return ndx.where(reached, keep(logits, logits >= edge), NAN)


def top_p_by_halving(strategy: TopP, logits: ndx.Array, vocabulary: int, most: int) -> ndx.Array:
    """The edge of the nucleus, however wide, by halving an interval of logits.

    The mass of what is at least `low` is p or more, that of what is at least `high` is less. Where
    one logit, or equals, are left between them, that is the edge; where more are, the row is NaN.
    """
    p: Any = strategy.p
    if p == 1:
        return logits
    best = ndx.max(logits, axis=-1, keepdims=True)
    weight = _weight(logits, best)
    wanted = ndx.sum(weight, axis=-1, keepdims=True) * p
    share = ndx.zeros_like(wanted) + (1 - p)
    # Candidates of less than (1 - p) / V each have less than 1 - p together.
    low = best + ndx.astype(ndx.log(share), ndx.float32) - (math.log(vocabulary) + 1)
    high = best + 1
    nothing = ndx.zeros_like(weight)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = ndx.sum(ndx.where(logits >= middle, weight, nothing), axis=-1, keepdims=True) >= wanted
        low, high = ndx.where(enough, middle, low), ndx.where(enough, high, middle)
    kept = logits >= ndx.minimum(low, best)
    edge = ndx.min(ndx.where(kept, logits, -LEAST), axis=-1, keepdims=True)
    below = ndx.max(ndx.where(logits < high, logits, LEAST), axis=-1, keepdims=True)
    return ndx.where(edge == below, keep(logits, kept), NAN)


def _weight(logits: ndx.Array, best: ndx.Array) -> ndx.Array:
    return ndx.astype(ndx.exp(logits - best), ndx.float64)


def _top(logits: ndx.Array, k: int) -> ndx.Array:
    values, _ = op.top_k(logits.unwrap_spox(), op.const(np.asarray([k], np.int64)), axis=-1)
    return ndx.asarray(values)


FORMS: Mapping[str, Mapping[type[LogitsProcessor], Form]] = {
    "rank": {TopK: top_k, TopP: top_p_by_rank},
    "halve": {TopK: top_k, TopP: top_p_by_halving},
    "sort": {},  # as the strategies' own code has it
}
