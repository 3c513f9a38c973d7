"""Schedules: the learning rate as a function of how much of the run is over."""

from __future__ import annotations

import math
from collections.abc import Callable

DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}


def learning_rate(share: float, warmup: float, schedule: str = "cosine") -> float:
    """The rate in [0, 1] when `share` of a run is over: a line up to `warmup`, then as `schedule` says.

    "cosine" is half a period down to 0 (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv:1608.03983,
    equation 5), "linear" a line to 0, "constant" stays.
    """
    if share < warmup:
        return share / warmup
    return DECAYS[schedule](min((share - warmup) / (1 - warmup), 1.0))
