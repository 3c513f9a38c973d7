"""A least length: the tokens that would end an answer are held back until it has so many."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit.edits import Edits
from decodekit.history import History
from decodekit.hookspecs import Register, hookimpl
from decodekit.parameters import Whole, known_ids, token_ids
from decodekit.processors import LogitsProcessor, State
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

    def edits(self, row: History, state: State) -> Edits | None:
        short = len(row.generated) < self.n
        return Edits(np.asarray(self.ids, np.int64), add=-np.inf) if short else None


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("min_new_tokens", MinNewTokens)
