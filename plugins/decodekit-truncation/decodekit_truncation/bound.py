"""A bound on the probability, which most truncations come down to."""

from decodekit.ops import Array, array_namespace, keep


def at_least(logits: Array, p: Array, bound: float | Array) -> Array:
    """The logits [..., N] of candidates whose probability p [..., N] reaches the bound, and of the best."""
    xp = array_namespace(logits)
    best = logits == xp.max(logits, axis=-1, keepdims=True)
    return keep(logits, best | (p >= bound))
