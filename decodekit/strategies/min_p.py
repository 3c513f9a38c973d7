"""Min-p sampling. Nguyen et al., "Turning Up the Heat", ICLR 2025, section 3, arXiv:2407.01082."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array, array_namespace, keep
from decodekit.parameters import Real
from decodekit.processors import LogitsProcessor, State, Step


def min_p(logits: Array, p: float | Array) -> Array:
    """Keep candidates at least p times as probable as the best one.

    logits  float [..., N], nats
    p       ratio in [0, 1], scalar or [..., 1]; 0 keeps everything, 1 the best and its equals
    """
    return keep(logits, _probable(logits, p))


def _probable(logits: Array, p: float | Array) -> Array:
    """Whether a candidate is at least p times as probable as the best one, bool [..., N]."""
    xp = array_namespace(logits)
    with np.errstate(divide="ignore"):
        bound = xp.log(xp.asarray(p, dtype=logits.dtype))
    return logits >= xp.max(logits, axis=-1, keepdims=True) + bound


@dataclass(frozen=True)
class MinP(LogitsProcessor):
    """Keep candidates at least p times as probable as the best one, p in [0, 1]; 0 is neutral.

    formula   keep p(i) >= p * pmax, that is l(i) >= lmax + ln p
    boundary  exactly p times as probable: kept; the most probable one always stays
    ties      treated alike; p = 1 keeps the best and its equals
    history   none
    neutral   p = 0
    source    Nguyen et al., "Turning Up the Heat: Min-p Sampling", ICLR 2025, section 3, arXiv:2407.01082
    """

    p: Annotated[float, Real("[0, 1]", "share of the best probability", neutral=0)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return logits if self.p == 0 else min_p(logits, self.p)

    def survivors(self, logits: Array, step: Step, state: State) -> Array | None:
        return None if self.p == 0 else _probable(logits[0], self.p)


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("min_p", MinP)
