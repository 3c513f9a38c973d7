"""
Slow references of the strategies that bend a distribution, and of XTC: see `reference`.
"""

import hashlib
import math
import struct

from exactness.reference import GONE, entropy, softmax


def dynamic_temperature(row, low, high, exponent=1.0, edge=0.0):
    """kalomaze 2023."""
    live = len(row.live)
    share = entropy(row.p) / math.log(live) if live > 1 else 0.0
    t = low + (high - low) * min(max(share, 0.0), 1.0) ** exponent
    best = max(row.logits)
    return row.keep({i for i in row.live if row.logits[i] == best}) if t == 0 else [x / t for x in row.logits]


def smoothing(row, factor, curve=1.0, edge=0.0):
    """kalomaze 2024, text-generation-webui pull requests 5403 and 5551."""
    if factor == 0:
        return row.logits
    best, k, s = max(row.logits), (3 - curve) / 2, (curve - 1) / 2
    depth = [logit - best for logit in row.logits]
    return [best - k * factor * d**2 + s * factor * d**3 if d > GONE else GONE for d in depth]


def skew(row, s, edge=0.0):
    """turboderp 2024: u^exp(-s) at the inverse-CDF draw over the ranked; equals share alike."""
    probability, below, share = row.p, 0.0, {}
    for i in sorted(row.live, key=lambda i: -row.logits[i]):
        share[i] = min(below + probability[i], 1.0) ** math.exp(s) - below ** math.exp(s)
        below += probability[i]
    shaped = []
    for i, logit in enumerate(row.logits):
        equals = [share[j] for j in row.live if row.logits[j] == logit]
        shaped.append(math.log(math.fsum(equals) / len(equals)) if i in share else GONE)
    return shaped


def adaptive_p(row, goal, edge=0.0):
    """MrJackSpade 2025, llama.cpp pull request 17927."""
    distance = [abs(p - goal) / 0.3 for p in row.p]
    return [5 - 10 * x * x / (1 + x) if row.logits[i] > GONE else GONE for i, x in enumerate(distance)]


def excluded(row, threshold, protect, edge):
    """What XTC takes out: all that qualify but the least probable and its equals. p-e-w 2024."""
    chosen = [i for i in row.live if row.p[i] >= threshold * (1 - edge) and row.ids[i] not in protect]
    least = min((row.logits[i] for i in chosen), default=GONE)
    return {i for i in chosen if row.logits[i] > least}


def coin(seed, sample, position, purpose):
    """The uniform number of a row's step: the first 52 of the 64 bits that BLAKE2b makes of its place."""
    place = struct.pack("<QQQ", seed, sample, position)
    digest = hashlib.blake2b(place, digest_size=8, person=purpose.encode()).digest()
    return ((int.from_bytes(digest, "little") >> 12) + 0.5) / 2**52


def xtc(row, probability, threshold, protect=(), edge=0.0):
    """The outcome at probability 0 and 1."""
    return row.keep(set(row.live) - (excluded(row, threshold, protect, edge) if probability else set()))


def xtc_expected(row, probability, threshold, protect=(), edge=0.0):
    """The mean of the distributions with and without an exclusion."""
    gone = excluded(row, threshold, protect, edge)
    without = softmax(row.keep(set(row.live) - gone))
    mean = [(1 - probability) * p + probability * q for p, q in zip(row.p, without)]
    return [math.log(p) if p > 0 else GONE for p in mean]
