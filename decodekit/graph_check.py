"""
The check that a graph passes before native code reads it.

Its operators come with the runtime and none of them carries or calls other code; its functions
replace no operator and do not grow without end; every constant has as many bytes as its shape
says, and those that lie in other files lie inside the folder, in files that have them.

It does not bound what a graph computes: a graph that loops for ever is found by running it.
ONNX external data: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from decodekit.errors import BundleError
from decodekit.files import regular_file
from decodekit.onnx_file import Node, OnnxFile, Tensor, nodes_within, read_onnx
from decodekit.onnx_schema import TYPES

DOMAINS = ("", "ai.onnx", "com.microsoft")
REFUSED = {  # of com.microsoft: they carry compiled code, call Python or torch, or speak to other processes
    *("EPContext", "Snpe", "TritonOp", "PyOp", "PythonOp", "PythonOpGrad", "ATen"),
    *("Send", "Recv", "AllReduce", "AllGather", "AllToAll", "ShardedMoE"),
    *("NcclAllReduce", "NcclAllGather", "NcclReduceScatter"),
}
RESERVED = ("ai.onnx", "com.microsoft", "com.ms.", "org.pytorch.")  # beginnings of domains with operators
MAX_NODES = 1_000_000  # after every function is written out where it is called
EXTERNAL_KEYS = ("location", "offset", "length", "checksum")

BITS = {"bool": 8} | {name: int(n[0]) for name in TYPES.values() if (n := re.findall(r"\d+", name))}


def check_graph_file(path: Path, *, pinned: Collection[str] = ()) -> OnnxFile:
    """What the file holds, if a runtime may load it; BundleError says what is in the way.

    pinned  names of files whose content a manifest vouches for: they may have other hard links
    """
    regular_file(path.parent, path.name, "it is the graph")
    file = read_onnx(path)
    _check_operators(file)
    _check_functions(file)
    sizes: dict[str, int] = {}
    for tensor in file.every_tensor():
        if tensor.external is None:
            _check_inline(file, tensor)
        else:
            _check_external(file, tensor, sizes, pinned)
    return file


def external_files(file: OnnxFile) -> list[str]:
    """The files that hold constants, by names relative to the graph's folder."""
    tensors = (tensor for tensor in file.every_tensor() if tensor.external is not None)
    return sorted({dict(tensor.external or ())["location"] for tensor in tensors})


def _check_operators(file: OnnxFile) -> None:
    functions = {(f.domain, f.name, f.overload) for f in file.functions}
    for node in file.every_node():
        if _call(node) in functions:
            continue
        if node.domain not in DOMAINS:
            reason = f"domain {node.domain!r} is none of {DOMAINS}"
        elif node.domain == "com.microsoft" and node.operator in REFUSED:
            reason = "it can run what is no part of the runtime"
        else:
            continue
        raise BundleError(
            f"{file.path}: node {node.name!r} calls {node.domain + ':' + node.operator!r}, which is refused: "
            f"{reason}; export the model without it"
        )


def _check_functions(file: OnnxFile) -> None:
    bodies = {(f.domain, f.name, f.overload): f.body for f in file.functions}
    for domain, name, _ in bodies:
        if not domain or domain.startswith(RESERVED):
            raise BundleError(
                f"{file.path}: function {domain + ':' + name!r} is in a domain of operators, "
                "one of which it could replace"
            )
    if len(bodies) < len(file.functions):
        raise BundleError(f"{file.path}: two functions have one name")

    calls = {key: [_call(node) for node in nodes_within(body)] for key, body in bodies.items()}
    size: dict[tuple[str, str, str], int] = {}
    try:
        for key in TopologicalSorter({k: bodies.keys() & set(c) for k, c in calls.items()}).static_order():
            size[key] = min(MAX_NODES + 1, sum(size.get(call, 1) for call in calls[key]))
    except CycleError as exc:
        raise BundleError(f"{file.path}: function {exc.args[1][0][1]!r} calls itself") from exc
    if sum(size.get(_call(node), 1) for node in nodes_within(file.graph)) > MAX_NODES:
        raise BundleError(f"{file.path}: more than {MAX_NODES} nodes once its functions are written out")


def _call(node: Node) -> tuple[str, str, str]:
    return node.domain, node.operator, node.overload


def _check_inline(file: OnnxFile, tensor: Tensor) -> None:
    if tensor.type == "string":
        return
    size, least = _size(file, tensor)
    if tensor.raw and tensor.typed:
        raise _wrong(file, tensor, "has bytes in two forms")
    if tensor.raw != size if tensor.raw else tensor.typed < least:
        raise _wrong(
            file, tensor, f"has {tensor.raw or tensor.typed} bytes, its shape {tensor.dims} asks for {size}"
        )


def _check_external(file: OnnxFile, tensor: Tensor, sizes: dict[str, int], pinned: Collection[str]) -> None:
    """Refuse bytes that are not in a file of the folder.

    sizes  of files that were looked at before, by location
    """
    entries = tensor.external or ()
    said = dict(entries)
    if "location" not in said or len(said) < len(entries) or not said.keys() <= {*EXTERNAL_KEYS}:
        keys = [key for key, _ in entries]
        raise _wrong(file, tensor, f"is told where to be by {keys}; known are {EXTERNAL_KEYS}, each once")
    if tensor.raw or tensor.typed:
        raise _wrong(file, tensor, "has bytes here and in another file")
    location, (size, _) = said["location"], _size(file, tensor)
    if location not in sizes:
        sizes[location] = _file_size(file, tensor, location, pinned)
    offset = _number(file, tensor, "offset", said.get("offset", "0"))
    length = _number(file, tensor, "length", said.get("length", str(size)))
    if length != size:
        raise _wrong(file, tensor, f"has {length} bytes, its shape {tensor.dims} asks for {size}")
    if offset + length > sizes[location]:
        end, present = offset + length, sizes[location]
        raise _wrong(file, tensor, f"is at {offset} to {end} of {location!r}, which has {present} bytes")


def _file_size(file: OnnxFile, tensor: Tensor, location: str, pinned: Collection[str]) -> int:
    found = regular_file(file.path.parent, location, f"{file.path.name} keeps tensor {tensor.name!r} in it")
    if found.st_nlink > 1 and location not in pinned:
        raise _wrong(
            file, tensor, f"is in {location!r}, which has another hard link; replace the file by a copy of it"
        )
    return found.st_size


def _size(file: OnnxFile, tensor: Tensor) -> tuple[int, int]:
    """Bytes that the shape asks for: as in memory, and the least where each number is encoded alone."""
    if tensor.type not in BITS or any(dim < 0 for dim in tensor.dims):
        raise _wrong(file, tensor, f"of {tensor.type} has the shape {tensor.dims}, which is not known")
    bits, elements = BITS[tensor.type], math.prod(tensor.dims)
    return -(-elements * bits // 8), -(-elements * min(bits, 8) // 8)  # rounded up


def _number(file: OnnxFile, tensor: Tensor, key: str, written: str) -> int:
    if not (written.isascii() and written.isdecimal() and len(written) < 20):
        raise _wrong(file, tensor, f"has {key} {written[:20]!r}, which must be a number from 0")
    return int(written)


def _wrong(file: OnnxFile, tensor: Tensor, what: str) -> BundleError:
    return BundleError(f"{file.path}: tensor {tensor.name!r} {what}; copy or export it again")
