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
from decodekit.device_logits import DeviceLogits
from decodekit.kv_cache import Slab
from decodekit.ops import Array

FIRST_CAPACITY = 256  # tokens a row holds at first


class Graph(Protocol):
    """A graph whose past and present are one memory."""

    spec: CacheSpec
    context_length: int

    @property
    def bytes_per_token(self) -> int: ...

    def slab(self, rows: int, capacity: int) -> Slab: ...

    def run(
        self,
        slab: Slab,
        first: int,
        tokens: Sequence[int],
        lengths: Sequence[int],
        last: int,
        adapters: Sequence[str | None],
        active: tuple[str, ...],
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
        self.slab = graph.slab(1, min(FIRST_CAPACITY, graph.context_length, fitting))
        self.lengths = [0] * max_rows
        self._adapters: list[str | None] = [None] * max_rows
        self._active: tuple[str, ...] = ()  # the adapters that take part in every call

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

    def open(self, slot: int, adapter: str | None) -> None:
        self.lengths[slot] = 0
        self._adapters[slot] = adapter
        if adapter is not None and adapter not in self._active:
            used = {one for one in self._adapters[: slot + 1] if one is not None}
            self._active = tuple(sorted(used))
            self.slab.bound.clear()  # they hold the matrices of those that took part before

    def read(self, slot: int, tokens: Sequence[int], *, last: int) -> Array:
        logits = self._run(slot, tokens, 1, last)
        self.lengths[slot] += len(tokens)
        return logits[0]

    def step(self, tokens: Sequence[int]) -> Array:
        rows = len(tokens)
        if not self._together:
            return np.concatenate([self.read(row, tokens[row : row + 1], last=1) for row in range(rows)])
        logits = self._run(0, tokens, rows, 1)
        for row in range(rows):
            self.lengths[row] += 1
        return logits.newest() if isinstance(logits, DeviceLogits) else logits[:, 0]

    def cut(self, slot: int, length: int) -> None:
        self.lengths[slot] = length

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        self.slab.copy(source, target, start, length)
        self.lengths[target] = length
        self._adapters[target] = self._adapters[source]

    def save(self, slot: int, start: int, stop: int) -> Array:
        return self.slab.save(slot, start, stop)

    def restore(self, slot: int, start: int, saved: Array) -> None:
        self.slab.restore(slot, start, saved)
        self.lengths[slot] = start + saved.shape[2]

    def _run(self, first: int, tokens: Sequence[int], rows: int, last: int) -> Array:
        stop = first + rows
        adapters, active = self._adapters[first:stop], self._active
        if not self._together:  # with its own alone, as if nobody else were there
            active = tuple(one for one in adapters if one is not None)
        return self._graph.run(self.slab, first, tokens, self.lengths[first:stop], last, adapters, active)

    def _bytes(self, rows: int, length: int) -> int:
        return rows * length * self._graph.bytes_per_token
