"""Candidates: what is left of a row after the first processors of a chain, as a graph gives it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decodekit.ops import Array
from decodekit.processors import LogitsProcessor


@dataclass(frozen=True, slots=True)
class Candidates:
    """Columns of one row, in ascending order of id; behind them there may be dead ones.

    ids     int64 [1, N]
    logits  float32 [1, N], after the first `done` processors
    raw     float32 [N], before them, of the living
    """

    ids: Array
    logits: Array
    raw: Array
    done: int

    @staticmethod
    def of(
        ids: Array,
        logits: Array,
        raw: Array,
        counts: Sequence[int],
        processors: Sequence[LogitsProcessor],
        vocabulary: int,
    ) -> Candidates:
        """From what a graph gives for a row: the first `counts[-1]` places are alive, in any order."""
        alive = counts[-1]
        order = np.argsort(ids[:alive])
        width = max(width_on_host(counts, processors, vocabulary), alive)
        columns = np.full((1, width), -np.inf, np.float32)
        columns[0, :alive] = logits[:alive][order]
        places = np.full((1, width), ids[order[0]], np.int64)
        places[0, :alive] = ids[:alive][order]
        return Candidates(places, columns, raw[:alive][order], len(processors))

    def raw_logit(self, id: int) -> float:
        """Of a candidate that is left, as the model gave it."""
        return float(self.raw[np.searchsorted(self.ids[0, : len(self.raw)], id)])


def width_on_host(counts: Sequence[int], processors: Sequence[LogitsProcessor], vocabulary: int) -> int:
    """How many columns `Sampler` would have after these processors: records tell it, so it is the same.

    counts  candidates that were left after each
    """
    width = vocabulary
    for processor, count in zip(processors, counts, strict=True):
        if processor.keeps_best:
            width = 1
        elif count * 4 <= width:
            width = count
    return width
