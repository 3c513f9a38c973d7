"""
Adaptive-p: choose candidates whose probability is near a target that follows the text.

MrJackSpade, "adaptive-p sampler", 2025, github.com/ggml-org/llama.cpp, pull request 17927.

What a chosen token's probability was must be known when it is accepted, but a strategy is shown only
what it returned. So the shaped logits carry it: they tell the distance from the target, and the last
bit of each, which is worth nothing to the draw, tells the side.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor
from decodekit.ops import Array, array_namespace, keep, softmax
from decodekit.parameters import Real

WIDTH = 0.3  # probability around the target that is favoured
SHARPNESS = 10.0  # nats


def adaptive_p(p: Array, goal: float | Array) -> Array:
    """Logits that favour probabilities near a goal: quadratic close to it, linear far away.

    p     float [..., N], probabilities
    goal  probability, scalar or [..., 1]

    The greatest possible is 0; llama.cpp adds 5 to all, which is the same distribution.
    """
    xp = array_namespace(p)
    distance = xp.abs(p - goal) / WIDTH
    return -SHARPNESS * distance**2 / (1 + distance)


@dataclass(frozen=True)
class AdaptiveP(LogitsProcessor):
    """Favour candidates whose probability is near a target, on average over the text; below 0 is neutral.

    formula   mean = (sum of p chosen * decay^age) / (sum of decay^age), g = 2 target - mean in [0, 1],
              x = |p(i) - g| / 0.3, l'(i) = -10 x^2 / (1 + x)
    boundary  nothing is removed
    ties      equals stay equal
    history   the answer: probabilities of its tokens as they were before this strategy; at the
              start as if the target had been met for ever
    neutral   target < 0
    source    MrJackSpade, github.com/ggml-org/llama.cpp, pull request 17927, 2025

    It replaces the distribution, so it belongs behind all others. State: float64 [B, 2], the two sums.
    """

    target: Annotated[float, Real("[-1, 1]", "mean probability of chosen tokens; below 0: off", neutral=-1)]
    decay: Annotated[float, Real("[0, 0.99]", "weight of a token beside the next one")] = 0.9

    def init(self, batch):
        return np.tile([self.target, 1.0], (batch, 1)) / (1.0 - self.decay)

    def process(self, logits, step, state):
        if self.target < 0:
            return logits
        p, goal = softmax(logits.astype(np.float64)), self._goal(state)
        return keep(_mark(adaptive_p(p, goal).astype(logits.dtype), p < goal), logits > -np.inf)

    def accept(self, logits, column, state):
        if self.target < 0:
            return state
        shaped = np.take_along_axis(logits, column[:, None], axis=-1)
        p = _probability(shaped, self._goal(state))
        return np.concat([p, np.ones_like(p)], axis=-1) + self.decay * state

    def _goal(self, state):
        return np.clip(2 * self.target - state[:, :1] / state[:, 1:], 0.0, 1.0)


def _mark(shaped: Array, below: Array) -> Array:
    """The numbers, the last bit of each set where the probability is below the goal."""
    bits = shaped.view(f"u{shaped.itemsize}")
    return (bits & ~bits.dtype.type(1) | below).view(shaped.dtype)


def _probability(shaped: Array, goal: Array) -> Array:
    """What `adaptive_p` was given, from what it gave and its mark: x^2 - y x - y = 0, y = -shaped / 10."""
    below = shaped.view(f"u{shaped.itemsize}") & 1 == 1
    y = -shaped.astype(np.float64) / SHARPNESS
    distance = (y + np.sqrt(y**2 + 4 * y)) / 2 * WIDTH
    return np.where(below, goal - distance, goal + distance)
