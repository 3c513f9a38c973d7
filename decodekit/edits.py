"""
Edits: what a strategy does to a row where it need not look at the logits to know it.

Two kinds. Edits push or remove a few tokens; a mask lets through only some, one bit a token. Both can
be told to whatever holds the logits, a graph on a device too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from decodekit.errors import ContractError
from decodekit.ops import Array, keep


@dataclass(frozen=True, slots=True)
class Edits:
    """What becomes of the logits l of a few tokens: l * factor where l < 0, else l / factor; then + add.

    ids     int [K], >= 0; one that is there several times has the same numbers each time
    add     nats, [K] or one for all; -inf removes a token
    factor  > 0, [K] or one for all
    """

    ids: Array
    add: Array | float = 0.0
    factor: Array | float = 1.0

    def __post_init__(self) -> None:
        ids = self.ids
        if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ContractError(f"edits: ids must be an array of whole numbers [K], got {ids!r:.80}")
        if len(ids) and ids.min() < 0:
            raise ContractError(f"edits: ids must be >= 0, got {ids.min()}")
        for name, numbers in (("add", self.add), ("factor", self.factor)):
            if np.shape(numbers) not in ((), ids.shape):
                raise ContractError(
                    f"edits: {name} must be one number or one for each of {len(ids)} ids, got {numbers!r:.80}"
                )

    def of(self, logits: Array, which: Array | None = None) -> Array:
        """Logits [M] of those of its ids that `which`, bool [K], names, edited."""
        edited = logits
        if np.ndim(self.factor) or self.factor != 1:
            factor = _numbers(self.factor, which, logits)
            edited = np.where(edited < 0, edited * factor, edited / factor)
        return edited + _numbers(self.add, which, logits)


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
    bounds = mask_bounds(logits.dtype.str).take(fitted(mask, len(logits)), axis=0, mode="clip")
    bounds = bounds.reshape(-1)[: len(logits)]
    return np.minimum(logits, bounds, out=bounds)


def allowed(mask: Array, size: int) -> Array:
    """Whether each of `size` tokens is allowed, bool; those beyond the mask are not."""
    return np.unpackbits(fitted(mask, size), count=size, bitorder="little").view(bool)


def mask_of(ids: Array, size: int) -> Array:
    """The mask of a vocabulary of `size` tokens that allows these ids."""
    those = np.zeros(size, bool)
    those[ids] = True
    return np.packbits(those, bitorder="little")


@lru_cache(maxsize=4)
def mask_bounds(dtype: str) -> Array:
    """Float [256, 8]: for each byte, inf where a bit is set, -inf elsewhere."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return np.where(bits, np.inf, -np.inf).astype(dtype)


def fitted(mask: Array, size: int) -> Array:
    """The bytes for so many tokens; beyond the mask nothing is allowed."""
    return np.concatenate([mask, np.zeros(max(0, -(-size // 8) - len(mask)), np.uint8)])


def _numbers(given: Array | float, which: Array | None, logits: Array) -> Array:
    numbers = np.asarray(given, logits.dtype)
    return numbers[which] if numbers.ndim and which is not None else numbers
