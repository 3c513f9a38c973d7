"""
Telling: what a graph is told of edits and masks, as inputs, where `editing` does them.

Inputs of a strategy at some place of a chain
    ids int32 [B, K], add and factor float32 [B, K]   for edits; rows that have fewer repeat their last
    mask uint8 [B, ceil(V / 8)]                       for masks; 255 everywhere lets through all

To be told costs 12 bytes an edit and an eighth of a byte a token, where the logits take four bytes a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from decodekit.edits import Edits, fitted
from decodekit.history import History
from decodekit.ops import Array
from decodekit.processors import LogitsProcessor, State

NUMBERS = {"ids": np.int32, "add": np.float32, "factor": np.float32}
Told = Mapping[int, Edits | Array | None]  # of one row: what the strategy at each place says


def kind_of(processor: LogitsProcessor) -> str:
    """What a strategy says of a row: "mask", "edits" or ""."""
    kind = type(processor)
    if kind.accept is not LogitsProcessor.accept:
        return ""
    if kind.mask is not LogitsProcessor.mask:
        return "mask"
    return "edits" if kind.edits is not LogitsProcessor.edits else ""


def tell(processor: LogitsProcessor, row: History, state: State) -> Edits | Array | None:
    """What it says of a row."""
    return processor.mask(row, state) if kind_of(processor) == "mask" else processor.edits(row, state)


def feeds(kinds: Mapping[int, str], told: Sequence[Told], vocabulary: int) -> dict[str, Array]:
    """What a graph is told of its rows, by the name of an input.

    kinds  of the strategies, by place
    told   of each row
    """
    found: dict[str, Array] = {}
    for place, kind in kinds.items():
        said: list[Any] = [one[place] for one in told]
        if kind == "mask":
            found[f"mask.{place}"] = np.stack([_bytes(mask, vocabulary) for mask in said])
        else:
            found |= {f"{name}.{place}": array for name, array in _numbers(said, vocabulary).items()}
    return found


def _bytes(mask: Array | None, vocabulary: int) -> Array:
    size = -(-vocabulary // 8)
    return np.full(size, 255, np.uint8) if mask is None else fitted(mask, vocabulary)[:size]


def _numbers(edits: Sequence[Edits | None], vocabulary: int) -> dict[str, Array]:
    """Rows as long as the longest, each id once."""
    chosen = [None if edit is None else _once(edit.ids, vocabulary) for edit in edits]
    shape = (len(edits), max(1, *(len(which) for which in chosen if which is not None), 0))
    found = {name: np.zeros(shape, dtype) for name, dtype in NUMBERS.items()}
    found["factor"][:] = 1
    for row, (edit, which) in enumerate(zip(edits, chosen, strict=True)):
        if edit is None or which is None or not len(which):
            continue
        for name, numbers in found.items():
            given = np.asarray(getattr(edit, name))
            of_ids = np.broadcast_to(given, edit.ids.shape)[which]
            numbers[row, : len(which)] = of_ids
            numbers[row, len(which) :] = of_ids[-1]
    return found


def _once(ids: Array, vocabulary: int) -> Array:
    """Places at which ids of the vocabulary are, one for each, int [M]."""
    there = np.flatnonzero(ids < vocabulary)
    last = np.empty(vocabulary, np.int64)  # only what is written is read
    last[ids[there]] = there
    return there[last[ids[there]] == there]
