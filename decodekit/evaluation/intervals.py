"""
Intervals: how far a share or a mean of so many rows may be from the truth, at 95%.

Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
Chamandy, Muralidharan, Najmi and Naidu, "Estimating uncertainty for massive data streams",
Google, 2012: the bootstrap with a Poisson weight for each row, in one pass over the rows.
"""

from __future__ import annotations

import math

import numpy as np

from decodekit.ops import Array

Z = 1.959963984540054  # of the normal distribution, 2.5% lie above it
REPLICATES = 1000


def wilson(hits: float, count: int) -> tuple[float, float]:
    """Of a share, hits of count; (0, 1) for none."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, Z * Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


class Bootstrap:
    """Means of several numbers of each row, and how they vary from sample to sample.

    A row has the same weights whatever the number, so differences are paired.
    """

    def __init__(self, numbers: int) -> None:
        self.count = 0
        self.sums = np.zeros(numbers)
        self._weights = np.zeros(REPLICATES)
        self._sums = np.zeros((REPLICATES, numbers))

    def add(self, row: int, values: Array) -> None:
        """One row's numbers, float [numbers]. `row` names its weights."""
        weights = np.random.default_rng(row).poisson(1.0, REPLICATES)
        self.count += 1
        self.sums += values
        self._weights += weights
        self._sums += weights[:, None] * values

    @property
    def means(self) -> Array:
        """float [numbers]; NaN for no rows."""
        return self.sums / self.count if self.count else np.full(len(self.sums), np.nan)

    def interval(self, number: int, less: int | None = None) -> tuple[float, float]:
        """Of a mean, or of its difference to another one."""
        alive = self._weights > 0
        if not alive.any():
            return math.nan, math.nan
        means = self._sums[alive] / self._weights[alive, None]
        values = means[:, number] - (0.0 if less is None else means[:, less])
        low, high = np.quantile(values, [0.025, 0.975])
        return float(low), float(high)
