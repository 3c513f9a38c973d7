"""
Prefixes of prompts that were read before: what the model remembers of them, to be copied, not read again.

Kept in whole chunks, the ones in which every prompt is read. So a chunk that is copied holds
the very numbers that reading would give, and no token depends on who was there before.
A chunk is found by all ids from the start of the prompt to its end, compared in full, and
belongs to one tenant.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from decodekit.ops import Array


class PrefixCache:
    """Chunks of prompts, the least recently used of which go when `max_bytes` are full.

    chunk  tokens of one
    """

    def __init__(self, chunk: int, max_bytes: int) -> None:
        self.chunk = chunk
        self.max_bytes = max_bytes
        self.bytes = 0
        self._chunks: OrderedDict[tuple[str, bytes], Array] = OrderedDict()

    def __len__(self) -> int:
        return len(self._chunks)

    def find(self, tenant: str, prompt: Array) -> list[Array]:
        """The chunks known of a prompt from its start; never all of it, so that a token is left to read."""
        found = []
        for stop in range(self.chunk, len(prompt), self.chunk):
            key = (tenant, prompt[:stop].tobytes())
            if key not in self._chunks:
                break
            self._chunks.move_to_end(key)
            found.append(self._chunks[key])
        return found

    def wants(self, tenant: str, prompt: Array, stop: int) -> bool:
        """Whether the chunk that ends at `stop` is worth saving."""
        whole = stop % self.chunk == 0 and stop < len(prompt)
        return self.max_bytes > 0 and whole and (tenant, prompt[:stop].tobytes()) not in self._chunks

    def add(self, tenant: str, prompt: Array, stop: int, saved: Any) -> None:
        """Keep what a model remembers of the chunk of `prompt` that ends at `stop`."""
        if saved is None or saved.nbytes > self.max_bytes:
            return
        self._chunks[tenant, prompt[:stop].tobytes()] = saved
        self.bytes += saved.nbytes
        while self.bytes > self.max_bytes:
            _, oldest = self._chunks.popitem(last=False)
            self.bytes -= oldest.nbytes
