"""
Keyed noise: the random numbers of a draw, as a function of where it happens.

There is no stream. The noise of a token is a hash of (seed, sample, position, id), so a
draw does not depend on the draws before it, on the batch it runs in, or on the columns a
truncation left: the same place always meets the same noise.

BLAKE2b (RFC 7693) turns (seed, sample, position) into a 128-bit key, once a row; a
multiply-add with two of its words and the 32-bit mixer "lowbias32" (Wellons, 2018,
"Prospecting for Hash Functions") turn each id into 32 bits, and the other two words into
20 more. This is the definition of the draw of decodekit 0.1: recorded seeds depend on it.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np

from decodekit.history import History
from decodekit.ops import Array

_PERSON = b"decodekit.draw.1"


def keys(rows: tuple[History, ...]) -> Array:
    """The key of each row's next draw, uint32 [B, 4]."""
    digests = [
        hashlib.blake2b(
            struct.pack("<QQQ", row.seed, row.sample, row.position), digest_size=16, person=_PERSON
        ).digest()
        for row in rows
    ]
    return np.frombuffer(b"".join(digests), "<u4").reshape(len(rows), 4)


def uniform(rows: tuple[History, ...], purpose: str) -> Array:
    """A number in (0, 1) for each row's next step, float64 [B, 1], for strategies that toss a coin.

    purpose  names what it is for, at most 16 bytes: other purposes, and the draw, get independent numbers
    """
    coins = [
        hashlib.blake2b(
            struct.pack("<QQQ", row.seed, row.sample, row.position), digest_size=8, person=purpose.encode()
        ).digest()
        for row in rows
    ]
    bits = np.frombuffer(b"".join(coins), "<u8") >> np.uint64(12)
    return (bits[:, None].astype(np.float64) + 0.5) * 2.0**-52


def gumbel(keys: Array, ids: Array) -> Array:
    """Standard Gumbel noise, float64 [B, N], for token `ids` int [B, N].

    -log(-log(u)) with u = (52 random bits + 1/2) / 2^52: never 0 or 1, so always finite.
    """
    high = high_bits(keys, ids).astype(np.uint64)
    low = _hash(keys[:, 2:3], keys[:, 3:4], ids).astype(np.uint64)
    uniform = ((high << np.uint64(20) | low >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return -np.log(-np.log(uniform))


def high_bits(keys: Array, ids: Array) -> Array:
    """The leading 32 bits of each candidate's uniform number, uint32 [B, N]: the noise grows with them."""
    return _hash(keys[:, 0:1], keys[:, 1:2], ids)


def _hash(multiplier: Array, summand: Array, ids: Array) -> Array:
    x = ids.astype(np.uint32) * (multiplier | np.uint32(1))
    x += summand
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x
