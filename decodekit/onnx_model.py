"""A decoder as a graph: token ids in, logits out, keys and values kept where the graph wants them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from decodekit.bound_rows import BoundRows
from decodekit.bundle import Bundle
from decodekit.device_memory import DeviceMemory
from decodekit.device_slab import DeviceSlab
from decodekit.errors import DeviceError
from decodekit.graph_model import GraphModel
from decodekit.kv_cache import ConcatenatingCache, InPlaceCache, Slab, Writers
from decodekit.onnx_session import Session, device_of
from decodekit.ops import Array
from decodekit.slab_slots import FIRST_CAPACITY, SlabSlots

MAX_BINDINGS = 64  # shapes of calls that a slab stays bound for


def load_model(
    bundle: Bundle, *, device: str = "auto", threads: int | None = None
) -> InPlaceModel | ConcatenatingModel:
    """The bundle's graph in a session; arguments as for `Session`."""
    if bundle.cache.dtype == "bfloat16" and device_of(device) == "cpu":
        raise DeviceError(
            f"{bundle.path}: it computes in bfloat16, for which only CUDA has kernels; use device='cuda' "
            "where there is a card, or export with --dtype float16"
        )
    session = Session(bundle.graph, device=device, threads=threads)
    if bundle.cache.kind != "in_place":
        return ConcatenatingModel(bundle, session)
    memory = None if session.device == "cpu" else DeviceMemory(session.device)
    return InPlaceModel(bundle, session, memory)


class InPlaceModel(GraphModel):
    """Past and present are one memory, bound once per shape of a call; a step appends in place.

    memory  of the device, where cache and logits stay; None: they are NumPy's
    """

    def __init__(self, bundle: Bundle, session: Session, memory: DeviceMemory | None = None) -> None:
        super().__init__(bundle, session)
        self.memory = memory

    def slab(self, rows: int, capacity: int) -> Slab:
        """Memory for that many sequences of that many tokens."""
        if self.memory is None:
            return Slab(self.spec, rows, capacity)
        return DeviceSlab(self.spec, rows, capacity, self.memory)

    def new_cache(self, adapter: str | None = None) -> InPlaceCache:
        slab = self.slab(1, min(FIRST_CAPACITY, self.context_length))
        return InPlaceCache(Writers(slab, adapter))

    def __call__(self, tokens: Array, cache: InPlaceCache, *, last: int = 1) -> tuple[Array, InPlaceCache]:
        self.admit(len(tokens), cache.length)
        cache.check()
        slab, after = cache.slab, cache.length + len(tokens)
        if after > slab.capacity:
            slab.resize(1, min(max(after, 2 * slab.capacity), self.context_length), [cache.length])
        adapters = () if cache.adapter is None else (cache.adapter,)
        ids = np.asarray(tokens).tolist()
        logits = self.run(slab, 0, ids, [cache.length], last, [cache.adapter], adapters)
        return logits[0].copy(), cache.extended(len(tokens))

    def slots(self, *, max_rows: int, max_bytes: int, together: bool) -> SlabSlots:
        """Places for sequences that decode together, where the graph knows each row's positions by itself."""
        together = together and self.positions in ("input", "operator")
        return SlabSlots(self, max_rows=max_rows, max_bytes=max_bytes, together=together)

    def run(
        self,
        slab: Slab,
        first: int,
        tokens: Sequence[int],
        lengths: Sequence[int],
        last: int,
        adapters: Sequence[str | None] = (),
        active: tuple[str, ...] = (),
    ) -> Array:
        """Append tokens to rows `first` and on, and predict what follows the last `last` of each.

        tokens    B times T ids, row after row
        lengths   tokens in each of the B rows before; several tokens behind others need B = 1
        adapters  of each of the B rows, those of `active` or None; () where none is active
        active    adapters that take part in the call
        Gives logits [B, last, V], which the next call of the same shape writes over: float32, or
        `DeviceLogits` where the model has memory of a device.
        """
        shape = (first, len(lengths), len(tokens) // len(lengths), last, active)
        bound = slab.bound.pop(shape, None) or BoundRows(self, self.memory, slab, *shape)
        if len(slab.bound) >= MAX_BINDINGS:
            slab.bound.pop(next(iter(slab.bound)))  # the one not used for longest
        slab.bound[shape] = bound
        return bound(tokens, lengths, adapters)


class ConcatenatingModel(GraphModel):
    """Present is past with the new tokens behind it, in new memory at every call."""

    def new_cache(self, adapter: str | None = None) -> ConcatenatingCache:
        empty = np.zeros((1, self.spec.kv_heads, 0, self.spec.head_dim), self.spec.array_dtype)
        return ConcatenatingCache([empty] * len(self.past), adapter=adapter)

    def __call__(
        self, tokens: Array, cache: ConcatenatingCache, *, last: int = 1
    ) -> tuple[Array, ConcatenatingCache]:
        self.admit(len(tokens), cache.length)
        count, after = len(tokens), cache.length + len(tokens)
        active = () if cache.adapter is None else (cache.adapter,)
        feeds: dict[str, Any] = {
            "input_ids": np.ascontiguousarray(tokens, np.int64)[None],
            "position_ids": np.arange(cache.length, after, dtype=np.int64)[None],
            "attention_mask": np.ones((1, after), np.int64),
            "logit_positions": np.arange(count - last, count, dtype=np.int64),
            **dict(zip(self.past, cache.tensors, strict=True)),
            **self.adapters.matrices(active),
            **self.adapters.rows(active, [cache.adapter]),
        }
        wanted = {name: feeds[name] for name in feeds.keys() & self.session.inputs.keys()}
        logits, *present = self.session.run(["logits", *self.present], wanted)
        logits = logits[0, logits.shape[1] - last :].astype(np.float32, copy=False)
        return logits, ConcatenatingCache(present, after, cache.adapter)
