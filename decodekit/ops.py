"""Array helpers that strategies share; any array of the Python array API standard."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

Array = Any
SMALL = 4096  # candidates of a row up to which the textbook forms are as fast
BLOCK = 128  # candidates


def array_namespace(array: Array) -> Any:
    """The functions of the Python array API standard for an array.

    NumPy has them itself, but for `sort` from the top; array-api-compat would load all of NumPy.
    """
    if isinstance(array, np.ndarray | np.generic):
        return np
    return array_api_compat.array_namespace(array)


def softmax(logits: Array) -> Array:
    """exp(logits) normalised over the last axis; -inf becomes 0. The sum is float64."""
    xp = array_namespace(logits)
    exp = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return exp / xp.astype(xp.sum(exp, axis=-1, keepdims=True, dtype=xp.float64), logits.dtype)


def log_softmax(logits: Array) -> Array:
    """Log-probabilities over the last axis, nats; -inf stays. The sum is float64."""
    xp = array_namespace(logits)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    total = xp.sum(xp.exp(shifted), axis=-1, keepdims=True, dtype=xp.float64)
    return shifted - xp.astype(xp.log(total), logits.dtype)


def entropy(log_p: Array) -> Array:
    """Expected surprise, nats, [..., 1], of log-probabilities [..., N]; impossible candidates add nothing."""
    xp = array_namespace(log_p)
    p = xp.exp(log_p)
    terms = p * xp.where(p > 0, log_p, xp.zeros_like(log_p))
    return -xp.astype(xp.sum(terms, axis=-1, keepdims=True, dtype=xp.float64), log_p.dtype)


def keep(logits: Array, kept: Array) -> Array:
    """The logits where `kept`, bool, -inf elsewhere."""
    xp = array_namespace(logits)
    if xp is not np or logits.shape[-1] <= SMALL:
        return xp.where(kept, logits, xp.asarray(-xp.inf, dtype=logits.dtype))
    return keep_few(logits, kept) if np.count_nonzero(kept) * 64 < kept.size else keep_evenly(logits, kept)


def keep_few(logits: Array, kept: Array) -> Array:
    """What `keep` gives, fast where little is kept."""
    few = np.full(logits.shape, -np.inf, logits.dtype)
    np.copyto(few, logits, where=kept)
    return few


def keep_evenly(logits: Array, kept: Array) -> Array:
    """What `keep` gives, at the same cost however many are kept and wherever they are.

    A choice by a mask that is neither rare nor frequent is mispredicted at every other candidate;
    the smaller of a logit and +inf or -inf is not.
    """
    bound = kept.astype(logits.dtype)
    bound -= 0.5
    bound *= np.inf
    return np.minimum(logits, bound)


def true_columns(mask: Array, count: int) -> Array:
    """The columns where a mask, bool [N], is true, ascending; `count` says how many these are.

    Where they are few, eight columns are looked at as one word, of which most are zero.
    """
    if count * 64 > len(mask):
        return np.flatnonzero(mask)
    whole = len(mask) // 8 * 8
    words = np.flatnonzero(mask[:whole].view(np.uint64) != 0)
    columns = np.append((words[:, None] * 8 + np.arange(8)).ravel(), np.arange(whole, len(mask)))
    return columns[mask[columns]]


def kth_largest(logits: Array, k: int | Array) -> Array:
    """The k-th largest logit of each row, [..., 1].

    logits  float [..., N]
    k       in [1, N], scalar or, of other arrays than NumPy's, [..., 1]; equals count each
    """
    xp = array_namespace(logits)
    kth = logits.shape[-1] - k
    if xp is np:
        return np.partition(logits, kth, axis=-1)[..., kth, None]
    place = xp.zeros_like(logits[..., :1], dtype=xp.int64) + kth
    return xp.take_along_axis(xp.sort(logits, axis=-1), place, axis=-1)


def k_best(row: Array, k: int) -> Array:
    """The columns of one row, float [N], that are no less than `kth_largest`, without ordering all of it.

    k  in [1, N // BLOCK]

    Of blocks of candidates, k have a best one that is as good as the k-th best of these; so
    the k-th of all is no worse, and neither what is below it nor any other block needs to be looked at.
    """
    blocks = len(row) // BLOCK
    table, rest = row[: blocks * BLOCK].reshape(BLOCK, blocks), row[blocks * BLOCK :]
    best = table.max(axis=0)
    bound = kth_largest(best, k)
    good = np.flatnonzero(~(best < bound))  # NaN, if there is one, contends
    if len(good) * 8 > blocks:
        contenders = np.flatnonzero(~(row < bound))
    else:
        place, block = divmod(np.flatnonzero(~(table.take(good, axis=1) < bound)), len(good))
        contenders = np.append(place * blocks + good[block], blocks * BLOCK + np.flatnonzero(~(rest < bound)))
    values = row[contenders]
    return contenders[values >= kth_largest(values, k)]
