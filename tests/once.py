"""A strategy with memory, registered nowhere."""

import numpy as np

from decodekit import LogitsProcessor
from decodekit.ops import keep


class Once(LogitsProcessor):
    """Every token once, as long as there are others. First of a chain, so that columns are ids."""

    def init(self, batch):
        return ((),) * batch

    def process(self, logits, step, seen):
        out = np.stack([keep(r, ~np.isin(i, list(s))) for r, i, s in zip(logits, step.ids, seen)])
        return np.where(np.isfinite(out).any(axis=-1, keepdims=True), out, logits)

    def accept(self, logits, column, seen):
        return tuple((*s, int(c)) for s, c in zip(seen, column))
