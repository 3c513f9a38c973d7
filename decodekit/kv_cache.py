"""
Key-value caches: what a graph wrote for the tokens it read.

A slab is memory for several sequences. The caches are values to their user: a length and
the memory behind it. In place, the memory is a slab that calls append to, so an older value
may be continued, but only once; a value whose tail was written over since is refused, never
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from decodekit.bundle import CacheSpec
from decodekit.errors import ContractError
from decodekit.ops import Array


class Slab:
    """Keys and values of several sequences: per layer and side [rows, kv_heads, capacity, head_dim].

    A row is a place for one sequence. What lies in it beyond the sequence's length means nothing.
    """

    def __init__(self, spec: CacheSpec, rows: int, capacity: int) -> None:
        self.spec = spec
        self.rows = rows
        self.capacity = capacity
        self.arrays: list[Array] = [np.zeros(self._shape(), spec.array_dtype) for _ in range(2 * spec.layers)]
        self.bound: dict[Any, Any] = {}  # the runtime's bindings of these arrays

    def resize(self, rows: int, capacity: int, lengths: Sequence[int]) -> None:
        """Change the size; the first `lengths[r]` places of row r keep their content.

        One array after the other, so that only one of them exists twice at a time. Where there is
        no memory for that, what they held is lost and they are as small as can be.
        """
        self.rows, self.capacity = rows, capacity
        self.bound.clear()
        try:
            for i, old in enumerate(self.arrays):
                self.arrays[i] = new = np.zeros(self._shape(), self.spec.array_dtype)
                for row, length in enumerate(lengths):
                    new[row, :, :length] = old[row, :, :length]
        except MemoryError:
            self.rows, self.capacity = 1, 1
            self.arrays = [np.zeros(self._shape(), self.spec.array_dtype) for _ in self.arrays]
            raise

    def fresh(self, rows: int, capacity: int) -> Slab:
        """Another one of that size, in the same kind of memory."""
        return type(self)(self.spec, rows, capacity)

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        """Write places [start, stop) of one row into another."""
        for array in self.arrays:
            array[target, :, start:stop] = array[source, :, start:stop]

    def save(self, row: int, start: int, stop: int) -> Array:
        """A copy of places [start, stop) of a row, [2 * layers, kv_heads, stop - start, head_dim]."""
        return np.stack([array[row, :, start:stop] for array in self.arrays])

    def restore(self, row: int, start: int, saved: Array) -> None:
        """Write what `save` gave to places from `start` on."""
        for array, part in zip(self.arrays, saved, strict=True):
            array[row, :, start : start + part.shape[1]] = part

    def _shape(self) -> tuple[int, int, int, int]:
        return (self.rows, self.spec.kv_heads, self.capacity, self.spec.head_dim)


@dataclass(slots=True)
class Writers:
    """Which call wrote each place of a one-row slab.

    Two values that end in the same place but came from different calls can be told apart.

    adapter  under which they are written; None: under none
    """

    slab: Slab
    adapter: str | None = None
    calls: int = 0
    by_place: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def write(self, start: int, stop: int) -> int:
        """The number of the call that now writes places [start, stop)."""
        self.calls += 1
        if stop > len(self.by_place):
            self.by_place = np.concatenate([self.by_place, np.zeros(stop, np.int64)])
        self.by_place[start:stop] = self.calls
        return self.calls


@dataclass(frozen=True, slots=True)
class InPlaceCache:
    """The first `length` places of a slab's row 0, as they were after call number `call`."""

    writers: Writers
    length: int = 0
    call: int = 0

    @property
    def slab(self) -> Slab:
        return self.writers.slab

    @property
    def adapter(self) -> str | None:
        return self.writers.adapter

    def keep(self, length: int) -> InPlaceCache:
        """The cache after the first `length` tokens; nothing is copied."""
        return InPlaceCache(self.writers, length, int(self.writers.by_place[length - 1]) if length else 0)

    def copy(self) -> InPlaceCache:
        """The same in memory of its own, so that both can be continued."""
        self.check()
        slab = self.slab.fresh(1, self.slab.capacity)
        slab.restore(0, 0, self.slab.save(0, 0, self.length))
        writers = Writers(slab, self.writers.adapter)
        return InPlaceCache(writers, self.length, writers.write(0, self.length))

    def check(self) -> None:
        """Raise ContractError if another continuation wrote over these places."""
        if self.length and self.writers.by_place[self.length - 1] != self.call:
            raise ContractError(
                f"this cache of {self.length} tokens was written over by another continuation; "
                "continue the newest one, or read the tokens again into a new cache"
            )

    def extended(self, tokens: int) -> InPlaceCache:
        """The cache after `tokens` more were written."""
        after = self.length + tokens
        return InPlaceCache(self.writers, after, self.writers.write(self.length, after))


@dataclass(frozen=True, slots=True)
class ConcatenatingCache:
    """Arrays that grow: each call gives new ones, so every value stays usable.

    tensors  one per layer and side, [1, kv_heads, length, head_dim]
    adapter  under which they were made; None: under none
    """

    tensors: Sequence[Array]
    length: int = 0
    adapter: str | None = None

    def keep(self, length: int) -> ConcatenatingCache:
        """The cache after the first `length` tokens."""
        if length == self.length:
            return self
        kept = [np.ascontiguousarray(t[:, :, :length]) for t in self.tensors]
        return replace(self, tensors=kept, length=length)

    def copy(self) -> ConcatenatingCache:
        """Itself: nothing writes to it."""
        return self
