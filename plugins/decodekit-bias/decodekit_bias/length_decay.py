"""Length decay: the end of an answer grows more likely with every token."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor
from decodekit.errors import ParameterError
from decodekit.parameters import Real, Whole, known_ids, token_ids

LARGEST = 1e6  # of the factor's power, so that nothing overflows


@dataclass(frozen=True)
class LengthDecay(LogitsProcessor):
    """Make the end of an answer more likely with every token behind the first `start`; factor 1 is neutral.

    formula   l[e] += |l[e]| * (factor^(n - start) - 1) for end tokens e, n > start tokens generated
    boundary  nothing at n = start; the factor's power is at most 1e6
    ties      none
    history   the length of the answer
    neutral   factor = 1
    source    transformers, `ExponentialDecayLengthPenalty`

    End tokens are `ends`, or where these are not given those of the model.
    """

    start: Annotated[int, Whole("[0, inf)", "tokens before it begins")]
    factor: Annotated[float, Real("(0, 100]", "for every token more", neutral=1)] = 1.0
    ends: Collection[int] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        token_ids("length_decay: ends", self.ends)
        object.__setattr__(self, "ends", tuple(sorted(set(self.ends))))

    def bind(self, tokenizer):
        known_ids("length_decay", self.ends, tokenizer.size)
        ends = self.ends or tokenizer.stop_ids
        if not ends:
            raise ParameterError(
                "length_decay: this model has no stop token; name some with length_decay.ends"
            )
        return replace(self, ends=tuple(ends))

    def process(self, logits, step, state):
        if self.factor == 1:
            return logits
        if not self.ends:
            raise ParameterError("length_decay: no end token is known; bind it to a tokenizer, or give ends")
        decayed = logits
        for row, history in enumerate(step.rows):
            over = len(history.generated) - self.start
            columns = step.columns(row, np.asarray(self.ends))
            if over > 0 and len(columns):
                decayed = logits.copy() if decayed is logits else decayed
                gain = math.expm1(min(over * math.log(self.factor), math.log(LARGEST)))
                end = logits[row, columns]
                size = np.where(np.isfinite(end), np.abs(end), np.zeros_like(end))
                decayed[row, columns] = end + size * end.dtype.type(gain)
        return decayed
