"""Dynamic temperature: cool where the model is sure, warm where it is not. kalomaze, 2023, in KoboldCpp."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor
from decodekit.ops import Array, array_namespace, entropy, log_softmax
from decodekit.parameters import Real


def dynamic_temperature(
    logits: Array, low: float | Array, high: float | Array, exponent: float | Array = 1.0
) -> Array:
    """Divide by a temperature between low and high, as far up as the entropy is of its largest value.

    logits     float [..., N], nats
    low, high  temperatures >= 0 at certainty and at uniform probabilities, scalars or [..., 1]
    exponent   >= 0, of the share H / ln N; scalar or [..., 1]

    The best logit becomes 0 and depths below it are divided: the distribution is that of logits / T,
    and nothing overflows. At T = 0 the best and its equals are left.
    """
    xp = array_namespace(logits)
    live = xp.sum(xp.astype(logits > -xp.inf, logits.dtype), axis=-1, keepdims=True)
    largest = xp.log(xp.where(live > 1, live, xp.full_like(live, xp.e)))
    share = xp.clip(entropy(log_softmax(logits)) / largest, 0.0, 1.0)  # rounding may lead out
    t = low + (high - low) * share**exponent
    best = xp.max(logits, axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        divided = (logits - best) / t
    return xp.where(logits == best, xp.zeros_like(logits), divided)


@dataclass(frozen=True)
class DynamicTemperature(LogitsProcessor):
    """Divide logits by a temperature from low (sure) to high (unsure), by entropy; low = high = 1 is neutral.

    formula   T = low + (high - low) * (H / ln N)^exponent, N candidates that are left;
              l'(i) = (l(i) - lmax) / T, the distribution of l / T
    boundary  of one candidate T is low; at T = 0 the most probable one and its equals stay; low may
              lie above high
    ties      equals stay equal
    history   none
    neutral   low = high = 1; low = high is that temperature
    source    kalomaze, "dynamic temperature", KoboldCpp, 2023; llama.cpp, "temp_ext", where
              low, high = temperature -+ range
    """

    low: Annotated[float, Real("[0, 1e6]", "temperature where one candidate is certain", neutral=1)]
    high: Annotated[float, Real("[0, 1e6]", "temperature where all are equal", neutral=1)]
    exponent: Annotated[float, Real("[0, 100]", "power of the share of the entropy")] = 1.0

    def process(self, logits, step, state):
        if self.low == self.high == 1:
            return logits
        return dynamic_temperature(logits, self.low, self.high, self.exponent)
