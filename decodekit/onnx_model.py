"""
A decoder as a graph: token ids in, logits out, keys and values kept where the graph wants them.

Graph inputs   input_ids int64 [B, T], position_ids int64 [B, T], attention_mask int64 [B, P + T],
               lengths int32 [B], total_length int32 [], logit_positions int64 [K],
               past_key_values.<layer>.key and .value; an unused one may be absent; what adapters
               take, see `adapters`
Graph outputs  logits [B, K, V], or [B, T, V] without logit_positions; present.<layer>.key and .value
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from decodekit.adapters import Adapters
from decodekit.bundle import Bundle
from decodekit.device_logits import DeviceLogits
from decodekit.device_memory import DeviceMemory
from decodekit.device_slab import DeviceSlab
from decodekit.errors import BundleError, ContextError
from decodekit.kv_cache import ConcatenatingCache, InPlaceCache, Slab, Writers
from decodekit.onnx_session import Session
from decodekit.ops import Array
from decodekit.slab_slots import FIRST_CAPACITY, SlabSlots

MASK_BLOCK = 64  # an attention mask grows by so many places
MAX_BINDINGS = 64  # shapes of calls that a slab stays bound for


def load_model(
    bundle: Bundle, *, device: str = "auto", threads: int | None = None
) -> InPlaceModel | ConcatenatingModel:
    """The bundle's graph in a session; arguments as for `Session`."""
    session = Session(bundle.graph, device=device, threads=threads)
    if bundle.cache.kind != "in_place":
        return ConcatenatingModel(bundle, session)
    memory = None if session.device == "cpu" else DeviceMemory(session.device)
    return InPlaceModel(bundle, session, memory)


class OnnxModel:
    """What both cache kinds share: one session, and what its inputs and outputs are called."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self.vocabulary = bundle.vocabulary
        self.context_length = bundle.context_length
        self.spec = bundle.cache
        self.session = session
        self.past = [f"past_key_values.{n}.{s}" for n in range(self.spec.layers) for s in ("key", "value")]
        self.present = [f"present.{n}.{s}" for n in range(self.spec.layers) for s in ("key", "value")]
        self.positions = bundle.positions
        self.logits_dtype = np.float16 if "float16" in session.outputs.get("logits", "") else np.float32
        self.adapters = Adapters(bundle, session)
        _check_graph(bundle, session, {*self.past, *self.adapters.inputs}, self.present)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.session.provider

    @property
    def bytes_per_token(self) -> int:
        """Of the cache, in one row."""
        return self.spec.bytes_per_token

    def admit(self, tokens: int, length: int) -> None:
        """Raise ContextError if that many tokens do not fit behind `length` others."""
        if length + tokens > self.context_length:
            raise ContextError(
                f"{length} tokens and {tokens} more exceed the context window of {self.context_length}"
            )


class InPlaceModel(OnnxModel):
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
        bound = slab.bound.pop(shape, None) or BoundRows(self, slab, *shape)
        if len(slab.bound) >= MAX_BINDINGS:
            slab.bound.pop(next(iter(slab.bound)))  # the one not used for longest
        slab.bound[shape] = bound
        return bound(tokens, lengths, adapters)


class BoundRows:
    """Rows of a slab bound to a graph for calls of one shape. A call writes numbers and runs.

    The small inputs lie side by side in one buffer, which is written at once: after a pass
    over all weights nothing is in the processor's caches, and every touch counts.
    """

    def __init__(
        self,
        model: InPlaceModel,
        slab: Slab,
        first: int,
        rows: int,
        tokens: int,
        last: int,
        active: tuple[str, ...],
    ) -> None:
        self._binding = binding = model.session.binding()
        self._rows, self._tokens, self._capacity = rows, tokens, slab.capacity
        count = rows * tokens
        self._layout = struct.Struct(f"={2 * count}q{rows + 1}i")
        numbers = np.zeros(self._layout.size, np.uint8)
        self._memory = numbers.data
        ids, positions = numbers[: 16 * count].view(np.int64).reshape(2, rows, tokens)
        lengths = numbers[16 * count :].view(np.int32)
        for name, array in (
            ("input_ids", ids),
            ("position_ids", positions),
            ("lengths", lengths[:rows]),
            ("total_length", lengths[rows:].reshape(())),
            ("logit_positions", np.arange(tokens - last, tokens)),
        ):
            if name in model.session.inputs:
                binding.input(name, array)
        self._masked = "attention_mask" in model.session.inputs
        self._mask: Array = np.zeros((rows, 0), np.int64)

        given = last if "logit_positions" in model.session.inputs else tokens
        shape = (rows, given, model.vocabulary)
        self._logits: Array
        if model.memory is None:
            logits: Array = np.empty(shape, model.logits_dtype)
            self._logits = logits[:, given - last :]
        else:
            logits = model.memory.zeros(shape, model.logits_dtype)
            self._logits = DeviceLogits(logits, last, model.memory)
        binding.output("logits", logits)
        for past, present, memory in zip(model.past, model.present, slab.arrays, strict=True):
            on_host = model.memory is None
            view = memory[first : first + rows] if on_host else memory.rows(first, first + rows)
            binding.input(past, view)
            binding.output(present, view)

        self._adapters, self._active = model.adapters, active
        for name, array in self._adapters.matrices(active).items():
            binding.input(name, array)
        self._adapted: tuple[str | None, ...] = (None,) * rows
        self._write_adapted(self._adapted)

    def __call__(
        self, tokens: Sequence[int], lengths: Sequence[int], adapters: Sequence[str | None]
    ) -> Array:
        count = self._tokens
        after = [length + count for length in lengths]
        total = max(after)
        positions = lengths if count == 1 else [p for n in lengths for p in range(n, n + count)]
        self._layout.pack_into(self._memory, 0, *tokens, *positions, *after, total)
        if self._masked:
            self._write_mask(after, total)
        if self._active and (adapted := tuple(adapters)) != self._adapted:
            self._write_adapted(adapted)
        self._binding.run()
        if isinstance(self._logits, DeviceLogits) or self._logits.dtype == np.float32:
            return self._logits
        return self._logits.astype(np.float32)

    def _write_adapted(self, adapters: tuple[str | None, ...]) -> None:
        for name, array in self._adapters.rows(self._active, adapters).items():
            self._binding.input(name, array)
        self._adapted = adapters

    def _write_mask(self, after: Sequence[int], total: int) -> None:
        """Ones up to each row's length; wider for steps of one token, so that its shape changes seldom."""
        width = total
        if self._tokens == 1:
            width = min(-(-total // MASK_BLOCK) * MASK_BLOCK, self._capacity)
        if self._mask.shape[1] != width:
            self._mask = np.zeros((self._rows, width), np.int64)
            self._binding.input("attention_mask", self._mask)
        np.less(np.arange(width), np.asarray(after)[:, None], out=self._mask, casting="unsafe")


class ConcatenatingModel(OnnxModel):
    """Present is past with the new tokens behind it, in new memory at every call."""

    def new_cache(self, adapter: str | None = None) -> ConcatenatingCache:
        empty = np.zeros((1, self.spec.kv_heads, 0, self.spec.head_dim), self.spec.dtype)
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


def _check_graph(bundle: Bundle, session: Session, own: set[str], present: list[str]) -> None:
    known = {"input_ids", "position_ids", "attention_mask", "lengths", "total_length", "logit_positions"}
    inputs, outputs = set(session.inputs), set(session.outputs)
    for what, names in (
        ("inputs that are missing", {"input_ids", *own} - inputs),
        ("inputs that nobody feeds", inputs - known - own),
        ("outputs that are missing", {"logits", *present} - outputs),
    ):
        if names:
            raise BundleError(
                f"{bundle.graph}: {what}: {', '.join(sorted(names))}; the manifest is of another graph"
            )
