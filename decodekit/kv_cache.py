"""
Key-value caches: what a graph wrote for the tokens it read.

Both kinds are values to their user: a length and the memory behind it. In place, the
memory is one buffer that calls append to, so an older value may be continued, but only
once; a value whose tail was written over since is refused, never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decodekit.bundle import CacheSpec
from decodekit.errors import ContractError
from decodekit.ops import Array


class Buffer:
    """Keys and values of one sequence, [1, kv_heads, capacity, head_dim] per layer and side.

    `writer[t]` is the number of the call that wrote place t: two values that end in the
    same place but came from different calls can be told apart.
    """

    def __init__(self, spec: CacheSpec, capacity: int) -> None:
        self.spec = spec
        self.capacity = capacity
        self.calls = 0
        self.writer = np.zeros(capacity, np.int64)
        shape = (1, spec.kv_heads, capacity, spec.head_dim)
        self.arrays = [np.zeros(shape, spec.dtype) for _ in range(2 * spec.layers)]
        self.bound: Any = None  # the runtime's binding of these arrays, made once

    def grown(self, capacity: int) -> Buffer:
        """A larger buffer with the same content."""
        larger = Buffer(self.spec, capacity)
        larger.calls = self.calls
        larger.writer[: self.capacity] = self.writer
        for new, old in zip(larger.arrays, self.arrays, strict=True):
            new[:, :, : self.capacity] = old
        return larger


@dataclass(frozen=True, slots=True)
class InPlaceCache:
    """The first `length` places of a buffer, as they were after call number `call`."""

    buffer: Buffer
    length: int = 0
    call: int = 0

    def keep(self, length: int) -> InPlaceCache:
        """The cache after the first `length` tokens; nothing is copied."""
        return InPlaceCache(self.buffer, length, int(self.buffer.writer[length - 1]) if length else 0)

    def check(self) -> None:
        """Raise ContractError if another continuation wrote over these places."""
        if self.length and self.buffer.writer[self.length - 1] != self.call:
            raise ContractError(
                f"this cache of {self.length} tokens was written over by another continuation; "
                "continue the newest one, or read the tokens again into a new cache"
            )

    def extended(self, tokens: int, buffer: Buffer) -> InPlaceCache:
        """The cache after `tokens` more were written to `buffer`."""
        buffer.calls += 1
        buffer.writer[self.length : self.length + tokens] = buffer.calls
        return InPlaceCache(buffer, self.length + tokens, buffer.calls)


@dataclass(frozen=True, slots=True)
class ConcatenatingCache:
    """Arrays that grow: each call gives new ones, so every value stays usable.

    tensors  one per layer and side, [1, kv_heads, length, head_dim]
    """

    tensors: Sequence[Array]
    length: int = 0

    def keep(self, length: int) -> ConcatenatingCache:
        """The cache after the first `length` tokens."""
        return ConcatenatingCache([np.ascontiguousarray(t[:, :, :length]) for t in self.tensors], length)
