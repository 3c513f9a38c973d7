"""
A decoder run by onnxruntime. The only module that imports onnxruntime.

onnxruntime's wheels send usage events and write a device id to the home folder unless
told otherwise before they are imported. Here they are told, unless the user said
ORT_DISABLE_TELEMETRY=0.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from decodekit.bundle import Bundle
from decodekit.errors import BundleError, ContextError, DeviceError
from decodekit.kv_cache import Buffer, ConcatenatingCache, InPlaceCache
from decodekit.ops import Array

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime as ort
except ImportError as exc:
    raise DeviceError(
        "onnxruntime is not installed; pip install 'decodekit[cpu]' (or 'decodekit[gpu]' for CUDA)"
    ) from exc

FIRST_CAPACITY = 256  # tokens an in-place cache holds at first; doubled when full


def load_model(
    bundle: Bundle, *, device: str = "auto", threads: int | None = None
) -> InPlaceModel | ConcatenatingModel:
    """The bundle's graph in a session.

    device   "cpu", "cuda", or "auto": CUDA where onnxruntime offers it
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    """
    session = _session(bundle.graph, _providers(device), threads)
    if bundle.cache.kind == "in_place":
        return InPlaceModel(bundle, session)
    return ConcatenatingModel(bundle, session)


class OnnxModel:
    """What both cache kinds share: one session, one sequence a call.

    Graph inputs   input_ids int64 [B, T], position_ids int64 [B, T], logit_positions int64 [K],
                   past_key_values.<layer>.key and .value; an unused one may be absent
    Graph outputs  logits float32 [B, K, V], present.<layer>.key and .value
    """

    def __init__(self, bundle: Bundle, session: ort.InferenceSession) -> None:
        self.vocabulary = bundle.vocabulary
        self.context_length = bundle.context_length
        self.spec = bundle.cache
        self._session = session
        self._inputs = {i.name for i in session.get_inputs()}
        self._past = [f"past_key_values.{n}.{s}" for n in range(self.spec.layers) for s in ("key", "value")]
        self._present = [f"present.{n}.{s}" for n in range(self.spec.layers) for s in ("key", "value")]
        outputs = {o.name for o in session.get_outputs()}
        _check_graph(bundle, self._inputs, outputs, self._past, self._present)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return str(self._session.get_providers()[0])

    def _admit(self, tokens: Array, length: int) -> None:
        if length + len(tokens) > self.context_length:
            raise ContextError(
                f"{length} tokens and {len(tokens)} more exceed the context window of {self.context_length}"
            )

    def _feeds(self, tokens: Array, length: int, last: int) -> dict[str, Array]:
        count = len(tokens)
        return {
            "input_ids": np.ascontiguousarray(tokens, np.int64)[None],
            "position_ids": np.arange(length, length + count, dtype=np.int64)[None],
            "logit_positions": np.arange(count - last, count, dtype=np.int64),
        }


class InPlaceModel(OnnxModel):
    """Past and present are one memory, bound once per buffer; a step appends in place.

    Further graph inputs: lengths int32 [B], total_length int32 [].
    """

    def new_cache(self) -> InPlaceCache:
        return InPlaceCache(Buffer(self.spec, min(FIRST_CAPACITY, self.context_length)))

    def __call__(self, tokens: Array, cache: InPlaceCache, *, last: int = 1) -> tuple[Array, InPlaceCache]:
        self._admit(tokens, cache.length)
        cache.check()
        buffer, after = cache.buffer, cache.length + len(tokens)
        if after > buffer.capacity:
            doubled = max(after, 2 * buffer.capacity)
            buffer = buffer.grown(min(doubled, self.context_length))
        binding = buffer.bound = buffer.bound or self._bind(buffer)

        feeds = self._feeds(tokens, cache.length, last)
        feeds |= {"lengths": np.asarray([after], np.int32), "total_length": np.asarray(after, np.int32)}
        for name in feeds.keys() & self._inputs:
            _bind_input(binding, name, feeds[name])
        logits = np.empty((1, last, self.vocabulary), np.float32)
        _bind_output(binding, "logits", logits)
        self._session.run_with_iobinding(binding)
        return logits[0], cache.extended(len(tokens), buffer)

    def _bind(self, buffer: Buffer) -> ort.IOBinding:
        binding = self._session.io_binding()
        for past, present, array in zip(self._past, self._present, buffer.arrays, strict=True):
            _bind_input(binding, past, array)
            _bind_output(binding, present, array)
        return binding


class ConcatenatingModel(OnnxModel):
    """Present is past with the new tokens behind it, in new memory at every call.

    Further graph input: attention_mask int64 [B, past + T].
    """

    def new_cache(self) -> ConcatenatingCache:
        empty = np.zeros((1, self.spec.kv_heads, 0, self.spec.head_dim), self.spec.dtype)
        return ConcatenatingCache([empty] * len(self._past))

    def __call__(
        self, tokens: Array, cache: ConcatenatingCache, *, last: int = 1
    ) -> tuple[Array, ConcatenatingCache]:
        self._admit(tokens, cache.length)
        after = cache.length + len(tokens)
        feeds = self._feeds(tokens, cache.length, last) | dict(zip(self._past, cache.tensors, strict=True))
        feeds["attention_mask"] = np.ones((1, after), np.int64)
        wanted = {name: feeds[name] for name in feeds.keys() & self._inputs}
        logits, *present = self._session.run(["logits", *self._present], wanted)
        if logits.shape[1] != last:  # a graph without logit_positions gives all of them
            logits = logits[:, -last:]
        return logits[0], ConcatenatingCache(present, after)


def _session(graph: Path, providers: list[str], threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(graph), options, providers=providers)
    except Exception as exc:  # onnxruntime raises its own kinds, all from native code
        raise BundleError(f"{graph}: onnxruntime cannot load it ({str(exc).strip()})") from exc
    if providers[0] not in session.get_providers():
        got = ", ".join(session.get_providers())
        raise DeviceError(f"asked for {providers[0]}, got {got}; see `decodekit doctor`")
    return session


def _providers(device: str) -> list[str]:
    cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}")
    if device == "cuda" and not cuda:
        raise DeviceError(
            "device 'cuda': this onnxruntime has no CUDA provider; pip install 'decodekit[gpu]'"
        )
    use_cuda = device == "cuda" or (device == "auto" and cuda)
    return (["CUDAExecutionProvider"] if use_cuda else []) + ["CPUExecutionProvider"]


def _check_graph(
    bundle: Bundle, inputs: set[str], outputs: set[str], past: list[str], present: list[str]
) -> None:
    known = {
        "input_ids",
        "position_ids",
        "attention_mask",
        "lengths",
        "total_length",
        "logit_positions",
        *past,
    }
    for what, names in (
        ("inputs that are missing", {"input_ids", *past} - inputs),
        ("inputs that nobody feeds", inputs - known),
        ("outputs that are missing", {"logits", *present} - outputs),
    ):
        if names:
            raise BundleError(
                f"{bundle.graph}: {what}: {', '.join(sorted(names))}; the manifest is of another graph"
            )


def _bind_input(binding: ort.IOBinding, name: str, array: Array) -> None:
    binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _bind_output(binding: ort.IOBinding, name: str, array: Array) -> None:
    binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def versions() -> dict[str, Any]:
    """onnxruntime's version and the providers it offers."""
    return {"onnxruntime": ort.__version__, "providers": ort.get_available_providers()}
