"""
Sessions of onnxruntime. The only module that imports it.

onnxruntime's wheels send usage events and write a device id to the home folder unless
told otherwise before they are imported. Here they are told, unless the user said
ORT_DISABLE_TELEMETRY=0.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from decodekit.devices import CUDA, chosen
from decodekit.errors import BundleError, DeviceError
from decodekit.gpu import cards
from decodekit.ops import Array

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

OUT_OF_MEMORY = ("Failed to allocate memory", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory")
OF_DEVICE = ("CUDA", "CUDNN", "CUBLAS", "cuda")  # in what onnxruntime says where the device is at fault

BFLOAT16 = 16  # as ONNX numbers types: NumPy has none, so its bits come in arrays of uint16

# Lays out convolutions, which no decoder has, and dies on some graphs in float16:
# https://github.com/microsoft/onnxruntime/issues/28392
DISABLED = ["NchwcTransformer"]

try:
    import onnxruntime as ort
except ImportError as exc:
    raise DeviceError(
        "onnxruntime is not installed; pip install 'decodekit[cpu]' (or 'decodekit[gpu]' for CUDA)"
    ) from exc

LEVELS = {
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class Session:
    """One graph, ready to run.

    graph    a file, or the bytes of one
    device   "cpu", "cuda" or "cuda:1", or "auto": CUDA where onnxruntime offers it
    threads  for one operator on the CPU; None: what onnxruntime thinks best
    level    to which onnxruntime rewrites the graph: "off", "basic" or "all"
    """

    def __init__(
        self,
        graph: Path | bytes,
        *,
        device: str = "auto",
        threads: int | None = None,
        level: Literal["off", "basic", "all"] = "all",
    ) -> None:
        self.device = device_of(device)
        self._session = _open(graph, _providers(self.device), threads, level=level)
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
        try:
            result: list[Array] = self._session.run(outputs, feeds)
        except Exception as exc:  # onnxruntime raises its own kinds, all from native code
            if error := run_error(self.device, exc):
                raise error from exc
            raise
        self.seconds += time.perf_counter() - began
        return result

    def binding(self) -> Binding:
        return Binding(self)


class Binding:
    """Contiguous arrays that a graph reads and writes where they are; they are kept while it is.

    An array is NumPy's, or one in a device's memory, see `device_memory`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._binding = session._session.io_binding()
        self._kept: dict[str, Array] = {}

    def input(self, name: str, array: Array) -> None:
        self._kept[name] = array
        self._binding.bind_input(name, *_place(array, self._session.inputs.get(name)))

    def output(self, name: str, array: Array) -> None:
        self._kept[name] = array
        self._binding.bind_output(name, *_place(array, self._session.outputs.get(name)))

    def run(self) -> None:
        began = time.perf_counter()
        try:
            self._session._session.run_with_iobinding(self._binding)
        except Exception as exc:  # onnxruntime raises its own kinds, all from native code
            if error := run_error(self._session.device, exc):
                raise error from exc
            raise
        self._session.seconds += time.perf_counter() - began


def _place(array: Array, wanted: str | None) -> tuple[str, int, Any, tuple[int, ...], int]:
    """Device, its number, type, shape and pointer of an array; `wanted` is the graph's type for it."""
    element = BFLOAT16 if wanted == "tensor(bfloat16)" else array.dtype.type
    if hasattr(array, "pointer"):
        kind, _, number = array.device.partition(":")
        return kind, int(number or 0), element, array.shape, array.pointer
    return "cpu", 0, element, array.shape, array.ctypes.data


def allocate(shape: tuple[int, ...], dtype: Any, device: str) -> tuple[Any, int]:
    """Memory on a device, all zero, and where it begins. MemoryError where there is no room."""
    kind, _, number = device.partition(":")
    try:
        value = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, kind, int(number or 0))
        value.update_inplace(np.zeros(shape, dtype))
    except Exception as exc:  # onnxruntime raises its own kinds, all from native code
        size = math.prod(shape) * dtype.itemsize
        raise MemoryError(f"no room for {size:,} bytes on {device} ({str(exc).strip()})") from exc
    return value, value.data_ptr()


def read_adapter(path: Path) -> dict[str, Array]:
    """The matrices in a file of onnxruntime's adapter format, by the input that takes them."""
    try:
        file = ort.AdapterFormat.read_adapter(str(path))
        # Copies: what onnxruntime gives are views of the file, which lives as long as `file`.
        return {name: value.numpy().copy() for name, value in file.get_parameters().items()}
    except Exception as exc:  # onnxruntime raises its own kinds, all from native code
        raise BundleError(f"{path}: onnxruntime cannot read the adapter ({str(exc).strip()})") from exc


def device_of(name: str) -> str:
    """The device that a name means here, see `devices.chosen`."""
    return chosen(name, ort.get_available_providers())


def placed(graph: Path, device: str) -> dict[str, Counter[str]]:
    """The operators that each execution provider runs, by kind, once a graph is loaded on a device."""
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):
        raise DeviceError(f"onnxruntime {ort.__version__} does not tell what runs where; install a newer one")
    device = device_of(device)
    session = _open(graph, _providers(device), None, {"session.record_ep_graph_assignment_info": "1"})
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return found


def versions() -> dict[str, Any]:
    """onnxruntime's version, the CUDA it is built for, and the providers it offers."""
    return {
        "onnxruntime": ort.__version__,
        "built for CUDA": getattr(ort, "cuda_version", "") or None,
        "providers": ort.get_available_providers(),
    }


def _open(
    graph: Path | bytes,
    providers: list[tuple[str, dict[str, str]]],
    threads: int | None,
    settings: Mapping[str, str] = MappingProxyType({}),
    level: Literal["off", "basic", "all"] = "all",
) -> ort.InferenceSession:
    if providers[0][0] == CUDA:
        load_libraries()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = LEVELS[level]
    if threads is not None:
        options.intra_op_num_threads = threads
    for name, value in settings.items():
        options.add_session_config_entry(name, value)
    try:
        source = graph if isinstance(graph, bytes) else str(graph)
        session = ort.InferenceSession(source, options, providers=providers, disabled_optimizers=DISABLED)
    except Exception as exc:  # onnxruntime raises its own kinds, all from native code
        raise load_error(graph, providers[0][0], str(exc).strip()) from exc
    check_provider(providers[0][0], session.get_providers())
    return session


def load_error(graph: Path | bytes, provider: str, said: str) -> BundleError | DeviceError:
    """What it means that onnxruntime said this instead of loading a graph on a provider."""
    name = "a traced chain" if isinstance(graph, bytes) else str(graph)
    if provider == CUDA and any(word in said for word in OUT_OF_MEMORY):
        size = len(graph) if isinstance(graph, bytes) else file_bytes(graph)
        found, why = cards()
        memory = "; ".join(map(str, found)) or why
        return DeviceError(
            f"{name}: {size / 2**20:,.0f} MiB of weights do not fit into the device's memory ({memory}); "
            "free some of it, take a bundle of half precision or int4, or device='cpu'"
        )
    if provider == CUDA and any(word in said for word in OF_DEVICE):
        return DeviceError(f"{name}: CUDA fails ({said}); `decodekit doctor` tells more, or device='cpu'")
    return BundleError(f"{name}: onnxruntime cannot load it ({said})")


def run_error(device: str, failure: Exception) -> DeviceError | None:
    """What it means that a graph failed so on a device; None: the graph is at fault, or what it was given."""
    said = str(failure).strip()
    if device == "cpu":
        return None
    if any(word in said for word in OUT_OF_MEMORY):
        return DeviceError(f"{device} has no memory left ({said}); load with less max_rows or cache_bytes")
    if any(word in said for word in OF_DEVICE):
        return DeviceError(f"{device} failed ({said}); load the model again; `decodekit doctor` tells more")
    return None


def check_provider(asked: str, got: Sequence[str]) -> None:
    """Raise DeviceError where a session runs without the provider that was asked for."""
    if asked not in got:
        raise DeviceError(
            f"asked for {asked}, got {', '.join(got)}; `decodekit doctor` tells why, or use device='cpu'"
        )


def file_bytes(graph: Path) -> int:
    """Of a graph and the files of weights beside it."""
    return sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*"))


def load_libraries() -> str:
    """Load what CUDA needs from NVIDIA's wheels, where they are; what onnxruntime said, "" for nothing."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        ort.preload_dlls()
    return said.getvalue().strip()


def _providers(device: str) -> list[tuple[str, dict[str, str]]]:
    """What onnxruntime is asked for; what CUDA has no kernel for, such as shapes, it leaves to the CPU."""
    cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    if device == "cpu":
        return [cpu]
    index = device.partition(":")[2]
    # Otherwise its arena doubles at every growth, and takes twice what a bundle needs.
    options = {"device_id": index, "arena_extend_strategy": "kSameAsRequested"}
    return [(CUDA, options), cpu]
