"""Progress: one sequence just after a token was appended, as criteria and strategies look back at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from decodekit.history import History
from decodekit.ops import Array


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure the model was at one place, before every strategy.

    surprise  -ln of the probability of the token that was chosen, nats
    entropy   of the distribution, nats
    """

    surprise: float
    entropy: float

    @staticmethod
    def of(logits: Array, id: int) -> Confidence:
        """From logits float [V]. O(V)."""
        shifted = (logits - logits.max()).astype(np.float64)
        weights = np.exp(shifted)
        total = weights.sum()
        alive = weights > 0
        mean = float((weights[alive] * shifted[alive]).sum() / total)
        return Confidence(float(np.log(total) - shifted[id]), float(np.log(total)) - mean)


CERTAIN = Confidence(0.0, 0.0)  # of a token that nobody drew


@dataclass(frozen=True, slots=True)
class Progress:
    """One sequence, just after a token was appended.

    history  prompt and generated ids, the new one last
    text     the generated ids as text
    start    where in `text` the new token's part begins, characters
    elapsed  seconds since the request began
    starts   where each generated token's part begins, the new one last
    confidence  of each generated token, for criteria that ask for it; else ()
    """

    history: History
    text: str
    start: int
    elapsed: float = 0.0
    starts: Sequence[int] = ()
    confidence: Sequence[Confidence] = ()
