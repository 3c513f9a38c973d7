"""
Sessions of onnxruntime. The only module that imports it.

onnxruntime's wheels send usage events and write a device id to the home folder unless
told otherwise before they are imported. Here they are told, unless the user said
ORT_DISABLE_TELEMETRY=0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from decodekit.errors import BundleError, DeviceError
from decodekit.ops import Array

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Lays out convolutions, which no decoder has, and dies on some graphs in float16:
# https://github.com/microsoft/onnxruntime/issues/28392
DISABLED = ["NchwcTransformer"]

try:
    import onnxruntime as ort
except ImportError as exc:
    raise DeviceError(
        "onnxruntime is not installed; pip install 'decodekit[cpu]' (or 'decodekit[gpu]' for CUDA)"
    ) from exc


class Session:
    """One graph, ready to run.

    device   "cpu", "cuda", or "auto": CUDA where onnxruntime offers it
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    """

    def __init__(self, graph: Path, *, device: str = "auto", threads: int | None = None) -> None:
        self._session = _open(graph, _providers(device), threads)
        self.inputs = {i.name: i.type for i in self._session.get_inputs()}
        self.outputs = {o.name: o.type for o in self._session.get_outputs()}
        self.shapes = {i.name: tuple(i.shape) for i in self._session.get_inputs()}
        self.seconds = 0.0  # spent inside the graph

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return str(self._session.get_providers()[0])

    @property
    def version(self) -> str:
        """Of onnxruntime."""
        return str(ort.__version__)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """New arrays for `outputs`."""
        began = time.perf_counter()
        result: list[Array] = self._session.run(outputs, feeds)
        self.seconds += time.perf_counter() - began
        return result

    def binding(self) -> Binding:
        return Binding(self)


class Binding:
    """Contiguous arrays that a graph reads and writes where they are; they are kept while it is."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._binding = session._session.io_binding()
        self._kept: dict[str, Array] = {}

    def input(self, name: str, array: Array) -> None:
        self._kept[name] = array
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def output(self, name: str, array: Array) -> None:
        self._kept[name] = array
        self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> None:
        began = time.perf_counter()
        self._session._session.run_with_iobinding(self._binding)
        self._session.seconds += time.perf_counter() - began


def read_adapter(path: Path) -> dict[str, Array]:
    """The matrices in a file of onnxruntime's adapter format, by the input that takes them."""
    try:
        file = ort.AdapterFormat.read_adapter(str(path))
        # Copies: what onnxruntime gives are views of the file, which lives as long as `file`.
        return {name: value.numpy().copy() for name, value in file.get_parameters().items()}
    except Exception as exc:  # onnxruntime raises its own kinds, all from native code
        raise BundleError(f"{path}: onnxruntime cannot read the adapter ({str(exc).strip()})") from exc


def versions() -> dict[str, Any]:
    """onnxruntime's version and the providers it offers."""
    return {"onnxruntime": ort.__version__, "providers": ort.get_available_providers()}


def _open(graph: Path, providers: list[str], threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(graph), options, providers=providers, disabled_optimizers=DISABLED)
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
