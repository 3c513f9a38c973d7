"""
Drawing: one column per row, by keyed noise.

A draw is argmax(logits + noise). Under Gumbel noise that picks column i with
probability softmax(logits)[i] (Gumbel, 1954; Maddison et al., "A* Sampling",
NeurIPS 2014, arXiv:1411.0030). The noise is keyed by place, see `noise`.
"""

from __future__ import annotations

import math

import numpy as np

from decodekit import noise
from decodekit.ops import Array

SMALL = 4096  # candidates up to which the plain form is faster than the pruned one


def sample(logits: Array, keys: Array, ids: Array) -> Array:
    """The column of each row's token, int [B].

    logits  float [B, N], -inf for removed candidates
    keys    uint32 [B, 4], see `noise.keys`
    ids     int [B, N]
    """
    if logits.shape[-1] <= SMALL:
        return sample_plainly(logits, keys, ids)
    return np.asarray([sample_pruned(logits[i], keys[i : i + 1], ids[i]) for i in range(len(logits))])


def sample_plainly(logits: Array, keys: Array, ids: Array) -> Array:
    """The definition: argmax(logits + noise), int [B]."""
    return np.argmax(logits + noise.gumbel(keys, ids), axis=-1)


def sample_pruned(logits: Array, key: Array, ids: Array) -> int:
    """What `sample_plainly` gives for one row, without the noise of candidates that cannot win.

    logits [N], key [1, 4], ids [N]. A first score `found` comes from a few promising candidates.
    Then a candidate needs noise above found - logit to win, hence a uniform number above a bound;
    two bounds, one for candidates near the best logit and one for those further down, are
    compared with the leading bits of the hash. What passes, a few hundred of 100,000, is scored.
    """
    best = logits.max()
    near = best - logits.dtype.type(6.0)  # nats
    bits = noise.high_bits(key, ids[None])[0]

    def scores(columns: Array) -> Array:
        return logits[columns] + noise.gumbel(key, ids[columns][None])[0]

    def needed(excess: float) -> np.uint32:  # leading bits of the smallest u whose noise exceeds it
        return np.uint32(max(0, int(math.exp(-math.exp(-max(excess, -5.0))) * 2.0**32) - 2))

    lucky = np.flatnonzero(bits >= np.uint32(2**32 * (1 - 256 / len(bits))))
    found = scores(np.append(lucky, logits.argmax())).max()
    contends = bits >= needed(found - float(near))
    contends |= (logits >= near) & (bits >= needed(found - float(best)))
    columns = np.flatnonzero(contends)
    return int(columns[scores(columns).argmax()])
