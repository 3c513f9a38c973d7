"""A companion: what the model says where the same answer follows another prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from decodekit.errors import ContextError
from decodekit.model import Model
from decodekit.ops import Array

T = TypeVar("T")

CHUNK = 128  # tokens that are read in one call


class Companion:
    """The other sequence and its cache. It reads what is new in the answer when it is asked.

    call  runs a function on the thread that owns the model
    """

    def __init__(
        self, model: Model, call: Callable[[Callable[[], Array]], Array], prompt: Sequence[int]
    ) -> None:
        self._model, self._call = model, call
        self._prompt = np.asarray(prompt, np.int64)
        self._cache, self._read = model.new_cache(), self._prompt[:0]

    def __call__(self, generated: Array) -> Array:
        """Logits float32 [1, V] of what follows; tokens that were taken back are forgotten."""
        ids = np.concatenate([self._prompt, generated])
        if len(ids) > self._model.context_length:
            raise ContextError(
                f"a companion prompt of {len(self._prompt)} tokens and {len(generated)} of the answer "
                f"exceed the context window of {self._model.context_length}; shorten it, or ask for less"
            )
        return self._call(lambda: self._predict(ids))

    def _predict(self, ids: Array) -> Array:
        known = min(len(self._read), len(ids) - 1)
        differ = np.flatnonzero(self._read[:known] != ids[:known])
        known = int(differ[0]) if len(differ) else known
        self._cache, self._read = self._cache.keep(known), ids[:known]
        while known < len(ids):
            chunk = ids[known : known + CHUNK]
            logits, self._cache = self._model(chunk, self._cache, last=1)
            known += len(chunk)
        self._read = ids.copy()
        return logits[-1:].copy()
