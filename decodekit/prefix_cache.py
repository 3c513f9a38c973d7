"""
Prefixes of prompts that were read before: what the model remembers of them, to be copied, not read again.

Kept in whole chunks, the ones in which every prompt is read. So a chunk that is copied holds
the very numbers that reading would give, and no token depends on who was there before.
A chunk is found by its ids, compared in full, behind the chunk before it, and the first by
its family, the tenant and the adapter: nobody finds what another one left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from itertools import count
from typing import Any

from decodekit.ops import Array

Key = tuple[Hashable, bytes]  # the family or the number of the chunk before; ids


class PrefixCache:
    """Chunks of prompts, the least recently used of which go when `max_bytes` are full.

    chunk  tokens of one
    """

    def __init__(self, chunk: int, max_bytes: int) -> None:
        self.chunk = chunk
        self.max_bytes = max_bytes
        self.bytes = 0
        self._chunks: OrderedDict[Key, tuple[Array, int]] = OrderedDict()
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._chunks)

    def find(self, family: Hashable, prompt: Array) -> list[Array]:
        """The chunks known of a prompt from its start; never all of it, so that a token is left to read."""
        keys, _ = self._known(family, prompt, len(prompt) - 1)
        self._touch(keys)
        return [self._chunks[key][0] for key in keys]

    def wants(self, family: Hashable, prompt: Array, stop: int) -> bool:
        """Whether the chunk that ends at `stop` is worth saving: the ones before it are there, it is not."""
        whole = stop % self.chunk == 0 and stop < len(prompt)
        if not (self.max_bytes > 0 and whole):
            return False
        keys, _ = self._known(family, prompt, stop)
        return len(keys) == stop // self.chunk - 1

    def add(self, family: Hashable, prompt: Array, stop: int, saved: Any) -> None:
        """Keep what a model remembers of the chunk of `prompt` that ends at `stop`, which it wants."""
        if saved is None or saved.nbytes > self.max_bytes:
            return
        keys, before = self._known(family, prompt, stop)
        key = (before, prompt[stop - self.chunk : stop].tobytes())
        self._chunks[key] = (saved, next(self._numbers))
        self.bytes += _size(key, saved)
        self._touch([*keys, key])
        while self.bytes > self.max_bytes:
            oldest, (chunk, _) = self._chunks.popitem(last=False)
            self.bytes -= _size(oldest, chunk)

    def _known(self, family: Hashable, prompt: Array, stop: int) -> tuple[list[Key], Hashable]:
        """The keys of the chunks that are there up to `stop`, and what the next one's begins with."""
        keys: list[Key] = []
        before: Hashable = family
        for end in range(self.chunk, stop + 1, self.chunk):
            key = (before, prompt[end - self.chunk : end].tobytes())
            if key not in self._chunks:
                break
            keys.append(key)
            before = self._chunks[key][1]
        return keys, before

    def _touch(self, keys: list[Key]) -> None:
        """Used just now, the first the newest: the end of a prompt goes before its start."""
        for key in reversed(keys):
            self._chunks.move_to_end(key)


def _size(key: Key, saved: Array) -> int:
    return len(key[1]) + int(saved.nbytes)
