"""
Slots in a slab: sequences of different lengths take one token each in one call of the graph.

A prompt is read through a view of its own row, while the others wait in theirs; nothing is
copied. The slab grows by doubling, as far as the memory allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from decodekit.bundle import CacheSpec
from decodekit.kv_cache import Slab
from decodekit.ops import Array

FIRST_CAPACITY = 256  # tokens a row holds at first


class Graph(Protocol):
    """A graph whose past and present are one memory."""

    spec: CacheSpec
    context_length: int

    @property
    def bytes_per_token(self) -> int: ...

    def run(
        self, slab: Slab, first: int, tokens: Sequence[int], lengths: Sequence[int], last: int
    ) -> Array: ...


class SlabSlots:
    """The fast `Slots`.

    max_rows   sequences at most
    max_bytes  memory of the slab at most
    together   False: one call per sequence, so that no neighbour can change a kernel's rounding
    """

    def __init__(self, graph: Graph, *, max_rows: int, max_bytes: int, together: bool) -> None:
        self._graph = graph
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._together = together
        fitting = max(1, max_bytes // graph.bytes_per_token)
        self.slab = Slab(graph.spec, 1, min(FIRST_CAPACITY, graph.context_length, fitting))
        self.lengths = [0] * max_rows

    def fits(self, rows: int, length: int) -> bool:
        return rows <= self._max_rows and self._bytes(rows, length) <= self._max_bytes

    def reserve(self, rows: int, length: int) -> None:
        slab = self.slab
        if rows <= slab.rows and length <= slab.capacity:
            return
        more_rows = slab.rows if rows <= slab.rows else min(max(rows, 2 * slab.rows), self._max_rows)
        longer = slab.capacity if length <= slab.capacity else max(length, 2 * slab.capacity)
        if self._bytes(more_rows, longer) > self._max_bytes:  # no room to grow ahead; what was admitted fits
            longest = max(length, *self.lengths)
            more_rows, longer = rows, max(longest, min(longer, self._max_bytes // self._bytes(rows, 1)))
        longer = min(longer, self._graph.context_length)
        slab.resize(more_rows, longer, self.lengths[: min(more_rows, slab.rows)])

    def read(self, slot: int, tokens: Sequence[int], *, last: int) -> Array:
        logits = self._graph.run(self.slab, slot, tokens, self.lengths[slot : slot + 1], last)
        self.lengths[slot] += len(tokens)
        return logits[0]

    def step(self, tokens: Sequence[int]) -> Array:
        rows = len(tokens)
        if not self._together:
            return np.concatenate([self.read(row, tokens[row : row + 1], last=1) for row in range(rows)])
        logits = self._graph.run(self.slab, 0, tokens, self.lengths[:rows], 1)
        for row in range(rows):
            self.lengths[row] += 1
        return logits[:, 0]

    def cut(self, slot: int, length: int) -> None:
        self.lengths[slot] = length

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        self.slab.copy(source, target, start, length)
        self.lengths[target] = length

    def save(self, slot: int, start: int, stop: int) -> Array:
        return self.slab.save(slot, start, stop)

    def restore(self, slot: int, start: int, saved: Array) -> None:
        self.slab.restore(slot, start, saved)
        self.lengths[slot] = start + saved.shape[2]

    def _bytes(self, rows: int, length: int) -> int:
        return rows * length * self._graph.bytes_per_token
