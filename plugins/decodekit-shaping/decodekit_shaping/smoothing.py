"""Smoothing (quadratic sampling): depth below the best logit becomes its square. kalomaze, 2024."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor
from decodekit.ops import Array, array_namespace, keep
from decodekit.parameters import Real


def smoothing(logits: Array, factor: float | Array, curve: float | Array = 1.0) -> Array:
    """Bend logits: near the best the differences shrink, far from it they grow.

    logits  float [..., N], nats
    factor  >= 0, scalar or [..., 1]; 0 makes all candidates equal
    curve   >= 1, scalar or [..., 1]; 1 is a square, 3 a cube; above 3 candidates within
            (curve - 3) / (curve - 1) nats of the best rise above it

    A candidate further below the best than numbers go is removed.
    """
    xp = array_namespace(logits)
    best = xp.max(logits, axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        depth = best - logits
        within = depth < xp.inf
        depth = xp.where(within, depth, xp.zeros_like(depth))
        bent = best - factor * depth**2 * ((3 - curve) / 2 + (curve - 1) / 2 * depth)
    return keep(bent, within)


@dataclass(frozen=True)
class Smoothing(LogitsProcessor):
    """Bend logits by a quadratic: candidates near the best draw level, the rest sink; factor 0 is neutral.

    formula   d = l(i) - lmax, k = (3 - curve) / 2, s = (curve - 1) / 2;
              l'(i) = lmax - k * factor * d^2 + s * factor * d^3
    boundary  the best logit stays what it is; nothing is removed, but where d^2 is beyond all numbers
    ties      equals stay equal
    history   none
    neutral   factor = 0, by convention: a very small factor makes all candidates equal
    source    kalomaze, "quadratic sampling", github.com/oobabooga/text-generation-webui,
              pull requests 5403 and 5551, 2024
    """

    factor: Annotated[float, Real("[0, 100]", "weight of the square, 1 / nats", neutral=0)]
    curve: Annotated[float, Real("[1, 10]", "1 a square, 3 a cube; above 3 the best falls behind")] = 1.0

    def process(self, logits, step, state):
        return logits if self.factor == 0 else smoothing(logits, self.factor, self.curve)
