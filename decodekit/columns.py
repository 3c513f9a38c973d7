"""
Columns: the candidates of a step, without those that no draw can take any more.

The logits of one that is left stay as they are, and columns in their order, so that nothing a
strategy may observe changes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from decodekit.ops import Array, keep, true_columns
from decodekit.processors import Step

WORTH = 4  # columns are dropped where a fourth of them is left at most: a copy costs too


def pick(array: Array, column: Array) -> Array:
    """Of each row of an array [B, N] one column, int [B]."""
    if len(column) == 1:
        return array[0, column]
    return array[np.arange(len(column)), column]


def best_columns(logits: Array, step: Step) -> tuple[Array, Step]:
    """The best candidate of each row, of equals the first: all that a greedy processor would leave."""
    column = logits.argmax(axis=-1)
    return pick(logits, column)[:, None], Step(step.rows, pick(step.ids, column)[:, None])


def keep_columns(logits: Array, step: Step, kept: Array) -> tuple[Array, Step]:
    """The one row of logits [1, N] without what is not `kept`, see `LogitsProcessor.survivors`."""
    if kept.dtype == bool:
        count = int(np.count_nonzero(kept))
        if count * WORTH > len(kept):
            return keep(logits, kept[None]), step
        kept = true_columns(kept, count)
    ids = kept[None] if step.whole else step.ids[:, kept]
    return logits[:, kept], replace(step, ids=ids)


def drop_removed_columns(logits: Array, step: Step) -> tuple[Array, Step]:
    """The same distribution over fewer columns; nothing a processor may observe changes."""
    alive = logits != -np.inf
    counts = [int(np.count_nonzero(row)) for row in alive]
    width = max(1, *counts)
    if width * WORTH > logits.shape[-1]:
        return logits, step  # not worth the copy
    kept = np.full((len(logits), width), -np.inf, logits.dtype)
    ids = np.broadcast_to(step.ids[:, :1], kept.shape).copy()
    for row, count in enumerate(counts):
        columns = true_columns(alive[row], count)  # in column order: ties break alike
        kept[row, :count] = logits[row, columns]
        ids[row, :count] = step.ids[row, columns]
    return kept, replace(step, ids=ids)
