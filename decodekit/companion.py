"""A companion: what the model says where the same answer follows another prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from decodekit.cached_model import PIECE, CachedModel
from decodekit.errors import ContextError
from decodekit.model import Model
from decodekit.ops import Array


class Companion:
    """The other sequence. It reads what is new in the answer when it is asked.

    call  runs a function on the thread that owns the model
    """

    def __init__(
        self,
        model: Model,
        call: Callable[[Callable[[], Array]], Array],
        prompt: Sequence[int],
        adapter: str | None,
    ) -> None:
        self._model, self._call = CachedModel(model, adapter), call
        self._prompt = np.asarray(prompt, np.int64)

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
        while len(ids) - (known := self._model.known(ids)) > PIECE:
            self._model.read(ids[: known + PIECE], last=0)
        return self._model.read(ids, last=1).copy()
