"""
Tail-free sampling: cut where the ranked probabilities stop bending.

Bricken, "Tail Free Sampling", 2019, trentbrick.github.io/Tail-Free-Sampling.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor
from decodekit.ops import SMALL, Array, array_namespace, keep, softmax
from decodekit.parameters import Real

_DEPTHS = np.geomspace(4.0, 64.0, 13).tolist()  # nats below the best


def tail_free(logits: Array, z: float | Array) -> Array:
    """Keep the most probable candidates that hold a share z of the bends in the ranked probabilities.

    logits  float [..., N], nats
    z       share in [0, 1], scalar or [..., 1]; 1 keeps everything

    Candidates tied with the last one kept are kept too.
    """
    xp = array_namespace(logits)
    n = logits.shape[-1]
    if n < 3:
        return logits
    p = softmax(logits)
    ranked = -xp.sort(-p, axis=-1)
    live = xp.sum(xp.astype(logits > -xp.inf, xp.int64), axis=-1, keepdims=True)
    bend = xp.where(xp.arange(2, n) < live, _bends(ranked), xp.zeros_like(ranked[..., 2:]))
    bends = xp.cumulative_sum(bend, axis=-1, dtype=xp.float64)
    before = xp.concat([xp.zeros_like(bends[..., :1]), bends, bends[..., -1:]], axis=-1)
    within = before <= z * bends[..., -1:]
    return keep(logits, p >= xp.min(xp.where(within, ranked, ranked[..., :1]), axis=-1, keepdims=True))


def tail_free_pruned(logits: Array, z: float) -> Array:
    """What `tail_free` gives for one row, float [N], sorting a likely part only.

    Ranked probabilities fall, so all bends behind a candidate of probability p together are at most
    2 p. A part will do if its cut is the same with none of them and with all of them.
    """
    p = softmax(logits)
    for depth in _DEPTHS:
        part = p[logits >= logits.max() - depth]
        if len(part) > len(logits) // 2:
            break
        if len(part) < 3:
            continue
        ranked = np.sort(part)[::-1]
        bends = np.cumsum(_bends(ranked), dtype=np.float64)
        least, most = bends[-1], bends[-1] + 2.0 * float(ranked[-2])
        cut = np.searchsorted(bends, z * most, side="right")
        if cut < len(bends) and cut == np.searchsorted(bends, z * least, side="right"):
            return keep(logits, p >= ranked[cut])
    return tail_free(logits, z)


def _bends(ranked: Array) -> Array:
    """Second differences of probabilities [..., N], without sign, [..., N - 2]."""
    xp = array_namespace(ranked)
    slope = ranked[..., 1:] - ranked[..., :-1]
    return xp.abs(slope[..., 1:] - slope[..., :-1])


@dataclass(frozen=True)
class TailFree(LogitsProcessor):
    """Cut the flat tail: keep a share z in [0, 1] of the bends in the ranked probabilities; 1 is neutral.

    formula   b(i) = |p(i) - 2 p(i+1) + p(i+2)|, p(1) >= p(2) >= ...; keep 1, and i + 1 while
              (b(1) + ... + b(i)) / sum b <= z
    boundary  exactly z: kept; the most probable one always stays, below z = 1 the least probable goes
    ties      as probable as the last one kept: kept; where nothing bends, and of fewer than three, all stay
    history   none
    neutral   z = 1
    source    Bricken, "Tail Free Sampling", 2019, trentbrick.github.io/Tail-Free-Sampling
    """

    z: Annotated[float, Real("[0, 1]", "share of the bends to keep", neutral=1)]

    def process(self, logits, step, state):
        if self.z == 1:
            return logits
        if array_namespace(logits) is not np or logits.shape[-1] <= SMALL:
            return tail_free(logits, self.z)
        return np.stack([tail_free_pruned(row, self.z) for row in logits])
