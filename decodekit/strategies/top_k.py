"""
Top-k sampling.

Fan et al., "Hierarchical Neural Story Generation", ACL 2018, section 5.1, arXiv:1805.04833.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import BLOCK, SMALL, Array, array_namespace, k_best, keep, kth_largest
from decodekit.parameters import Whole
from decodekit.processors import LogitsProcessor, State, Step


def top_k(logits: Array, k: int | Array) -> Array:
    """Keep the k most probable candidates.

    logits  float [..., N], nats
    k       >= 1, of a graph's arrays scalar or [..., 1]; N or more keeps everything

    Candidates tied with the last one kept are kept too, so the result does not
    depend on the order of the columns.
    """
    n = logits.shape[-1]
    if k >= n:
        return logits
    if array_namespace(logits) is np and _prunes(n, k):
        return top_k_pruned(logits, k)
    return keep(logits, logits >= kth_largest(logits, k))


def _prunes(n: int, k: int) -> bool:
    """Whether k of n candidates are found faster without ordering all of them."""
    return n > SMALL and k <= n // BLOCK


def top_k_pruned(logits: Array, k: int) -> Array:
    """What `top_k` gives, for k in [1, N // BLOCK], without ordering all candidates."""
    kept = np.full(logits.shape, -np.inf, logits.dtype)
    n = logits.shape[-1]
    for row, left in zip(logits.reshape(-1, n), kept.reshape(-1, n), strict=True):
        columns = k_best(row, k)
        left[columns] = row[columns]
    return kept


@dataclass(frozen=True)
class TopK(LogitsProcessor):
    """Keep the k most probable candidates, and any tied with the last of them; 0 or -1 is neutral.

    formula   keep l(i) >= l(k), the k-th largest logit
    boundary  k of N or more keeps everything; the most probable one always stays
    ties      equal to the k-th: kept, so more than k may stay
    history   none
    neutral   k = 0 or -1
    source    Fan et al., "Hierarchical Neural Story Generation", ACL 2018, section 5.1, arXiv:1805.04833
    """

    k: Annotated[int, Whole("[-1, inf)", "candidates to keep", neutral=0, hint="0 or -1 keeps everything")]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return top_k(logits, self.k) if self.k > 0 else logits

    def survivors(self, logits: Array, step: Step, state: State) -> Array | None:
        return k_best(logits[0], self.k) if self.k > 0 and _prunes(logits.shape[-1], self.k) else None


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("top_k", TopK)
