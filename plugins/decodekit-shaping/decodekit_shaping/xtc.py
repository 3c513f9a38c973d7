"""
XTC, exclude top choices: now and then all likely candidates go but the least likely of them.

p-e-w, 2024, github.com/oobabooga/text-generation-webui, pull request 6335; in closed form
turboderp, ExLlamaV3.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, noise
from decodekit.ops import Array, array_namespace, keep, softmax
from decodekit.parameters import Real, known_ids, snake_case, token_ids


def top_choices(logits: Array, threshold: float | Array, held_out: Array | bool = False) -> Array:
    """The candidates that XTC excludes, bool [..., N]: those that qualify, but the least probable of them.

    logits     float [..., N], nats
    threshold  least probability to qualify, in (0, 1], scalar or [..., 1]
    held_out   bool [..., N]: candidates that neither qualify nor go

    Where several are the least probable, all of them stay.
    """
    xp = array_namespace(logits)
    p = softmax(logits)
    qualifies = (p >= threshold) & (logits > -xp.inf) & ~xp.asarray(held_out)
    least = xp.min(xp.where(qualifies, p, xp.full_like(p, xp.inf)), axis=-1, keepdims=True)
    return qualifies & (p > least)


def xtc_expected(logits: Array, probability: float | Array, excluded: Array) -> Array:
    """The average of the distributions with and without the candidates that are `excluded` bool [..., N].

    Their probabilities are multiplied by 1 - probability, all others by
    1 + probability m / (1 - m), m the mass of the excluded.
    """
    xp = array_namespace(logits)
    p = softmax(logits)
    nothing = xp.zeros_like(p)
    mass = xp.sum(xp.where(excluded, p, nothing), axis=-1, keepdims=True)
    rest = xp.sum(xp.where(excluded, nothing, p), axis=-1, keepdims=True)
    chance = xp.asarray(probability, dtype=p.dtype)
    with np.errstate(divide="ignore"):
        factor = xp.log1p(-chance) - xp.log1p(chance * mass / rest)
    return xp.where(excluded, logits + factor, logits)


class _Protecting(LogitsProcessor):
    """A strategy with the fields `protect`, ids that it holds out, and `protect_stop`, the end tokens too."""

    def __post_init__(self):
        super().__post_init__()
        token_ids(f"{self._name}: protect", self.protect)
        object.__setattr__(self, "protect", tuple(sorted(self.protect)))

    def bind(self, tokenizer):
        known_ids(self._name, self.protect, tokenizer.size)
        return replace(self, protect={*self.protect, *tokenizer.stop_ids}) if self.protect_stop else self

    @property
    def _name(self):
        return snake_case(type(self).__name__)


@dataclass(frozen=True)
class Xtc(_Protecting):
    """Exclude top choices: at random remove all likely candidates but the least likely one; 0 is neutral.

    formula   S = {i: p(i) >= threshold}; with chance `probability`, if S has two or more,
              remove S but its least probable
    boundary  exactly the threshold: qualifies; a row without two that qualify stays as it is
    ties      equal to the least probable of S: stay
    history   the chance is a coin keyed by seed, sample and position, the same for all "xtc" of a chain
    neutral   probability = 0, or threshold above 0.5
    source    p-e-w, github.com/oobabooga/text-generation-webui, pull request 6335, 2024

    Nothing is protected unless it is named. A protected token is held out: it neither goes nor counts
    as one that qualifies, so that an end token is not left as the only likely one.
    """

    probability: Annotated[float, Real("[0, 1]", "chance of an exclusion", neutral=0)]
    threshold: Annotated[float, Real("(0, 1]", "least probability to qualify", neutral=1)] = 0.1
    protect: Collection[int] = ()
    protect_stop: bool = False

    def process(self, logits, step, state):
        if self.probability == 0 or self.threshold > 0.5:
            return logits
        happens = noise.uniform(step.rows, "xtc") < self.probability
        if not happens.any():
            return logits
        return keep(logits, ~(happens & top_choices(logits, self.threshold, np.isin(step.ids, self.protect))))


@dataclass(frozen=True)
class XtcExpected(_Protecting):
    """Exclude top choices on average: the mean of XTC's two outcomes, without chance; 0 is neutral.

    formula   S as for xtc without its least probable, m = p(S); p'(i) ~ p(i) (1 - probability) in S,
              p(i) (1 + probability m / (1 - m)) elsewhere
    boundary  exactly the threshold: qualifies; at probability = 1 the set S is removed
    ties      equal to the least probable that qualifies: not in S
    history   none
    neutral   probability = 0, or threshold above 0.5
    source    turboderp, github.com/turboderp-org/exllamav3, "SS_XTC", 2025

    Its draws follow the law of xtc's. Greedy decoding differs: it sees the mean, not one outcome.
    Protection is that of xtc.
    """

    probability: Annotated[float, Real("[0, 1]", "weight of the exclusion", neutral=0)]
    threshold: Annotated[float, Real("(0, 1]", "least probability to qualify", neutral=1)] = 0.1
    protect: Collection[int] = ()
    protect_stop: bool = False

    def process(self, logits, step, state):
        if self.probability == 0 or self.threshold > 0.5:
            return logits
        excluded = top_choices(logits, self.threshold, np.isin(step.ids, self.protect))
        return xtc_expected(logits, self.probability, excluded)
