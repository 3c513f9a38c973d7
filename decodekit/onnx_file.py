"""
What an .onnx file holds, read without its weights: graph, nodes, tensors' shapes and places.

Neither the `onnx` package nor the runtime takes part, so a file can be judged before native
code sees it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from decodekit import protobuf
from decodekit.errors import BundleError
from decodekit.onnx_schema import SCHEMA, TYPES
from decodekit.protobuf import Message

MAX_BYTES = 1 << 31  # of a message, by the definition of protocol buffers

EXTERNAL = 1  # TensorProto.DataLocation


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of a graph.

    type  "float32"; None: not a tensor
    dims  a number, a symbol, or "" where nothing is said; None: of any rank
    """

    name: str
    type: str | None
    dims: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A constant: an initialiser, or an attribute's value.

    raw, typed  bytes in the file: as in memory, and encoded by type
    external    keys and values that say where the bytes are, in a file beside this one; None: here
    """

    name: str
    type: str
    dims: tuple[int, ...]
    raw: int
    typed: int
    external: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, slots=True)
class Node:
    """A call of an operator or of a local function.

    attributes  those that are whole numbers
    graphs      the bodies of If, Loop and Scan
    """

    operator: str
    domain: str
    overload: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int]
    tensors: tuple[Tensor, ...]
    graphs: tuple[Graph, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the order in which they run."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    initialisers: tuple[Tensor, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """An operator that the file defines itself. Its body has default values among the initialisers."""

    domain: str
    name: str
    overload: str
    body: Graph


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A whole file.

    producer  program -> version
    opsets    domain -> version
    """

    path: Path
    producer: Mapping[str, str]
    opsets: Mapping[str, int]
    graph: Graph
    functions: tuple[Function, ...]

    def every_node(self) -> Iterator[Node]:
        """All nodes: of the graph, of functions, and of the graphs inside nodes."""
        for body in (self.graph, *(function.body for function in self.functions)):
            yield from nodes_within(body)

    def every_tensor(self) -> Iterator[Tensor]:
        """All constants, wherever they stand."""
        for body in (self.graph, *(function.body for function in self.functions)):
            for graph in _graphs_within(body):
                yield from graph.initialisers
                for node in graph.nodes:
                    yield from node.tensors


def nodes_within(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph and of the graphs inside them."""
    for one in _graphs_within(graph):
        yield from one.nodes


def _graphs_within(graph: Graph) -> Iterator[Graph]:
    waiting = [graph]
    while waiting:
        yield (one := waiting.pop())
        waiting += (inner for node in one.nodes for inner in node.graphs)


def read_onnx(path: Path) -> OnnxFile:
    """The structure of a regular file, or BundleError."""
    try:
        if not 0 < path.stat().st_size < MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes; a graph has some, and fewer than {MAX_BYTES}")
        with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            model = protobuf.read(data, SCHEMA, "Model")
        if "graph" not in model:
            raise ValueError("no graph in it")
        functions = tuple(map(_function, model.get("functions", ())))
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path}: not an ONNX graph ({exc}); copy or export it again") from exc
    return OnnxFile(
        path,
        {model["producer_name"]: model.get("producer_version", "")} if "producer_name" in model else {},
        {opset.get("domain", ""): opset.get("version", 0) for opset in model.get("opset_import", ())},
        _graph(model["graph"]),
        functions,
    )


def _function(function: Message) -> Function:
    _, defaults, graphs = _attributes(function.get("attribute_proto", ()))
    if graphs:
        raise ValueError(f"function {function.get('name')!r} has a graph as default value")
    body = Graph((), (), defaults, _nodes(function))
    return Function(function.get("domain", ""), function.get("name", ""), function.get("overload", ""), body)


def _graph(graph: Message) -> Graph:
    initialisers = tuple(map(_tensor, graph.get("initializer", ())))
    constants = {tensor.name for tensor in initialisers}  # old files list them among the inputs
    return Graph(
        tuple(value for value in map(_value, graph.get("input", ())) if value.name not in constants),
        tuple(map(_value, graph.get("output", ()))),
        initialisers,
        _nodes(graph),
    )


def _nodes(message: Message) -> tuple[Node, ...]:
    return tuple(map(_node, message.get("node", ())))


def _node(node: Message) -> Node:
    return Node(
        node.get("op_type", ""),
        node.get("domain", ""),
        node.get("overload", ""),
        node.get("name", ""),
        tuple(node.get("input", ())),
        tuple(node.get("output", ())),
        *_attributes(node.get("attribute", ())),
    )


def _attributes(
    attributes: Sequence[Message],
) -> tuple[Mapping[str, int], tuple[Tensor, ...], tuple[Graph, ...]]:
    """Whole numbers by name, tensors, graphs."""
    tensors = (t for a in attributes for t in (a.get("t"), *a.get("tensors", ())) if t is not None)
    graphs = (g for a in attributes for g in (a.get("g"), *a.get("graphs", ())) if g is not None)
    numbers = {a.get("name", ""): a["i"] for a in attributes if "i" in a}
    return numbers, tuple(map(_tensor, tensors)), tuple(map(_graph, graphs))


def _tensor(tensor: Message) -> Tensor:
    external = tuple((e.get("key", ""), e.get("value", "")) for e in tensor.get("external_data", ()))
    return Tensor(
        tensor.get("name", ""),
        _type(tensor.get("data_type", 0)),
        tuple(tensor.get("dims", ())),
        tensor.get("raw_data", 0),
        tensor.get("typed_data", 0),
        external if external or tensor.get("data_location") == EXTERNAL else None,
    )


def _value(value: Message) -> Value:
    tensor = value.get("type", {}).get("tensor_type")
    if tensor is None:
        return Value(value.get("name", ""), None, None)
    dims = None
    if "shape" in tensor:
        dims = tuple(d.get("dim_value", d.get("dim_param", "")) for d in tensor["shape"].get("dim", ()))
    return Value(value.get("name", ""), _type(tensor.get("elem_type", 0)), dims)


def _type(number: int) -> str:
    return TYPES.get(number, f"type {number}")
