"""
Memory of a device: arrays that a graph reads and writes where they are, and the way to them.

onnxruntime allocates on every device but copies whole values only. So bytes are moved by a
graph: it has one node, Identity, and its input and output are bound to any two places.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from decodekit.onnx_session import Session, allocate
from decodekit.ops import Array

# An ONNX model of opset 17: y = Identity(x), both uint8 [n].
_IDENTITY = bytes.fromhex(
    "08083a390a100a017812017922084964656e746974791201635a100a0178120b0a09080212050a0312016e62100a0179"
    "120b0a09080212050a0312016e42021011"
)


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """A contiguous array in a device's memory, or a part of one.

    device   "cpu" or "cuda:1"
    pointer  where it begins
    owner    keeps it allocated
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    device: str
    pointer: int
    owner: Any

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def rows(self, first: int, stop: int) -> DeviceArray:
        """Rows [first, stop) of the first axis, in the same memory."""
        size = self.nbytes // self.shape[0]
        shape = (stop - first, *self.shape[1:])
        return DeviceArray(shape, self.dtype, self.device, self.pointer + first * size, self.owner)

    def flat(self) -> DeviceArray:
        """Its bytes, uint8 [n], in the same memory."""
        return DeviceArray((self.nbytes,), np.dtype(np.uint8), self.device, self.pointer, self.owner)


class DeviceMemory:
    """Allocates on a device, and moves bytes there, from there and within."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._mover = Session(_IDENTITY, device=device)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """A new array. MemoryError where there is no room."""
        kind = np.dtype(dtype)
        # An empty array has no place, but it is bound to one.
        value, pointer = allocate(shape if prod(shape) else (1,), kind, self.device)
        return DeviceArray(shape, kind, self.device, pointer, value)

    def move(self, source: DeviceArray | Array, target: DeviceArray | Array) -> None:
        """Copy a contiguous array over another of as many bytes, NumPy's being the host's."""
        if not source.nbytes:
            return
        binding = self._mover.binding()
        binding.input("x", _bytes(source))
        binding.output("y", _bytes(target))
        binding.run()

    def fetch(self, array: DeviceArray) -> Array:
        """The array on the host."""
        found = np.empty(array.shape, array.dtype)
        self.move(array, found)
        return found


def _bytes(array: DeviceArray | Array) -> DeviceArray | Array:
    if isinstance(array, DeviceArray):
        return array.flat()
    assert array.flags.c_contiguous, "not contiguous"
    return array.reshape(-1).view(np.uint8)
