"""Logits that stay in a device's memory until somebody looks at them."""

from __future__ import annotations

from typing import Any

import numpy as np

from decodekit.device_memory import DeviceArray, DeviceMemory
from decodekit.ops import Array


class DeviceLogits:
    """Logits [B, last, V] on a device. Rows of them are fetched, as float32 [.., V], where they are indexed.

    array  [B, T, V], of which the last places of T are these
    """

    def __init__(self, array: DeviceArray, last: int, memory: DeviceMemory) -> None:
        self._array, self._last, self._memory = array, last, memory

    def __getitem__(self, row: int) -> Array:
        """Of one row, float32 [last, V]."""
        whole = self._memory.fetch(self._array.rows(row, row + 1))[0]
        return whole[len(whole) - self._last :].astype(np.float32, copy=False)

    def newest(self) -> DeviceRows:
        """What follows the last token of each row, where a call had one token."""
        rows, tokens, vocabulary = self._array.shape
        assert tokens == 1
        shape, dtype = (rows, vocabulary), self._array.dtype
        array = DeviceArray(shape, dtype, self._array.device, self._array.pointer, self._array.owner)
        return DeviceRows(array, self._memory)


class DeviceRows:
    """Logits [R, V] on a device, fetched as float32 where rows of them are asked for.

    array  for graphs that read it where it is
    """

    def __init__(self, array: DeviceArray, memory: DeviceMemory) -> None:
        self.array, self._memory = array, memory

    def __getitem__(self, rows: slice | list[int]) -> Array:
        if not isinstance(rows, slice):
            return self[:][rows]
        start, stop, _ = rows.indices(self.array.shape[0])
        found: Any = self._memory.fetch(self.array.rows(start, stop))
        return found.astype(np.float32, copy=False)
