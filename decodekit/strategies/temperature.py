"""
Temperature.

Ackley, Hinton and Sejnowski, "A Learning Algorithm for Boltzmann Machines", Cognitive Science 9, 1985.
"""

from dataclasses import dataclass
from typing import Annotated

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array
from decodekit.parameters import Real
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.strategies.greedy import greedy

_LIMIT = 1e-30  # below it float32 logits could overflow; the distribution has long been its limit


def temperature(logits: Array, t: float | Array) -> Array:
    """Divide logits by t: below 1 sharpens, above 1 flattens.

    logits  float [..., N], nats
    t       scalar or [..., 1], >= 1e-30; 1 changes nothing
    """
    return logits / t


@dataclass(frozen=True)
class Temperature(LogitsProcessor):
    """Divide logits by t in [0, inf): below 1 sharpens, above 1 flattens, 1 is neutral, 0 is greedy.

    formula   l'(i) = l(i) / t
    boundary  t below 1e-30 is greedy: one candidate stays; above it nothing is removed
    ties      equals stay equal; at t = 0 the one with the lowest token id
    history   none
    neutral   t = 1
    source    Ackley, Hinton and Sejnowski, "A Learning Algorithm for Boltzmann Machines",
              Cognitive Science 9, 1985
    """

    t: Annotated[float, Real("[0, inf)", "divisor of the logits", neutral=1)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        if self.t < _LIMIT:
            return greedy(logits, step.ids)
        return logits if self.t == 1 else temperature(logits, self.t)


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("temperature", Temperature)
