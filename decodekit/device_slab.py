"""A slab in a device's memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from decodekit.bundle import CacheSpec
from decodekit.device_memory import DeviceArray, DeviceMemory
from decodekit.kv_cache import Slab
from decodekit.ops import Array


class DeviceSlab(Slab):
    """`Slab` where a graph reads and writes it without moving it.

    The places of one head lie together, so what is copied is copied head by head.
    """

    def __init__(self, spec: CacheSpec, rows: int, capacity: int, memory: DeviceMemory) -> None:
        self.spec, self.rows, self.capacity = spec, rows, capacity
        self.memory = memory
        self.arrays = [memory.zeros(self._shape(), spec.array_dtype) for _ in range(2 * spec.layers)]
        self.bound = {}

    def fresh(self, rows: int, capacity: int) -> DeviceSlab:
        return DeviceSlab(self.spec, rows, capacity, self.memory)

    def resize(self, rows: int, capacity: int, lengths: Sequence[int]) -> None:
        before = self.capacity
        self.rows, self.capacity = rows, capacity
        self.bound.clear()
        try:
            for i, old in enumerate(self.arrays):
                new = self.memory.zeros(self._shape(), self.spec.array_dtype)
                for row, length in enumerate(lengths):
                    if length:
                        source = self._heads(old, row, 0, length, before)
                        for part, place in zip(source, self._heads(new, row, 0, length), strict=True):
                            self.memory.move(part, place)
                self.arrays[i] = new
        except MemoryError:
            self.rows, self.capacity = 1, 1
            self.arrays = [self.memory.zeros(self._shape(), self.spec.array_dtype) for _ in self.arrays]
            raise

    def copy(self, source: int, target: int, start: int, stop: int) -> None:
        if stop <= start:
            return
        for array in self.arrays:
            places = self._heads(array, target, start, stop)
            for part, place in zip(self._heads(array, source, start, stop), places, strict=True):
                self.memory.move(part, place)

    def save(self, row: int, start: int, stop: int) -> Array:
        shape = (len(self.arrays), self.spec.kv_heads, stop - start, self.spec.head_dim)
        saved = np.zeros(shape, self.spec.array_dtype)
        for array, heads in zip(self.arrays, saved if stop > start else (), strict=False):
            for part, head in zip(self._heads(array, row, start, stop), heads, strict=True):
                self.memory.move(part, head)
        return saved

    def restore(self, row: int, start: int, saved: Array) -> None:
        stop = start + saved.shape[2]
        for array, heads in zip(self.arrays, saved if stop > start else (), strict=False):
            for place, head in zip(self._heads(array, row, start, stop), heads, strict=True):
                self.memory.move(np.ascontiguousarray(head), place)

    def _heads(
        self, array: DeviceArray, row: int, start: int, stop: int, capacity: int | None = None
    ) -> Iterator[DeviceArray]:
        """Places [start, stop) of a row, for each head, of an array of that capacity."""
        capacity, heads = self.capacity if capacity is None else capacity, self.spec.kv_heads
        size = self.spec.head_dim * array.dtype.itemsize
        for head in range(heads):
            pointer = array.pointer + ((row * heads + head) * capacity + start) * size
            shape = (stop - start, self.spec.head_dim)
            yield DeviceArray(shape, array.dtype, array.device, pointer, array.owner)
