"""
Penalties on tokens that were there before.

Repetition: Keskar et al., "CTRL", 2019, section 4.1, arXiv:1909.05858.
Frequency and presence: the OpenAI API, "Advanced usage".
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit.edits import Edits
from decodekit.history import History
from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array, array_namespace
from decodekit.parameters import Real, Whole
from decodekit.processors import LogitsProcessor, State


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
    """Make tokens of prompt and answer less likely by a factor theta in [1e-6, 1e6]; 1 is neutral.

    formula   l'(i) = l(i) / theta where l(i) >= 0, l(i) * theta where l(i) < 0, for i that were seen
    boundary  seen once or fifty times: the same; a logit of 0 stays 0; nothing is removed
    ties      equals that were seen stay equal
    history   the last `window` tokens of prompt and answer together; None: all, 0: none
    neutral   theta = 1, window = 0
    source    Keskar et al., "CTRL", 2019, section 4.1, arXiv:1909.05858; not the same after a number
              is added to all logits
    """

    theta: Annotated[float, Real("[1e-6, 1e6]", "factor; above 1 discourages", neutral=1)]
    window: Annotated[
        int | None, Whole("[0, inf)", "last tokens of prompt and answer that count; None: all")
    ] = None

    def edits(self, row: History, state: State) -> Edits | None:
        if self.theta == 1 or self.window == 0:
            return None
        return Edits(row.ids[-self.window :] if self.window else row.ids, factor=self.theta)


@dataclass(frozen=True)
class FrequencyPenalty(LogitsProcessor):
    """Subtract f nats for every time the token was generated, f in [-100, 100]; 0 is neutral.

    formula   l'(i) = l(i) - f * count(i)
    boundary  nothing is removed
    ties      equals that were generated equally often stay equal
    history   the answer; the prompt does not count
    neutral   f = 0
    source    the OpenAI API, "frequency_penalty"
    """

    f: Annotated[float, Real("[-100, 100]", "nats for each time it was generated", neutral=0)]

    def edits(self, row: History, state: State) -> Edits | None:
        ids = row.generated
        if self.f == 0 or not len(ids):
            return None
        return Edits(ids, add=-np.float32(self.f) * np.bincount(ids)[ids].astype(np.float32))


@dataclass(frozen=True)
class PresencePenalty(LogitsProcessor):
    """Subtract f nats if the token was generated before, f in [-100, 100]; 0 is neutral.

    formula   l'(i) = l(i) - f where count(i) > 0
    boundary  generated once or fifty times: the same; nothing is removed
    ties      equals that were generated stay equal
    history   the answer; the prompt does not count
    neutral   f = 0
    source    the OpenAI API, "presence_penalty"
    """

    f: Annotated[float, Real("[-100, 100]", "nats if it was generated", neutral=0)]

    def edits(self, row: History, state: State) -> Edits | None:
        return Edits(row.generated, add=-self.f) if self.f else None


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("repetition_penalty", RepetitionPenalty)
    register("frequency_penalty", FrequencyPenalty)
    register("presence_penalty", PresencePenalty)
