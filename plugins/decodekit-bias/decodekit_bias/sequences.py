"""Sequences of tokens: how they are written, and what is added to the token that completes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from decodekit.edits import Edits
from decodekit.errors import ParameterError
from decodekit.ops import Array
from decodekit.parameters import known_ids, token_ids
from decodekit.tokenizer import Tokenizer

MAX_SEQUENCES = 1000

Ids = tuple[int, ...]
Written = str | Sequence[int]  # a text, or token ids


def pushed(history: Array, sequences: Mapping[Ids, float]) -> dict[int, float]:
    """What to add to the logit of each id that completes a sequence; several sequences add up.

    history    int [T], ids so far
    sequences  ids of a sequence -> what its last id gets where the ones before are the end of the history
    """
    longest = max(map(len, sequences), default=1) - 1
    end = tuple(history[max(0, len(history) - longest) :].tolist())
    added: dict[int, float] = {}
    for (*before, last), bias in sequences.items():
        if end[max(0, len(end) - len(before)) :] == tuple(before):
            added[last] = added.get(last, 0.0) + bias
    return added


def push(history: Array, sequences: Mapping[Ids, float]) -> Edits | None:
    """What `pushed` adds, as edits."""
    added = pushed(history, sequences)
    if not added:
        return None
    return Edits(np.fromiter(added, np.int64), add=np.fromiter(added.values(), np.float64))


def check_sequence(place: str, sequence: Any) -> None:
    """Raise ParameterError unless `sequence` is a text or token ids, not empty."""
    if isinstance(sequence, str):
        if not sequence:
            raise ParameterError(f"{place} is empty; give at least one character")
        return
    token_ids(place, sequence)
    if not sequence:
        raise ParameterError(f"{place} is empty; give at least one token id")


def spelt(name: str, sequence: Written, tokenizer: Tokenizer | None) -> Ids:
    """The ids of a sequence: those that spell a text by itself, or the given ones."""
    if not isinstance(sequence, str):
        if tokenizer is not None:
            known_ids(name, sequence, tokenizer.size)
        return tuple(sequence)
    if tokenizer is None:
        raise ParameterError(
            f"{name}: without a tokenizer {sequence!r:.80} has no tokens; bind it, or give token ids"
        )
    if not (ids := tokenizer.encode_plain(sequence)):
        raise ParameterError(f"{name}: no token spells {sequence!r:.80}; give token ids")
    return tuple(ids)
