"""
Log-probabilities of a token and its alternatives, at a named place of the chain.

    "raw"      the model's own distribution, before every strategy
    a name     after the last strategy of that name in the chain
    "final"    what the token was drawn from
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decodekit.errors import ParameterError
from decodekit.ops import Array, log_softmax
from decodekit.parameters import whole
from decodekit.sampling import Draw

MAX_TOP = 20


@dataclass(frozen=True)
class Logprobs:
    """Looks at a draw.

    top    alternatives to give, in [0, 20]
    at     "raw", "final", or a strategy of the chain
    names  of the chain's strategies, in order
    """

    top: int = 0
    at: str = "raw"
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        whole("logprobs", self.top, f"[0, {MAX_TOP}]")
        if self.at not in ("raw", "final", *self.names):
            places = ", ".join(repr(n) for n in ("raw", *self.names, "final"))
            raise ParameterError(f"logprobs_at must be one of {places} for this chain, got {self.at!r}")

    def __call__(self, logits: Array, draw: Draw, id: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        """Log-probability of `id`, nats; and the `top` best ids there with theirs, best first."""
        row, ids = self._look(logits, draw)
        logp = log_softmax(row.astype(np.float64))
        if ids is None:
            own = logp[id]
        else:
            (column,) = np.flatnonzero(ids == id)
            own = logp[column]
        best = np.argsort(-logp, kind="stable")[: self.top]
        alive = [i for i in best if logp[i] > -np.inf]
        return float(own), tuple((int(i if ids is None else ids[i]), float(logp[i])) for i in alive)

    def _look(self, logits: Array, draw: Draw) -> tuple[Array, Array | None]:
        if self.at == "raw" or not draw.stages:
            return logits[0], None
        place = -1 if self.at == "final" else len(self.names) - 1 - self.names[::-1].index(self.at)
        stage = draw.stages[place]
        return stage.logits[0], stage.ids[0]
