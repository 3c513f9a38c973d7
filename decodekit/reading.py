"""
Reading: what a model predicts along ids that are already there.

The model is called on the engine's thread, a chunk a turn, so requests that run beside it go
on, and at most the logits of a chunk are held. The cache is the reading's own, beside the
engine's memory, and goes with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from decodekit.engine import Engine
from decodekit.model import new_cache
from decodekit.ops import Array
from decodekit.places import CHUNK


def read(engine: Engine, ids: Array, first: int = 0, adapter: str | None = None) -> Iterator[Array]:
    """Logits of what follows ids[first], ids[first + 1], ... to the last, float32 [<= CHUNK, V] at a time.

    ids      int [T], no more than fit into the context window
    first    in [0, T]; what is before is read too
    adapter  of the model; None: none
    """
    cache = new_cache(engine.model, adapter)
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        last = min(len(chunk), max(0, start + len(chunk) - first))
        logits, cache = engine.call(partial(engine.model, chunk, cache, last=last))
        if last:
            yield logits
