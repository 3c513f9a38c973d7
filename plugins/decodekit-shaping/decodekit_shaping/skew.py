"""
Skew sampling: the uniform number of an inverse-CDF draw, bent by a power.

turboderp, ExLlamaV2, 2024. There u becomes u^exp(-s) at the draw. That draws candidate i of the
ranked with probability F(i)^exp(s) - F(i - 1)^exp(s), which needs no random number.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor
from decodekit.ops import Array, softmax
from decodekit.parameters import Real


def skew(logits: Array, s: float) -> Array:
    """Raise the cumulative probabilities of the ranked candidates to exp(s), for one row.

    logits  float [N], nats
    s       above 0 moves mass to less likely candidates, below 0 to more likely ones; 0 changes nothing

    F is not subtracted, it would cancel: F(i)^a - F(i-1)^a = F(i)^a (1 - (1 - p(i) / F(i))^a).
    Equals share what falls to them together. A candidate whose probability is 0 in float64 is removed.
    """
    p, group, count = np.unique(-softmax(logits.astype(np.float64)), return_inverse=True, return_counts=True)
    mass = -p * count
    below = np.cumsum(mass)
    power = np.exp(s)
    with np.errstate(divide="ignore"):
        log_share = np.log(-np.expm1(power * np.log1p(-mass / below)))
    shaped = power * np.log(below) + log_share - np.log(count)
    return (shaped - shaped.max())[group].astype(logits.dtype)


@dataclass(frozen=True)
class Skew(LogitsProcessor):
    """Move mass to less likely (s > 0) or more likely (s < 0) candidates of the ranking; 0 is neutral.

    formula   p(1) >= p(2) >= ..., F(i) = p(1) + ... + p(i);
              p'(i) = F(i)^exp(s) - F(i - 1)^exp(s)
    boundary  nothing is removed, but what has probability 0 in float64
    ties      equals share alike what falls to them together
    history   none
    neutral   s = 0
    source    turboderp, github.com/turboderp-org/exllamav2, "skew", 2024; in closed form
    """

    s: Annotated[float, Real("[-10, 10]", "above 0 to less likely candidates", neutral=0)]

    def process(self, logits, step, state):
        return logits if self.s == 0 else np.stack([skew(row, self.s) for row in logits])
