"""A least length: the tokens that would end an answer are held back until it has so many."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from decodekit.errors import ParameterError
from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array, keep
from decodekit.parameters import whole
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.tokenizer import Tokenizer


@dataclass(frozen=True)
class MinNewTokens(LogitsProcessor):
    """Remove the candidates `ids` until n >= 0 tokens were generated; 0 is neutral."""

    n: int
    ids: Collection[int]

    def __post_init__(self) -> None:
        whole("min_new_tokens: n", self.n, "[0, inf)")
        if isinstance(self.ids, str) or not all(type(i) is int for i in self.ids):
            raise ParameterError(f"min_new_tokens: ids must be token ids, got {self.ids!r}")
        object.__setattr__(self, "ids", tuple(sorted(self.ids)))

    def bind(self, tokenizer: Tokenizer) -> MinNewTokens:
        wrong = [i for i in self.ids if not 0 <= i < tokenizer.size]
        if wrong:
            raise ParameterError(f"min_new_tokens: token ids are in [0, {tokenizer.size}), got {wrong[0]}")
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
