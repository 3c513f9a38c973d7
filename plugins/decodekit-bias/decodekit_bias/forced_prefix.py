"""Forced prefix: what every answer begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from decodekit import LogitsProcessor
from decodekit.edits import mask_of
from decodekit_bias.sequences import Written, check_sequence, spelt


@dataclass(frozen=True)
class ForcedPrefix(LogitsProcessor):
    """Let every answer begin with a text, or with some ids; "" is neutral.

    formula   l[v] = -inf where v is not the next id of the prefix
    boundary  behind the prefix nothing is removed
    ties      none
    history   the length of the answer
    neutral   prefix = "" or []
    source    transformers, `ForceTokensLogitsProcessor`

    Its tokens are known ahead, so speculation reads them in one call. It goes first: where an
    earlier strategy removed the token that is forced, nothing is left to draw.
    """

    prefix: Written

    def __post_init__(self) -> None:
        if self.prefix not in ("", [], ()):
            check_sequence("forced_prefix: prefix", self.prefix)

    def bind(self, tokenizer):
        return replace(self, prefix=spelt("forced_prefix", self.prefix, tokenizer)) if self.prefix else self

    def mask(self, row, state):
        wanted = self.forced(row, state)[:1]
        return mask_of(np.asarray(wanted), wanted[0] + 1) if wanted else None

    def forced(self, row, state):
        return spelt("forced_prefix", self.prefix, None)[len(row.generated) :] if self.prefix else ()
