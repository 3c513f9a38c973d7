"""Greedy decoding: the most probable token, always."""

from dataclasses import dataclass

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array, array_namespace, keep
from decodekit.processors import LogitsProcessor, State, Step


def greedy(logits: Array, ids: Array) -> Array:
    """Keep the best candidate only.

    logits  float [..., N], nats
    ids     int [..., N], token id of each column

    Of candidates with equal logits the one with the lowest id is kept.
    """
    xp = array_namespace(logits)
    best = logits == xp.max(logits, axis=-1, keepdims=True)
    lowest = xp.min(xp.where(best, ids, xp.iinfo(ids.dtype).max), axis=-1, keepdims=True)
    return keep(logits, best & (ids == lowest))


@dataclass(frozen=True)
class Greedy(LogitsProcessor):
    """Choose the most probable token; of equals, the one with the lowest id.

    formula   keep the i with the largest l(i), remove all others
    boundary  one candidate stays
    ties      of equal logits the one with the lowest token id, in whatever column it is
    history   none
    neutral   none
    source    the mode of the distribution; the limit of temperature as T falls to 0
    """

    keeps_best = True

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return greedy(logits, step.ids)


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("greedy", Greedy)
