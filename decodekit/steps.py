"""
An answer that also takes tokens nobody drew, goes back, and is copied.

States are values: going back is a shorter list of them. The model is called by others.
"""

from __future__ import annotations

import numpy as np

from decodekit.answer import Answer, Token
from decodekit.graph_sampling.candidates import Candidates
from decodekit.ops import Array
from decodekit.preparation import Prepared
from decodekit.processors import State
from decodekit.progress import CERTAIN


class Steps(Answer):
    """The sequence of a session."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(**prepared.parts(prepared.settings.sample))
        self._prepared = prepared
        self._before: list[tuple[State, ...]] = []

    def take(self, logits: Array | None, candidates: Candidates | None = None) -> Token:
        length = len(self.ids)
        try:
            return super().take(logits, candidates)
        except BaseException:
            self.cut(length)
            raise

    def force(self, id: int, logits: Array | None = None) -> None:
        """Append a token; `logits` [1, V] of what comes next are needed where a strategy remembers."""
        self._before.append(self.states)
        self._starts.append(len(self.text))
        if logits is not None:
            step = self.step(logits)
            stages, _, _ = self._sampler.shape(logits, step, self.states)
            self.states = self._sampler.accept(np.asarray([id]), stages, step, self.states)
        if self._watched:
            self._confidence.append(CERTAIN)
        self.sequence.append(id)
        self._look()
        assert self._detokenizer is not None
        self.text += self._detokenizer.push(id)

    def copy(self) -> Steps:
        """The same, to be continued on its own."""
        twin = Steps(self._prepared)
        twin.sequence, twin.states, twin.text = self.sequence.copy(), self.states, self.text
        twin.began = self.began
        twin._before, twin._starts = list(self._before), list(self._starts)
        twin._confidence = list(self._confidence)
        twin.cut(twin.sequence.length)
        return twin
