"""Logit bias: push single tokens up or down. The OpenAI API, "logit_bias"."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from decodekit.edits import Edits
from decodekit.errors import ParameterError
from decodekit.history import History
from decodekit.hookspecs import Register, hookimpl
from decodekit.ops import Array
from decodekit.parameters import known_ids, real
from decodekit.processors import LogitsProcessor, State
from decodekit.tokenizer import Tokenizer


def logit_bias(logits: Array, ids: Array, bias: Mapping[int, float]) -> Array:
    """Add bias[id] to the candidates it names.

    logits  float [..., N], nats
    ids     int [..., N], token id of each column
    bias    nats by token id; an empty one changes nothing
    """
    if not bias:
        return logits
    named = np.asarray(sorted(bias))
    place = np.searchsorted(named, ids).clip(max=len(named) - 1)
    added = np.where(named[place] == ids, np.asarray([bias[i] for i in named])[place], 0.0)
    return logits + added.astype(logits.dtype)


@dataclass(frozen=True)
class LogitBias(LogitsProcessor):
    """Add bias[id] in [-100, 100] nats to the logit of each named token; {} is neutral.

    formula   l'(i) = l(i) + bias[id of i], 0 for tokens that are not named
    boundary  nothing is removed; what was removed before stays so
    ties      none
    history   none
    neutral   bias = {}
    source    the OpenAI API, "logit_bias"
    """

    bias: Mapping[int, float]

    def __post_init__(self) -> None:
        if not isinstance(self.bias, Mapping):
            raise ParameterError(f"logit_bias: bias must map token ids to numbers, got {self.bias!r}")
        by_id = {_id(key): value for key, value in self.bias.items()}
        if len(by_id) < len(self.bias):
            raise ParameterError(f"logit_bias: bias must name each token once, got {self.bias!r}")
        for id, value in by_id.items():
            real(f"logit_bias: bias[{id}]", value, "[-100, 100]")
        object.__setattr__(self, "bias", by_id)

    def bind(self, tokenizer: Tokenizer) -> LogitBias:
        known_ids("logit_bias", self.bias, tokenizer.size)
        return self

    def edits(self, row: History, state: State) -> Edits | None:
        return self._edits if self.bias else None

    @cached_property
    def _edits(self) -> Edits:
        return Edits(np.asarray([*self.bias]), add=np.asarray([*self.bias.values()]))


def _id(key: Any) -> int:
    """JSON spells ids as strings."""
    whole = isinstance(key, int | np.integer) and not isinstance(key, bool)
    if whole or (isinstance(key, str) and re.fullmatch(r"-?[0-9]{1,18}", key)):
        return int(key)
    raise ParameterError(f"logit_bias: bias must map token ids to numbers, got the id {key!r}")


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("logit_bias", LogitBias)
