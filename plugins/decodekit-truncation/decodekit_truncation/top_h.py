"""
Top-H sampling: as many likely candidates as a share of the entropy allows.

Potraghloo et al., "Top-H Decoding: Adapting the Creativity and Coherence with Bounded
Entropy in Text Generation", NeurIPS 2025, arXiv:2509.02510.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor
from decodekit.ops import SMALL, Array, array_namespace, entropy, keep, log_softmax
from decodekit.parameters import Real

_DEPTHS = np.geomspace(1.0, 128.0, 29).tolist()  # nats below the best; beyond lies no mass in float32


def top_h(logits: Array, alpha: float | Array) -> Array:
    """Keep the most probable candidates while the entropy of what is kept is at most alpha of all.

    logits  float [..., N], nats
    alpha   share of the entropy in [0, 1], scalar or [..., 1]; 1 keeps everything, 0 the best

    The entropy is that of the kept candidates renormalised; it grows with every one that is
    added. Candidates tied with the last one kept are kept too.
    """
    xp = array_namespace(logits)
    log_p = log_softmax(logits)
    ranked = -xp.sort(-log_p, axis=-1)
    within = _entropies(ranked) <= alpha * entropy(log_p)
    return keep(logits, log_p >= xp.min(xp.where(within, ranked, ranked[..., :1]), axis=-1, keepdims=True))


def top_h_pruned(logits: Array, alpha: float) -> Array:
    """What `top_h` gives for one row, float [N]: it sorts only a likely part whose entropy is too much."""
    log_p = log_softmax(logits)
    best, bound = log_p.max(), alpha * entropy(log_p)
    for depth in _DEPTHS:
        part = log_p[log_p >= best - depth]
        if len(part) > len(logits) // 2:
            break
        if _entropies(part)[-1] > bound:
            ranked = np.sort(part)[::-1]
            return keep(logits, log_p >= min(ranked[_entropies(ranked) <= bound], default=best))
    return top_h(logits, alpha)


def _entropies(log_p: Array) -> Array:
    """Entropy of the first 1, 2, ... N candidates renormalised, nats, [..., N]."""
    xp = array_namespace(log_p)
    p = xp.exp(log_p)
    weighted = p * xp.where(p > 0, log_p, xp.zeros_like(log_p))
    mass = xp.cumulative_sum(p, axis=-1, dtype=xp.float64)
    return xp.log(mass) - xp.cumulative_sum(weighted, axis=-1, dtype=xp.float64) / mass


@dataclass(frozen=True)
class TopH(LogitsProcessor):
    """Keep likely candidates up to a share alpha in [0, 1] of the entropy; 1 is neutral.

    formula   p(1) >= p(2) >= ...; keep 1 ... m with the largest m for which H(q) <= alpha * H(p),
              q = p(1 ... m) renormalised
    boundary  exactly alpha * H: kept; the most probable one always stays
    ties      as probable as the m-th: kept, even where their entropy is more
    history   none
    neutral   alpha = 1
    source    Potraghloo et al., "Top-H Decoding", NeurIPS 2025, arXiv:2509.02510
    """

    alpha: Annotated[float, Real("[0, 1]", "share of the entropy", neutral=1)] = 0.4

    def process(self, logits, step, state):
        if self.alpha == 1:
            return logits
        if array_namespace(logits) is not np or logits.shape[-1] <= SMALL:
            return top_h(logits, self.alpha)
        return np.stack([top_h_pruned(row, self.alpha) for row in logits])
