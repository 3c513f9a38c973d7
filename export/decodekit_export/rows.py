"""
Rows being decoded: a batch of sequences, their cache, and the graph that extends both.

The smallest honest client of a graph: it binds what the graph contract says and nothing
else, so that what the parity gate measures is the graph. One class per cache kind, with
the same two verbs: `feed` tokens, and look at the cache of a `row`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from decodekit.devices import CUDA
from decodekit.onnx_session import BFLOAT16, DISABLED, check_provider, load_libraries
from decodekit_export.cache import CacheShape
from decodekit_export.errors import ExportError, first_line

Array = np.ndarray[Any, Any]
Feeds = Callable[[int], Mapping[str, Array]]  # further inputs of a graph, by the number of rows


def no_feeds(rows: int) -> Mapping[str, Array]:
    return {}


def open_session(path: Path, dtype: str = "float32") -> onnxruntime.InferenceSession:
    """A session as a runtime would open it, quiet: on the CPU, but in bfloat16 on CUDA.

    dtype  that the graph computes in
    """
    providers = [CUDA] if dtype == "bfloat16" else []
    if providers:
        load_libraries()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; they need not be printed as well
    with _understood():
        session = onnxruntime.InferenceSession(
            path, options, providers=[*providers, "CPUExecutionProvider"], disabled_optimizers=DISABLED
        )
    for provider in providers:
        check_provider(provider, session.get_providers())
    return session


class InPlaceRows:
    """Rows whose keys and values live in one buffer per layer and side.

    batch     number of rows
    capacity  the most tokens a row may hold
    feeds     what the graph is given besides
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: CacheShape,
        batch: int,
        capacity: int,
        feeds: Feeds = no_feeds,
    ) -> None:
        self._session, self._further = session, feeds(batch)
        self._names = {i.name for i in session.get_inputs()}
        size = (shape.layers, 2, batch, shape.kv_heads, capacity, shape.head_dim)
        self._is_bfloat16 = shape.dtype == "bfloat16"
        self._cache = np.zeros(size, dtype=np.uint16 if self._is_bfloat16 else shape.dtype)
        self.lengths = np.zeros(batch, dtype=np.int32)

    def feed(self, tokens: Sequence[Sequence[int]], wanted: Sequence[int] | None = None) -> Array:
        """Append tokens to every row; logits [B, K, V] at the `wanted` columns, by default all.

        Unequal numbers of tokens are padded on the right, which needs an empty cache.
        """
        ids, counts = _pad(tokens)
        positions = self.lengths[:, None] + np.arange(ids.shape[1])
        self.lengths = (self.lengths + counts).astype(np.int32)
        places = np.arange(self.lengths.max())
        feed = {
            "input_ids": ids,
            "position_ids": positions.astype(np.int64),
            "attention_mask": (places < self.lengths[:, None]).astype(np.int64),
            "lengths": self.lengths,
            "total_length": np.asarray(self.lengths.max(), dtype=np.int32),
            "logit_positions": _columns(ids, wanted),
            **self._further,
        }
        binding = self._session.io_binding()
        for name in self._names & feed.keys():
            binding.bind_cpu_input(name, feed[name])
        for layer, sides in enumerate(self._cache):
            for side, buffer in zip(("key", "value"), sides, strict=True):
                element = BFLOAT16 if self._is_bfloat16 else buffer.dtype.type
                place = ("cpu", 0, element, buffer.shape, buffer.ctypes.data)
                binding.bind_input(f"past_key_values.{layer}.{side}", *place)
                binding.bind_output(f"present.{layer}.{side}", *place)
        binding.bind_output("logits")
        with _understood():
            self._session.run_with_iobinding(binding)
        logits = next(o for o in binding.copy_outputs_to_cpu() if o.ndim == 3)
        return _at(logits, self._names, wanted)

    def row(self, row: int) -> Array:
        """Keys and values of one row, [layers, 2, kv_heads, tokens, head_dim]."""
        cached = self._cache[:, :, row, :, : self.lengths[row]]
        return widened(cached) if self._is_bfloat16 else cached


class ConcatenatingRows:
    """Rows whose keys and values grow by a copy with every call; `capacity` does not bound them."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        shape: CacheShape,
        batch: int,
        capacity: int,
        feeds: Feeds = no_feeds,
    ) -> None:
        self._session, self._further = session, feeds(batch)
        self._names = {i.name for i in session.get_inputs()}
        self._outputs = [o.name for o in session.get_outputs()]
        size = (shape.layers, 2, batch, shape.kv_heads, 0, shape.head_dim)
        self._cache = np.zeros(size, dtype=shape.dtype)
        self._mask = np.zeros((batch, 0), dtype=np.int64)

    @property
    def lengths(self) -> Array:
        return np.asarray(self._mask.sum(axis=-1))

    def feed(self, tokens: Sequence[Sequence[int]], wanted: Sequence[int] | None = None) -> Array:
        """Append tokens to every row; logits [B, K, V] at the `wanted` columns, by default all."""
        ids, counts = _pad(tokens)
        columns = np.arange(ids.shape[1])
        positions = self.lengths[:, None] + columns
        self._mask = np.concatenate([self._mask, (columns < counts[:, None]).astype(np.int64)], axis=1)
        feed = {
            "input_ids": ids,
            "attention_mask": self._mask,
            "position_ids": positions.astype(np.int64),
            "logit_positions": _columns(ids, wanted),
            **self._further,
        }
        for layer, (key, value) in enumerate(self._cache):
            feed[f"past_key_values.{layer}.key"] = key
            feed[f"past_key_values.{layer}.value"] = value
        with _understood():
            values = self._session.run(None, {name: feed[name] for name in self._names})
        out = dict(zip(self._outputs, values, strict=True))
        layers = range(len(self._cache))
        self._cache = np.stack([[out[f"present.{i}.{side}"] for side in ("key", "value")] for i in layers])
        return _at(np.asarray(out["logits"]), self._names, wanted)

    def row(self, row: int) -> Array:
        """Keys and values of one row, [layers, 2, kv_heads, tokens, head_dim]."""
        return self._cache[:, :, row][..., self._mask[row] > 0, :]


def widened(bits: Array) -> Array:
    """Numbers of bfloat16, given by their bits as uint16, in float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


Rows = InPlaceRows | ConcatenatingRows
ROWS: dict[str, type[Rows]] = {"in_place": InPlaceRows, "concatenating": ConcatenatingRows}


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # onnxruntime raises its own kinds, all from native code
        raise ExportError(f"onnxruntime cannot run the graph: {first_line(exc)}") from exc


def _pad(tokens: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    counts = np.asarray([len(row) for row in tokens])
    ids = np.zeros((len(tokens), counts.max()), dtype=np.int64)
    for row, known in zip(ids, tokens, strict=True):
        row[: len(known)] = known
    return ids, counts


def _columns(ids: Array, wanted: Sequence[int] | None) -> Array:
    return np.asarray(range(ids.shape[1]) if wanted is None else wanted, dtype=np.int64)


def _at(logits: Array, inputs: Collection[str], wanted: Sequence[int] | None) -> Array:
    """The wanted columns, where the graph was not asked for them alone."""
    return logits if wanted is None or "logit_positions" in inputs else logits[:, list(wanted)]
