"""
Contexts: the h tokens before a token, and the secret numbers that a key makes of them.

BLAKE2b (RFC 7693), keyed, turns a context into 128 bits, once a step; `decodekit.noise` turns
those and a token id into a number. So a mark is known for the candidates at hand alone, in any
order of the columns, and no permutation of the vocabulary is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from decodekit.ops import Array

KEYS = "[0, 18446744073709551616)"  # 64 bits
MOST = 16  # tokens of a context


def secrets(key: int, contexts: Iterable[Array], purpose: bytes) -> Array:
    """Uint32 [C, 4], as `decodekit.noise` takes them, one row for each context of ids.

    purpose  at most 16 bytes; another one gives independent numbers
    """
    digests = [
        hashlib.blake2b(
            np.ascontiguousarray(context, "<i8").tobytes(),
            digest_size=16,
            key=key.to_bytes(8, "little"),
            person=purpose,
        ).digest()
        for context in contexts
    ]
    return np.frombuffer(b"".join(digests), "<u4").reshape(-1, 4)


def contexts(ids: Array, h: int) -> Array:
    """The h ids before each token that has so many before it: int [T - h, h], for tokens h, h + 1, ..."""
    if len(ids) <= h:
        return np.empty((0, h), np.int64)
    return np.lib.stride_tricks.sliding_window_view(ids[:-1], h)


def is_repeated(ids: Array, h: int) -> bool:
    """Whether the last h ids were the context of a token before."""
    return bool((contexts(ids, h) == ids[-h:]).all(axis=-1).any())
