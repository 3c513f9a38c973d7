"""Noise of neighbouring places, and tokens drawn with it, beside each other."""

import math
from functools import partial

import numpy as np
from chi_square import chi_square
from strategy_draws import K, Place, drawn, expected

from decodekit import noise
from decodekit.history import History


def measure_pairs(draws):
    """Correlations in standard errors and chi-squares of pairs, by what lies beside what."""
    found = {}
    for name, (a, b) in neighbours(draws).items():
        joint = np.bincount((a * K).astype(int) * K + (b * K).astype(int), minlength=K * K)
        found[name] = {
            "standard_errors": float(np.corrcoef(a, b)[0, 1] * math.sqrt(len(a))),
            "p_value": chi_square(joint, np.full(K * K, len(a) / K**2)),
        }
    tokens = drawn([], Place(), draws - draws % 8).reshape(-1, 2, 2)
    seeds = tokens.reshape(-1, 2, 4)
    p = expected([])
    for name, (a, b) in {
        "tokens of positions": (tokens[:, :, 0], tokens[:, :, 1]),
        "tokens of samples": (tokens[:, 0], tokens[:, 1]),
        "tokens of seeds": (seeds[:, 0], seeds[:, 1]),
    }.items():
        joint = np.bincount((a * K + b).ravel(), minlength=K * K)
        found[name] = {"p_value": chi_square(joint, a.size * np.outer(p, p).ravel())}
    return found


def neighbours(draws):
    """Pairs of uniform numbers that lie beside each other, float [draws] each."""
    ids = np.arange(10)
    n = draws // 10 // 2 * 2
    text = np.zeros(64, np.int64)

    def uniform(seed=0, sample=0, position=0):
        rows = tuple(History(text[: i % 50 + position], 0, i // 50 * 2 + seed, sample) for i in range(n))
        return numbers(rows, ids)

    here = uniform()
    coins = tuple(History(text[: i % 50], 0, i // 50) for i in range(draws // 2 * 2))
    coin = partial(noise.uniform, coins)
    return {
        "ids": (here[:, ::2].ravel(), here[:, 1::2].ravel()),
        "rows": (here[::2].ravel(), here[1::2].ravel()),
        "positions": (here.ravel(), uniform(position=1).ravel()),
        "samples": (here.ravel(), uniform(sample=1).ravel()),
        "seeds": (here.ravel(), uniform(seed=1).ravel()),
        "coins of positions": (coin("xtc")[::2, 0], coin("xtc")[1::2, 0]),
        "coins of purposes": (coin("xtc")[:, 0], coin("other")[:, 0]),
        "a coin and the draw": (coin("xtc")[:n, 0], numbers(coins[:n], ids[:1])[:, 0]),
    }


def numbers(rows, ids):
    """The uniform numbers behind the noise, float [B, N]."""
    return np.exp(-np.exp(-noise.gumbel(noise.keys(rows), np.broadcast_to(ids, (len(rows), len(ids))))))
