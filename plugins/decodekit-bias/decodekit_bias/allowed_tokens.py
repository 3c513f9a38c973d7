"""Allowed tokens: nothing but these."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from decodekit import LogitsProcessor
from decodekit.edits import mask_of
from decodekit.errors import ParameterError
from decodekit.ops import Array
from decodekit.parameters import known_ids, token_ids


@dataclass(frozen=True)
class AllowedTokens(LogitsProcessor):
    """Remove every token but some.

    formula   l[v] = -inf where v is none of `ids`
    boundary  an end token is allowed only if it is among them; where none of them is left, an error
    ties      none
    history   none
    neutral   none
    source    vLLM, `allowed_token_ids`; transformers, `prefix_allowed_tokens_fn`
    """

    ids: Collection[int]

    def __post_init__(self) -> None:
        token_ids("allowed_tokens: ids", self.ids)
        if not self.ids:
            raise ParameterError("allowed_tokens: ids is empty, so nothing could be said; give at least one")
        object.__setattr__(self, "ids", tuple(sorted(set(self.ids))))

    def bind(self, tokenizer):
        known_ids("allowed_tokens", self.ids, tokenizer.size)
        return self

    def mask(self, row, state):
        return self._mask

    @cached_property
    def _mask(self) -> Array:
        return mask_of(np.asarray(self.ids), max(self.ids) + 1)
