"""
Top-p (nucleus) sampling.

Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020,
section 3.1, arXiv:1904.09751.
"""

from dataclasses import dataclass
from typing import Annotated

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array, array_namespace, keep, softmax
from decodekit.parameters import Real
from decodekit.processors import LogitsProcessor, State, Step


def top_p(logits: Array, p: float | Array) -> Array:
    """Keep the most probable candidates whose mass first reaches p; drop the rest.

    logits  float [..., N], nats
    p       probability mass in [0, 1], scalar or [..., 1]; 1 keeps everything, 0 the best

    Candidates tied with the last one kept are kept too, so the result does not
    depend on the order of the columns.
    """
    xp = array_namespace(logits)
    ranked = -xp.sort(-logits, axis=-1)
    mass_above = xp.cumulative_sum(softmax(ranked), axis=-1, include_initial=True)[..., :-1]
    nucleus = (mass_above < p) | (xp.zeros_like(ranked) + p >= 1)
    cutoff = xp.min(xp.where(nucleus, ranked, ranked[..., :1]), axis=-1, keepdims=True)
    return keep(logits, logits >= cutoff)


@dataclass(frozen=True)
class TopP(LogitsProcessor):
    """Keep the nucleus: the smallest likely set with probability mass p in [0, 1]; 1 is neutral.

    formula   p(1) >= p(2) >= ...; keep 1 ... m with the smallest m for which p(1) + ... + p(m) >= p
    boundary  a sum of exactly p is enough; the most probable one always stays, p = 0 keeps no other
    ties      equal to the m-th: kept
    history   none
    neutral   p = 1
    source    Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1,
              arXiv:1904.09751
    """

    p: Annotated[float, Real("[0, 1]", "probability mass to keep", neutral=1)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return logits if self.p == 1 else top_p(logits, self.p)


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("top_p", TopP)
