"""Editing: edits and masks as operators of a graph. `telling` makes what it is told."""

from __future__ import annotations

from collections.abc import Sequence

import ndonnx as ndx
import numpy as np
import spox.opset.ai.onnx.v21 as op

from decodekit.edits import mask_bounds
from decodekit.graph_sampling.telling import NUMBERS


def inputs(kind: str, place: int, vocabulary: int) -> dict[str, ndx.Array]:
    """New inputs of a graph for a strategy, by name."""
    if kind == "mask":
        return {f"mask.{place}": ndx.argument(shape=("rows", -(-vocabulary // 8)), dtype=ndx.uint8)}
    width = f"edits.{place}"
    return {
        f"{name}.{place}": ndx.argument(shape=("rows", width), dtype=ndx.from_numpy_dtype(np.dtype(dtype)))
        for name, dtype in NUMBERS.items()
    }


def edited(logits: ndx.Array, told: Sequence[ndx.Array]) -> ndx.Array:
    """Logits [B, V] after edits: ids, add and factor [B, K]."""
    ids, add, factor = told
    places = op.cast(ids.unwrap_spox(), to=np.int64)
    before = ndx.asarray(op.gather_elements(logits.unwrap_spox(), places, axis=-1))
    after = ndx.where(before < 0, before * factor, before / factor) + add
    return ndx.asarray(op.scatter_elements(logits.unwrap_spox(), places, after.unwrap_spox(), axis=-1))


def masked(logits: ndx.Array, mask: ndx.Array, vocabulary: int) -> ndx.Array:
    """Logits [B, V] that a mask [B, W] lets through: a table gives the eight bounds of each byte."""
    table = op.const(mask_bounds("<f4"))
    bounds = ndx.asarray(op.gather(table, op.cast(mask.unwrap_spox(), to=np.int32), axis=0))
    flat = ndx.reshape(bounds, (-1, 8 * -(-vocabulary // 8)))[:, :vocabulary]
    return ndx.minimum(logits, flat)
