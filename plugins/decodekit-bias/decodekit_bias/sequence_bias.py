"""Sequence bias: push the token that completes a sequence."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from decodekit import LogitsProcessor
from decodekit.errors import ParameterError
from decodekit.parameters import real
from decodekit.tokenizer import Tokenizer
from decodekit_bias.sequences import MAX_SEQUENCES, Ids, check_sequence, push, spelt


@dataclass(frozen=True)
class SequenceBias(LogitsProcessor):
    """Push the last token of a sequence where the ones before it were just said; [] is neutral.

    formula   l[v] += bias where (end of the ids, v) is a sequence; several sequences add up
    boundary  a sequence of one token is always pushed; what was removed before stays so
    ties      none
    history   prompt and answer
    neutral   sequences = []
    source    transformers, `SequenceBiasLogitsProcessor`

    A sequence is {"tokens": [ids], "bias": nats} or {"text": text, "bias": nats}, bias in [-100, 100]; a
    text is the tokens that spell it by itself.
    """

    sequences: Sequence[Mapping[str, Any]]

    def __post_init__(self) -> None:
        if isinstance(self.sequences, str | Mapping) or len(self.sequences) > MAX_SEQUENCES:
            raise ParameterError(f"sequence_bias: sequences is a list of at most {MAX_SEQUENCES} objects")
        for i, entry in enumerate(self.sequences):
            place = f"sequence_bias: sequences[{i}]"
            if not isinstance(entry, Mapping) or entry.keys() not in ({"tokens", "bias"}, {"text", "bias"}):
                raise ParameterError(
                    f'{place} must be {{"tokens" or "text": ..., "bias": nats}}, got {entry!r:.80}'
                )
            real(f"{place}.bias", entry["bias"], "[-100, 100]")
            check_sequence(place, entry.get("tokens", entry.get("text")))
        object.__setattr__(self, "sequences", tuple(self.sequences))

    def bind(self, tokenizer):
        bound = copy.copy(self)
        bound.__dict__["_biases"] = self._spelt(tokenizer)
        return bound

    def edits(self, row, state):
        return push(row.ids, self._biases)

    @cached_property
    def _biases(self) -> dict[Ids, float]:
        return self._spelt(None)

    def _spelt(self, tokenizer: Tokenizer | None) -> dict[Ids, float]:
        biases: dict[Ids, float] = {}
        for entry in self.sequences:
            ids = spelt("sequence_bias", entry.get("tokens", entry.get("text")), tokenizer)
            biases[ids] = biases.get(ids, 0.0) + entry["bias"]
        return biases
