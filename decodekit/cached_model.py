"""A model with its cache of one sequence that changes: what is new is read, what changed is forgotten."""

from __future__ import annotations

import numpy as np

from decodekit.model import Model, new_cache
from decodekit.ops import Array

PIECE = 128  # tokens of a long text that are read in one call


class CachedModel:
    """Reads a sequence of ids, int64 [T], as it goes on, goes back and goes on in another way."""

    def __init__(self, model: Model, adapter: str | None = None) -> None:
        self.context_length = model.context_length
        self._model, self._cache = model, new_cache(model, adapter)
        self._read = np.zeros(0, np.int64)

    def known(self, ids: Array) -> int:
        """How many of these were read before, the last one left out."""
        known = min(len(self._read), len(ids) - 1)
        same = np.flatnonzero(self._read[:known] != ids[:known])
        return int(same[0]) if len(same) else known

    def read(self, ids: Array, *, last: int) -> Array:
        """What follows the `last` ones of these, float32 [last, V]; what is not known of them in one call."""
        known = self.known(ids)
        logits, self._cache = self._model(ids[known:], self._cache.keep(known), last=last)
        self._read = ids.copy()
        return logits
