"""Rows of a slab bound to a graph, so that a call writes numbers and runs."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from decodekit.device_logits import DeviceLogits
from decodekit.device_memory import DeviceMemory
from decodekit.graph_model import GraphModel
from decodekit.kv_cache import Slab
from decodekit.ops import Array

MASK_BLOCK = 64  # an attention mask grows by so many places


class BoundRows:
    """For calls of one shape.

    memory  of the device, where cache and logits stay; None: they are NumPy's

    The small inputs lie side by side in one buffer, which is written at once: after a pass
    over all weights nothing is in the processor's caches, and every touch counts.
    """

    def __init__(
        self,
        model: GraphModel,
        memory: DeviceMemory | None,
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
        if memory is None:
            logits: Array = np.empty(shape, model.logits_dtype)
            self._logits = logits[:, given - last :]
        else:
            logits = memory.zeros(shape, model.logits_dtype)
            self._logits = DeviceLogits(logits, last, memory)
        binding.output("logits", logits)
        for past, present, array in zip(model.past, model.present, slab.arrays, strict=True):
            view = array[first : first + rows] if memory is None else array.rows(first, first + rows)
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
