"""Rewriting a graph: constants, and nodes that take the place of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir

MICROSOFT = "com.microsoft"  # the domain of onnxruntime's own operators


def constant(graph: onnx_ir.Graph, name: str, array: np.ndarray[Any, Any]) -> onnx_ir.Value:
    """A new constant of the graph."""
    tensor = onnx_ir.Tensor(array, name=name)
    kind = onnx_ir.TensorType(tensor.dtype)
    value = onnx_ir.Value(name=name, shape=tensor.shape, type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def replace(graph: onnx_ir.Graph, node: onnx_ir.Node, added: Sequence[onnx_ir.Node]) -> None:
    """Put nodes in the place of one; the last of them gives its output, under its name."""
    before, after = node.outputs[0], added[-1].outputs[0]
    graph.insert_before(node, added)
    after.shape, after.type = before.shape, before.type
    after.name, before.name = before.name, None
    onnx_ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    graph.remove(node, safe=True)
