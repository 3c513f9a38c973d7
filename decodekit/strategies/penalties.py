"""
Penalties on tokens that were there before.

Repetition: Keskar et al., "CTRL", 2019, section 4.1, arXiv:1909.05858.
Frequency and presence: the OpenAI API, "Advanced usage".
"""

from dataclasses import dataclass
from typing import Annotated

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array, array_namespace
from decodekit.parameters import Real
from decodekit.processors import LogitsProcessor, State, Step


def repetition_penalty(logits: Array, counts: Array, theta: float | Array) -> Array:
    """Divide positive and multiply negative logits of seen candidates by theta, once however often seen.

    logits  float [..., N], nats
    counts  int [..., N], occurrences in prompt and generated ids
    theta   > 0, scalar or [..., 1]; 1 changes nothing, above 1 discourages
    """
    xp = array_namespace(logits)
    return xp.where(counts > 0, xp.where(logits < 0, logits * theta, logits / theta), logits)


def frequency_penalty(logits: Array, counts: Array, f: float | Array) -> Array:
    """Subtract f for every time a candidate was generated.

    logits  float [..., N], nats
    counts  int [..., N], occurrences in the generated ids
    f       nats, scalar or [..., 1]; 0 changes nothing
    """
    xp = array_namespace(logits)
    return logits - f * xp.astype(counts, logits.dtype)


def presence_penalty(logits: Array, counts: Array, f: float | Array) -> Array:
    """Subtract f if a candidate was generated at all; arguments as for `frequency_penalty`."""
    xp = array_namespace(logits)
    return logits - f * xp.astype(counts > 0, logits.dtype)


@dataclass(frozen=True)
class RepetitionPenalty(LogitsProcessor):
    """Make tokens of prompt and answer less likely by a factor theta in (0, inf); 1 is neutral."""

    theta: Annotated[float, Real("(0, 1e6]", "factor; above 1 discourages", neutral=1)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return logits if self.theta == 1 else repetition_penalty(logits, step.counts(), self.theta)


@dataclass(frozen=True)
class FrequencyPenalty(LogitsProcessor):
    """Subtract f nats for every time the token was generated, f in [-100, 100]; 0 is neutral."""

    f: Annotated[float, Real("[-100, 100]", "nats for each time it was generated", neutral=0)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return logits if self.f == 0 else frequency_penalty(logits, step.generated_counts(), self.f)


@dataclass(frozen=True)
class PresencePenalty(LogitsProcessor):
    """Subtract f nats if the token was generated before, f in [-100, 100]; 0 is neutral."""

    f: Annotated[float, Real("[-100, 100]", "nats if it was generated", neutral=0)]

    def process(self, logits: Array, step: Step, state: State) -> Array:
        return logits if self.f == 0 else presence_penalty(logits, step.generated_counts(), self.f)


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("repetition_penalty", RepetitionPenalty)
    register("frequency_penalty", FrequencyPenalty)
    register("presence_penalty", PresencePenalty)
