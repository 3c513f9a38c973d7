"""Whether logits are those of a definition: the same candidates, probabilities to 1e-6."""

import numpy as np


def outside(logits, expected):
    """The rows of logits [R, N], int [K], that are not what is expected."""
    support = ((logits > -np.inf) == (expected > -np.inf)).all(axis=-1)
    near = np.abs(probabilities(logits) - probabilities(expected)).max(axis=-1) <= 1e-6
    return np.flatnonzero(~(support & near))


def probabilities(logits):
    """Float64 [R, N]; of a row without candidates all 0."""
    best = np.maximum(logits.max(axis=-1, keepdims=True).astype(np.float64), -1e300)
    weight = np.exp(logits.astype(np.float64) - best)
    return weight / np.maximum(weight.sum(axis=-1, keepdims=True), 1.0)
