"""Suppress at begin: tokens that must not be the first of an answer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from decodekit import LogitsProcessor
from decodekit.edits import Edits
from decodekit.parameters import known_ids, token_ids


@dataclass(frozen=True)
class SuppressAtBegin(LogitsProcessor):
    """Remove some tokens at the first place of an answer; [] is neutral.

    formula   l[v] = -inf where v is one of `ids` and nothing was generated yet
    boundary  the first token only
    ties      none
    history   the length of the answer
    neutral   ids = []
    source    transformers, `SuppressTokensAtBeginLogitsProcessor`
    """

    ids: Collection[int]

    def __post_init__(self) -> None:
        token_ids("suppress_at_begin: ids", self.ids)
        object.__setattr__(self, "ids", tuple(sorted(set(self.ids))))

    def bind(self, tokenizer):
        known_ids("suppress_at_begin", self.ids, tokenizer.size)
        return self

    def edits(self, row, state):
        return Edits(np.asarray(self.ids), add=-np.inf) if self.ids and not len(row.generated) else None
