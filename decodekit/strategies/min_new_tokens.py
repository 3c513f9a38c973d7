"""A least length: the tokens that would end an answer are held back until it has so many."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array, keep
from decodekit.parameters import Whole, known_ids, token_ids
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.tokenizer import Tokenizer


@dataclass(frozen=True)
class MinNewTokens(LogitsProcessor):
    """Remove the candidates `ids` until n tokens were generated; 0 is neutral.

    formula   l[v] = -inf for v in `ids` while fewer than n tokens were generated
    boundary  the token after the n-th may be any
    ties      none
    history   the length of the answer
    neutral   n = 0, or ids = []
    source    transformers, `MinNewTokensLengthLogitsProcessor`; vLLM, `min_tokens`
    """

    n: Annotated[int, Whole("[0, inf)", "generated tokens", neutral=0)]
    ids: Collection[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        token_ids("min_new_tokens: ids", self.ids)
        object.__setattr__(self, "ids", tuple(sorted(self.ids)))

    def bind(self, tokenizer: Tokenizer) -> MinNewTokens:
        known_ids("min_new_tokens", self.ids, tokenizer.size)
        return self

    def process(self, logits: Array, step: Step, state: State) -> Array:
        short = np.asarray([len(row.generated) < self.n for row in step.rows])
        if not short.any():
            return logits
        removed = np.zeros(logits.shape, bool)
        for id in self.ids:
            removed |= step.ids == id
        return keep(logits, ~(removed & short[:, None]))


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("min_new_tokens", MinNewTokens)
