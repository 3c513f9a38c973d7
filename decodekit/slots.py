"""
Slots: where sequences live that decode together.

A slot holds the tokens of one sequence. Slots 0 to R - 1 take one token each in one step;
any slot may read several tokens at once. Going back is a shorter length. Which request
lives where is the engine's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from decodekit.model import Cache, Model, new_cache
from decodekit.ops import Array


class Slots(Protocol):
    """What the engine needs of a model."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens in each."""

    def fits(self, rows: int, length: int) -> bool:
        """Whether that many slots of that many tokens are within the memory allowed."""

    def reserve(self, rows: int, length: int) -> None:
        """Make room for that many slots of that many tokens; what is in them stays."""

    def open(self, slot: int, adapter: str | None) -> None:
        """Empty a slot for a sequence under an adapter; the slots before it are those in use."""

    def read(self, slot: int, tokens: Sequence[int], *, last: int) -> Array:
        """Append tokens to a slot; logits of what follows the `last` ones, float32 [last, V]."""

    def step(self, tokens: Sequence[int]) -> Array:
        """Append one token to each of slots 0 to R - 1; logits float32 [R, V], valid until the next step."""

    def cut(self, slot: int, length: int) -> None:
        """Forget what came after the first `length` tokens of a slot."""

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        """Make tokens [start, length) of a slot those of another; before `start` they are the same."""

    def save(self, slot: int, start: int, stop: int) -> Any:
        """What the model remembers of tokens [start, stop) of a slot, an array; None where it cannot tell."""

    def restore(self, slot: int, start: int, saved: Any) -> None:
        """Append what `save` gave behind the first `start` tokens."""


class OneByOne:
    """Slots over any `Model`: a step is one call per sequence. Right for every graph, fast for none."""

    def __init__(self, model: Model, *, max_rows: int, max_bytes: int) -> None:
        self._model = model
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._bytes_per_token = getattr(model, "bytes_per_token", 0)
        self._caches: list[Cache] = []
        self._adapters: list[str | None] = []

    @property
    def lengths(self) -> Sequence[int]:
        return [cache.length for cache in self._caches]

    def fits(self, rows: int, length: int) -> bool:
        return rows <= self._max_rows and rows * length * self._bytes_per_token <= self._max_bytes

    def reserve(self, rows: int, length: int) -> None:
        while len(self._caches) < rows:
            self._caches.append(self._model.new_cache())
            self._adapters.append(None)

    def open(self, slot: int, adapter: str | None) -> None:
        self._adapters[slot] = adapter
        self.cut(slot, 0)

    def read(self, slot: int, tokens: Sequence[int], *, last: int) -> Array:
        logits, self._caches[slot] = self._model(np.asarray(tokens), self._caches[slot], last=last)
        return logits

    def step(self, tokens: Sequence[int]) -> Array:
        return np.concatenate(
            [self.read(slot, tokens[slot : slot + 1], last=1) for slot in range(len(tokens))]
        )

    def cut(self, slot: int, length: int) -> None:
        cache = self._caches[slot]
        self._caches[slot] = cache.keep(length) if length else new_cache(self._model, self._adapters[slot])

    def copy(self, source: int, target: int, length: int, start: int = 0) -> None:
        self._caches[target] = self._caches[source].keep(length).copy()
        self._adapters[target] = self._adapters[source]

    def save(self, slot: int, start: int, stop: int) -> None:
        return None

    def restore(self, slot: int, start: int, saved: Any) -> None:
        raise AssertionError("nothing was saved")
