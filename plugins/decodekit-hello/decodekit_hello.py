from dataclasses import dataclass

import numpy as np

from decodekit import LogitsProcessor, hookimpl


@dataclass(frozen=True)
class Contrarian(LogitsProcessor):
    """Drop the best candidate where another is at least p times as probable, p in (0, 1]."""

    p: float

    def process(self, logits, step, state):
        best = logits.max(axis=-1, keepdims=True)
        others = np.where(logits == best, -np.inf, logits)
        close = others.max(axis=-1, keepdims=True) >= best + np.log(self.p)
        return np.where(close, others, logits)


@hookimpl
def register_logits_processors(register):
    register("contrarian", Contrarian)
