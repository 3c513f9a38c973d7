"""
Locally typical sampling.

Meister et al., "Locally Typical Sampling", TACL 11, 2023, arXiv:2202.00666.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import SMALL, Array, array_namespace, entropy, keep, log_softmax
from decodekit.parameters import Real
from decodekit.processors import LogitsProcessor, State, Step

_RINGS = (*np.geomspace(0.25, 128.0, 29).tolist(), np.inf)  # nats; beyond 128 lies no mass in float32


def typical(logits: Array, p: float | Array) -> Array:
    """Keep the candidates whose surprise is nearest the expected one, until their mass reaches p.

    logits  float [..., N], nats
    p       probability mass in [0, 1], scalar or [..., 1]; 0 keeps the most typical

    Candidates as typical as the last one kept are kept too, so the result does not
    depend on the order of the columns.
    """
    xp = array_namespace(logits)
    log_p = log_softmax(logits)
    distance = xp.abs(log_p + entropy(log_p))
    order = xp.argsort(distance, axis=-1)
    nearest = xp.take_along_axis(xp.exp(log_p), order, axis=-1)
    mass = xp.cumulative_sum(nearest, axis=-1, dtype=xp.float64)
    short = xp.sum(xp.astype(mass < p, xp.int64), axis=-1, keepdims=True)
    last = xp.take_along_axis(order, xp.clip(short, max=logits.shape[-1] - 1), axis=-1)
    return keep(logits, distance <= xp.take_along_axis(distance, last, axis=-1))


def typical_pruned(logits: Array, p: float) -> Array:
    """What `typical` gives for one row, float [N].

    Rings of growing distance are weighed one after the other; only the one in which the
    mass reaches p is sorted.
    """
    log_p = log_softmax(logits)
    distance = np.abs(log_p + entropy(log_p))
    probability = np.exp(log_p)
    inside, inner = 0.0, -1.0
    for outer in _RINGS:
        ring = np.flatnonzero((distance > inner) & (distance <= outer))
        mass = inside + probability[ring].sum(dtype=np.float64)
        if len(ring) and mass >= p:
            break
        inside, inner = mass, outer
    else:
        return logits  # rounding: all of them together fall short of p
    ring = ring[distance[ring].argsort()]
    short = np.count_nonzero(inside + np.cumsum(probability[ring], dtype=np.float64) < p)
    return keep(logits, distance <= distance[ring[min(short, len(ring) - 1)]])


@dataclass(frozen=True)
class Typical(LogitsProcessor):
    """Keep what is about as surprising as expected, up to probability mass p in [0, 1]; 1 is neutral.

    formula   d(i) = |-ln p(i) - H|, H = -sum p ln p; the shortest prefix by growing d whose
              probabilities sum to p
    boundary  a sum of exactly p is enough; the candidate with the least d always stays, the most
              probable one may go
    ties      as far from H as the last one kept: kept
    history   none
    neutral   p = 1
    source    Meister et al., "Locally Typical Sampling", TACL 11, 2023, arXiv:2202.00666
    """

    p: Annotated[float, Real("[0, 1]", "probability mass to keep", neutral=1)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        if self.p == 1:
            return logits
        if array_namespace(logits) is not np or logits.shape[-1] <= SMALL:
            return typical(logits, self.p)
        return np.stack([typical_pruned(row, self.p) for row in logits])


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("typical", Typical)
