"""
Top-n-sigma sampling: a bound on the logit, in standard deviations below the best.

Tang et al., "Top-n-sigma: Not All Logits Are You Need", 2024, arXiv:2411.07641.
"""

from dataclasses import dataclass
from typing import Annotated

from decodekit import LogitsProcessor
from decodekit.ops import Array, array_namespace, keep
from decodekit.parameters import Real


def top_n_sigma(logits: Array, n: float | Array) -> Array:
    """Keep candidates at most n standard deviations of the logits below the best one.

    logits  float [..., N], nats; removed candidates have no part in the deviation
    n       >= 0, scalar or [..., 1]; 0 keeps the best and its equals

    Depths below the best are halved and divided by the greatest one, so that no square overflows.
    """
    xp = array_namespace(logits)
    live = logits > -xp.inf
    count = xp.sum(xp.astype(live, logits.dtype), axis=-1, keepdims=True)
    half_depth = xp.max(logits, axis=-1, keepdims=True) / 2 - logits / 2
    half_depth = xp.where(live, half_depth, xp.zeros_like(logits))
    greatest = xp.max(half_depth, axis=-1, keepdims=True)
    depth = half_depth / xp.where(greatest > 0, greatest, xp.ones_like(greatest))
    mean = xp.sum(depth, axis=-1, keepdims=True) / count
    deviation = xp.where(live, depth - mean, xp.zeros_like(depth))
    sigma = xp.sqrt(xp.sum(deviation**2, axis=-1, keepdims=True) / count)
    return keep(logits, depth <= n * sigma)


@dataclass(frozen=True)
class TopNSigma(LogitsProcessor):
    """Remove candidates more than n standard deviations of the logits below the best; 0 is neutral.

    formula   keep l(i) >= lmax - n * sigma, sigma^2 = sum (l - mean l)^2 / N over candidates that are left
    boundary  exactly n sigma below: kept; the most probable one always stays
    ties      treated alike; where all are equal, sigma is 0 and all stay
    history   none
    neutral   n = 0, by convention: a very small n keeps the best only
    source    Tang et al., "Top-n-sigma: Not All Logits Are You Need", 2024, arXiv:2411.07641
    """

    n: Annotated[float, Real("[0, 1e6]", "standard deviations below the best logit", neutral=0)]

    def process(self, logits, step, state):
        return logits if self.n == 0 else top_n_sigma(logits, self.n)
