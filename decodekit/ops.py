"""Array helpers that strategies share; any array of the Python array API standard."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

Array = Any


def array_namespace(array: Array) -> Any:
    """The functions of the Python array API standard for an array.

    NumPy has them itself, but for `sort` from the top; array-api-compat would load all of NumPy.
    """
    if isinstance(array, np.ndarray | np.generic):
        return np
    return array_api_compat.array_namespace(array)


def softmax(logits: Array) -> Array:
    """exp(logits) normalised over the last axis; -inf becomes 0."""
    xp = array_namespace(logits)
    exp = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return exp / xp.sum(exp, axis=-1, keepdims=True)


def log_softmax(logits: Array) -> Array:
    """Log-probabilities over the last axis, nats; -inf stays."""
    xp = array_namespace(logits)
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def keep(logits: Array, kept: Array) -> Array:
    """The logits where `kept`, -inf elsewhere."""
    xp = array_namespace(logits)
    return xp.where(kept, logits, xp.asarray(-xp.inf, dtype=logits.dtype))
