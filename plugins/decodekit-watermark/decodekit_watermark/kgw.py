"""
The green list: a share gamma of the candidates, another one after every context, is made more likely.

Kirchenbauer et al., "A Watermark for Large Language Models", ICML 2023, arXiv:2301.10226,
algorithms 2 and 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, Step, noise
from decodekit.errors import ParameterError
from decodekit.ops import Array
from decodekit.parameters import Real, Whole
from decodekit.processors import State
from decodekit_watermark.context import KEYS, MOST, contexts, secrets
from decodekit_watermark.evidence import Detection
from decodekit_watermark.tails import binomial_tail


def lefthash(key: int, contexts: Array, ids: Array) -> tuple[Array, Array]:
    """The secret number of each candidate after each context; and which tokens decided it: all of them.

    contexts  int [C, h], ids int [C, N]; the numbers are uint32 [C, N], uniform
    """
    return noise.high_bits(secrets(key, contexts, b"decodekit.kgw.1"), ids), contexts


def selfhash(key: int, contexts: Array, ids: Array) -> tuple[Array, Array]:
    """The same by one token of the context, int [C, N]: the one whose hash with the candidate is least."""
    pairs = np.stack(
        [noise.high_bits(secrets(key, column[:, None], b"decodekit.kgw.2"), ids) for column in contexts.T]
    )
    seeds = pairs.min(axis=0)
    keys = np.zeros((seeds.size, 4), np.uint32)
    keys[:, 0] = secrets(key, [contexts[:0]], b"decodekit.kgw.3")[0, 0]
    keys[:, 1] = seeds.reshape(-1)
    numbers = noise.high_bits(keys, ids.reshape(-1, 1)).reshape(ids.shape)
    return numbers, np.take_along_axis(contexts, pairs.argmin(axis=0), axis=-1)


SCHEMES = {"lefthash": lefthash, "selfhash": selfhash}


@dataclass(frozen=True)
class Kgw(LogitsProcessor):
    """Mark a text: add delta to the logits of a secret, context-dependent share gamma of the candidates.

    formula   l' = l + delta [H(key, context, i) < gamma], the context being the h tokens before; with
              selfhash the one of these whose hash with i is least, which survives edits of the others
    boundary  only where the whole context lies in the answer: its first h tokens are not marked
    ties      treated alike
    history   the last h tokens of the answer; the prompt does not count
    neutral   delta = 0
    source    Kirchenbauer et al., "A Watermark for Large Language Models", ICML 2023, arXiv:2301.10226,
              algorithm 2 (lefthash), algorithm 3 (selfhash). A hash takes the place of a permutation of
              the vocabulary, so gamma is the probability of green, not an exact share
    """

    key: Annotated[int, Whole(KEYS, "secret; the detector needs it")]
    gamma: Annotated[float, Real("(0, 1)", "share of green candidates")] = 0.25
    delta: Annotated[float, Real("[0, 100]", "added to green ones, nats", neutral=0)] = 2.0
    h: Annotated[int, Whole(f"[1, {MOST}]", "tokens of the context")] = 1
    seeding: str = "lefthash"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.seeding, str) or self.seeding not in SCHEMES:
            known = " or ".join(map(repr, SCHEMES))
            raise ParameterError(f"kgw: seeding must be {known}, got {self.seeding!r}")

    def process(self, logits: Array, step: Step, state: State) -> Array:
        if self.delta == 0:
            return logits
        green = np.zeros(logits.shape, bool)
        for i, row in enumerate(step.rows):
            if len(row.generated) >= self.h:
                green[i] = self.green(row.generated[None, -self.h :], step.ids[i : i + 1])[0]
        return np.where(green, logits + np.asarray(self.delta, logits.dtype), logits)

    def green(self, contexts: Array, ids: Array) -> Array:
        """Whether each candidate, int [C, N], is green after each context, int [C, h]."""
        numbers, _ = SCHEMES[self.seeding](self.key, contexts, ids)
        return self._below(numbers)

    def detect(self, ids: Array) -> Detection:
        """What this mark left in the ids of a text, int [T].

        A token counts once with all that decided on it, since chance is thrown once for them.
        """
        before, tokens = contexts(ids, self.h), ids[self.h :, None]
        numbers, deciding = SCHEMES[self.seeding](self.key, before, tokens)
        _, places = np.unique(np.hstack([deciding, tokens]), axis=0, return_index=True)
        n, gamma = len(places), self.gamma
        count = int(self._below(numbers[places]).sum())
        return Detection(
            tokens=n,
            score=float(count),
            expected=n * gamma,
            z=(count - n * gamma) / math.sqrt(n * gamma * (1 - gamma)) if n else 0.0,
            p_value=binomial_tail(count, n, gamma),
        )

    def _below(self, numbers: Array) -> Array:
        return numbers < np.uint32(self.gamma * 2.0**32)
