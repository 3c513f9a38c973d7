"""Pearson's chi-square test, without scipy."""

import math

import numpy as np


def chi_square(counts, expectations):
    """Its p-value, of counts with expectations that have the same sum; those of 0 have no part."""
    some = expectations > 0
    statistic = float(((counts[some] - expectations[some]) ** 2 / expectations[some]).sum())
    return tail(np.count_nonzero(some) - 1, statistic)


def tail(freedom, statistic):
    """P(chi-square with so many degrees of freedom > statistic)."""
    x = statistic / 2
    if freedom == 0:
        return 1.0
    a, q = (1.0, math.exp(-x)) if freedom % 2 == 0 else (0.5, math.erfc(math.sqrt(x)))
    while a < freedom / 2:
        q += math.exp(a * math.log(x) - x - math.lgamma(a + 1)) if x > 0 else 0.0
        a += 1.0
    return min(q, 1.0)
