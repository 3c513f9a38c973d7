"""
Log-probabilities of a token and its alternatives, at a named place of the chain.

    "raw"      the model's own distribution, before every strategy
    a name     after the last strategy of that name in the chain
    "final"    what the token was drawn from

They are float64 log-softmax of float32 logits: over all candidates there, so they sum to 1.
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
            places = ", ".join(map(repr, dict.fromkeys(("raw", *self.names, "final"))))
            raise ParameterError(f"logprobs_at must be one of {places} for this chain, got {self.at!r}")

    def __call__(self, logits: Array, draw: Draw, id: int) -> tuple[float, tuple[tuple[int, float], ...]]:
        """Log-probability of `id`, nats; and the `top` best ids there with theirs, best first."""
        row, ids = self._look(logits, draw)
        logp = log_softmax(row.astype(np.float64))
        if ids is None:
            return float(logp[id]), best(logp, self.top)
        (column,) = np.flatnonzero(ids == id)
        return float(logp[column]), tuple((int(ids[i]), value) for i, value in best(logp, self.top))

    def _look(self, logits: Array, draw: Draw) -> tuple[Array, Array | None]:
        if self.at == "raw" or not draw.stages:
            return logits[0], None
        place = -1 if self.at == "final" else len(self.names) - 1 - self.names[::-1].index(self.at)
        stage = draw.stages[place]
        return stage.logits[0], stage.ids[0]


def best(logp: Array, top: int) -> tuple[tuple[int, float], ...]:
    """The `top` columns of logp [N] with the largest values and these, best first; -inf is none.

    Of equals the first column.
    """
    if not top:
        return ()
    bound = np.partition(logp, -top)[-top] if top < len(logp) else -np.inf
    columns = np.flatnonzero((logp >= bound) & (logp > -np.inf))
    columns = columns[np.argsort(-logp[columns], kind="stable")[:top]]
    return tuple((int(i), float(logp[i])) for i in columns)
