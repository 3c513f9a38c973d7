"""Tails of two distributions, exactly, by adding logarithms of their terms. No SciPy for two sums."""

from __future__ import annotations

import math

import numpy as np

from decodekit.ops import Array


def binomial_tail(successes: int, trials: int, p: float) -> float:
    """P(X >= successes) for X ~ Binomial(trials, p), p in (0, 1)."""
    k = np.arange(successes, trials + 1)
    log_factorial = _log_factorials(trials)
    ways = log_factorial[trials] - log_factorial[k] - log_factorial[trials - k]
    return _sum(ways + k * math.log(p) + (trials - k) * math.log1p(-p))


def gamma_tail(x: float, n: int) -> float:
    """P(X >= x) for X ~ Gamma(n, 1), the sum of n exponential variables; x >= 0, whole n >= 0."""
    if x == 0:
        return 1.0
    k = np.arange(n)  # X >= x exactly where a Poisson process has fewer than n points up to x
    return _sum(k * math.log(x) - _log_factorials(n)[k] - x) if n else 0.0


def _log_factorials(n: int) -> Array:
    """ln 0!, ..., ln n!"""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def _sum(logarithms: Array) -> float:
    """Of the numbers with these logarithms, at most 1."""
    if not len(logarithms):
        return 0.0
    largest = logarithms.max()
    return float(min(1.0, np.exp(largest) * np.exp(logarithms - largest).sum()))
