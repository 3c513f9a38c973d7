"""Masks: which tokens a grammar allows, one bit a token id, and how logits are cut to them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from decodekit.ops import Array, keep


def apply_mask(logits: Array, mask: Array, ids: Array | None = None) -> Array:
    """The logits of allowed candidates, -inf for the others and for ids beyond the mask.

    logits  float [N], nats
    mask    uint8 [W], bit i % 8 of byte i // 8 says whether token i is allowed
    ids     int [N], the token id of each column; None: column is id

    Where columns are ids, a table gives for each byte its eight bounds, inf or -inf: an exact
    minimum is faster than unpacking bits.
    """
    if ids is not None:
        byte = mask[np.minimum(ids >> 3, len(mask) - 1)]
        return keep(logits, (byte >> (ids & 7) & 1 == 1) & (ids < 8 * len(mask)))
    beyond = np.zeros(max(0, -(-len(logits) // 8) - len(mask)), np.uint8)
    bytes = np.concatenate([mask, beyond])
    bounds = np.take(_bounds(logits.dtype.str), bytes, axis=0, mode="clip").reshape(-1)[: len(logits)]
    return np.minimum(logits, bounds, out=bounds)


def allowed(mask: Array, size: int) -> Array:
    """Whether each of `size` tokens is allowed, bool; ids beyond the mask are not."""
    bits = np.unpackbits(mask, count=min(size, 8 * len(mask)), bitorder="little").view(bool)
    return np.append(bits, np.zeros(size - len(bits), bool)) if len(bits) < size else bits


def mask_of(ids: Array, size: int) -> Array:
    """The mask of a vocabulary of `size` tokens that allows these ids."""
    allowed = np.zeros(size, bool)
    allowed[ids] = True
    return np.packbits(allowed, bitorder="little")


@lru_cache(maxsize=4)
def _bounds(dtype: str) -> Array:
    """Float [256, 8]: for each byte, inf where a bit is set, -inf elsewhere."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return np.where(bits, np.inf, -np.inf).astype(dtype)
