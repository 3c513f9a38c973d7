"""
Top-p (nucleus) sampling.

Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020,
section 3.1, arXiv:1904.09751.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import SMALL, Array, array_namespace, keep
from decodekit.parameters import Real
from decodekit.processors import LogitsProcessor, State, Step

BANDS = 1024  # of logits, in which the mass is weighed
PART = 16384  # candidates weighed at a time


def top_p(logits: Array, p: float | Array) -> Array:
    """Keep the most probable candidates whose mass first reaches p; drop the rest.

    logits  float [..., N], nats
    p       probability mass in [0, 1], scalar or [..., 1]; 1 keeps everything, 0 the best

    Candidates tied with the last one kept are kept too, so the result does not
    depend on the order of the columns. Masses are sums in float64.
    """
    return keep(logits, logits >= nucleus_edge(logits, p))


def nucleus_edge(logits: Array, p: float | Array) -> Array:
    """The smallest logit in the nucleus, [..., 1]; arguments as for `top_p`."""
    xp = array_namespace(logits)
    ranked = -xp.sort(-logits, axis=-1)
    weight = xp.exp(xp.astype(ranked - ranked[..., :1], xp.float64))
    mass = xp.cumulative_sum(weight, axis=-1, include_initial=True)
    nucleus = (mass[..., :-1] < p * mass[..., -1:]) | (xp.zeros_like(ranked) + p >= 1)
    return xp.min(xp.where(nucleus, ranked, ranked[..., :1]), axis=-1, keepdims=True)


def nucleus_edge_pruned(row: Array, p: float) -> Any:
    """What `nucleus_edge` gives for one row, float [N], p < 1, without ranking all of it.

    Candidates of less than (1 - p) / N each have less than 1 - p together, so the nucleus is among
    the others. Where these are many, only the band of logits is ranked in which the mass reaches p.
    Weights are float32, their sums float64: a candidate may differ where the mass above it is
    within 1e-6 of p.
    """
    best = row.max()
    if not math.isfinite(best):
        return nucleus_edge(row, p)[0]
    weight = row - best
    np.exp(weight, out=weight)
    total = weight.sum(dtype=np.float64)
    floor = (1 - p) * total / len(row) * (1 - 1e-5)  # for rounding
    ranked, above = weight >= weight.dtype.type(floor), 0.0
    if np.count_nonzero(ranked) > 4 * SMALL:
        ranked, above = crossing_band(row, weight, p * total, -math.log(floor))
    logits = -np.sort(-row.compress(ranked))
    mass = above + np.cumsum(np.exp(logits - best), dtype=np.float64)
    return logits[min(int(np.searchsorted(mass, p * total)), len(logits) - 1)]


def crossing_band(row: Array, weight: Array, mass: float, reach: float) -> tuple[Array, float]:
    """Where the candidates are, bool [N], among which the sum of weights from the top reaches `mass`.

    Bands of logits, down to `reach` nats below the best, are weighed, a part of the row after the
    other since new memory costs more than arithmetic. The weight above the band goes with it.
    """
    band, sums, best = np.empty(len(row), np.uint16), np.zeros(BANDS + 1), row.max()
    for begin in range(0, len(row), PART):
        part = slice(begin, begin + PART)
        band[part] = np.minimum(best - row[part], reach) * (BANDS / reach)
        sums += np.bincount(band[part], weight[part], BANDS + 1)
    sums = np.cumsum(sums)
    crossing = min(int(np.searchsorted(sums, mass)), BANDS)
    return band == crossing, float(sums[crossing - 1]) if crossing else 0.0


@dataclass(frozen=True)
class TopP(LogitsProcessor):
    """Keep the nucleus: the smallest likely set with probability mass p in [0, 1]; 1 is neutral.

    formula   p(1) >= p(2) >= ...; keep 1 ... m with the smallest m for which p(1) + ... + p(m) >= p
    boundary  a sum of exactly p is enough; the most probable one always stays, p = 0 keeps no other
    ties      equal to the m-th: kept
    history   none
    neutral   p = 1
    source    Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1,
              arXiv:1904.09751
    """

    p: Annotated[float, Real("[0, 1]", "probability mass to keep", neutral=1)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        if self.p == 1:
            return logits
        if array_namespace(logits) is not np:
            return top_p(logits, self.p)
        edges = [[nucleus_edge_pruned(row, self.p)] for row in logits]
        return keep(logits, logits >= np.asarray(edges, logits.dtype))

    def survivors(self, logits: Array, step: Step, state: State) -> Array | None:
        return None if self.p == 1 else logits[0] >= logits.dtype.type(nucleus_edge_pruned(logits[0], self.p))


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("top_p", TopP)
