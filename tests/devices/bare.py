"""A bare loop of onnxruntime over a bundle's graph: what nobody who decodes greedily can leave out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from decodekit.bundle import Bundle
from decodekit.onnx_session import load_libraries

BFLOAT16 = 16  # as ONNX numbers types; NumPy has none


class Bare:
    """One sequence; the cache stays on the device, the logits of each step come to the host."""

    def __init__(self, bundle: Bundle, device: str, capacity: int) -> None:
        self._kind, _, number = device.partition(":")
        self._number = int(number or 0)
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._kind == "cuda":
            load_libraries()
            providers = [("CUDAExecutionProvider", {"device_id": str(self._number)}), *providers]
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(bundle.graph), options, providers=providers)
        self._inputs = {i.name for i in self._session.get_inputs()}
        spec, self._vocabulary = bundle.cache, bundle.vocabulary
        half = bundle.logits_dtype == "float16"
        self._logits_dtype: Any = np.float16 if half else np.float32
        kind: Any = BFLOAT16 if spec.dtype == "bfloat16" else np.dtype(spec.dtype).type
        shape = (1, spec.kv_heads, capacity, spec.head_dim)
        self._cache = [
            ort.OrtValue.ortvalue_from_shape_and_type(shape, kind, self._kind, self._number)
            for _ in range(2 * spec.layers)
        ]
        self._names = [f"{n}.{side}" for n in range(spec.layers) for side in ("key", "value")]

    def seconds(self, prompt: Sequence[int], count: int) -> float:
        """Of a prompt and `count` greedy tokens behind it."""
        began = time.perf_counter()
        logits = self._run(np.asarray([prompt], np.int64), 0)
        ids, length = np.zeros((1, 1), np.int64), len(prompt)
        for _ in range(count - 1):
            ids[0, 0] = logits[0, 0].argmax()
            logits = self._run(ids, length)
            length += 1
        return time.perf_counter() - began

    def _run(self, ids: Any, before: int) -> Any:
        count, after = ids.shape[1], before + ids.shape[1]
        binding = self._session.io_binding()
        given = {
            "input_ids": ids,
            "position_ids": np.arange(before, after, dtype=np.int64)[None],
            "attention_mask": np.ones((1, after), np.int64),
            "lengths": np.asarray([after], np.int32),
            "total_length": np.asarray(after, np.int32),
            "logit_positions": np.asarray([count - 1], np.int64),
        }
        for name in self._inputs & given.keys():
            binding.bind_cpu_input(name, given[name])
        for name, value in zip(self._names, self._cache, strict=True):
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        given_back = 1 if "logit_positions" in self._inputs else count
        logits = np.empty((1, given_back, self._vocabulary), self._logits_dtype)
        binding.bind_output("logits", "cpu", 0, logits.dtype.type, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(binding)
        return logits[:, -1:]
