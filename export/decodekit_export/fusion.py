"""
Fewer operators for the same numbers.

A traced model moves its queries, keys and values to the axes that PyTorch wants and back again,
and asks three products of one input. com.microsoft::GroupQueryAttention takes them side by side,
as one product gives them. Every rewrite is exact: weights are put side by side, nothing is
computed in another way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir
from onnx_ir.passes import common

from decodekit_export.rewriting import MICROSOFT, constant, replace


def fuse(model: onnx_ir.Model) -> None:
    """Rewrite the graph in place."""
    graph = model.graph
    _undo_transposes(graph)
    _undo_reshapes(graph)
    _name_tables(graph)
    common.RemoveUnusedNodesPass()(model)
    for node in list(graph):
        if node.op_type == "GroupQueryAttention":
            _project_together(graph, node)
        elif node.op_type == "MatMul":
            _transpose_in_passing(graph, node)
    model.opset_imports[MICROSOFT] = 1
    common.RemoveUnusedNodesPass()(model)


def _undo_transposes(graph: onnx_ir.Graph) -> None:
    """A transpose of a transpose that brings every axis back is its input."""
    for node in list(graph):
        before = _made_by(node.inputs[0], "Transpose") if node.op_type == "Transpose" else None
        if before is None or before.inputs[0] is None:
            continue
        first, second = (list(n.attributes["perm"].as_ints()) for n in (before, node))
        if [first[i] for i in second] == sorted(first):
            onnx_ir.convenience.replace_all_uses_with(node.outputs[0], before.inputs[0])


def _undo_reshapes(graph: onnx_ir.Graph) -> None:
    """A reshape of a reshape is one, and none where the shape is that of the beginning."""
    for node in list(graph):
        if node.op_type != "Reshape":
            continue
        while (before := _made_by(node.inputs[0], "Reshape")) is not None:
            node.replace_input_with(0, before.inputs[0])
        start, end = node.inputs[0], node.outputs[0]
        if start is not None and start.shape is not None and start.shape == end.shape and start.shape.rank():
            onnx_ir.convenience.replace_all_uses_with(end, start)


def _name_tables(graph: onnx_ir.Graph) -> None:
    """Call the tables of rotary positions by what they hold."""
    attentions = [node for node in graph if node.op_type == "GroupQueryAttention" and len(node.inputs) > 7]
    pairs = dict.fromkeys((node.inputs[7], node.inputs[8]) for node in attentions)
    for kind, pair in enumerate(pair for pair in pairs if None not in pair):
        for table, name in zip(pair, ("cos", "sin"), strict=True):
            table.name = f"rotary.{kind}.{name}"  # type: ignore[union-attr]


def _project_together(graph: onnx_ir.Graph, attention: onnx_ir.Node) -> None:
    """Query, key and value of one input: one product with the three weights side by side."""
    projections = [_projection(value) for value in attention.inputs[:3]]
    if any(p is None for p in projections):
        return
    sources, weights, biases = zip(*(p for p in projections if p is not None), strict=True)
    if len(set(sources)) > 1 or len({bias is None for bias in biases}) > 1:
        return
    product = onnx_ir.node("MatMul", [sources[0], _side_by_side(graph, weights)])
    added = [product]
    if biases[0] is not None:
        added.append(onnx_ir.node("Add", [product.outputs[0], _side_by_side(graph, biases)]))
    graph.insert_before(attention, added)
    attention.replace_input_with(0, added[-1].outputs[0])
    attention.replace_input_with(1, None)
    attention.replace_input_with(2, None)


def _projection(
    value: onnx_ir.Value | None,
) -> tuple[onnx_ir.Value, onnx_ir.Value, onnx_ir.Value | None] | None:
    """Source, weight and bias of a value that only attention uses."""
    bias = None
    if (add := _made_by(value, "Add")) is not None and len(add.outputs[0].uses()) == 1:
        bias = next((i for i in add.inputs if _is_weight(i)), None)
        value = next((i for i in add.inputs if i is not bias), None)
    product = _made_by(value, "MatMul")
    if product is None or len(product.outputs[0].uses()) > 1 or not _is_weight(product.inputs[1]):
        return None
    return product.inputs[0], product.inputs[1], bias  # type: ignore[return-value]


def _side_by_side(graph: onnx_ir.Graph, weights: Sequence[onnx_ir.Value]) -> onnx_ir.Value:
    """Weights that are alike are one in the graph, so layers may ask for the same again."""
    name = "+".join(str(weight.name) for weight in weights)
    if name in graph.initializers:
        return graph.initializers[name]
    arrays = [weight.const_value.numpy() for weight in weights]  # type: ignore[union-attr]
    return constant(graph, name, np.concatenate(arrays, axis=-1))


def _transpose_in_passing(graph: onnx_ir.Graph, product: onnx_ir.Node) -> None:
    """A weight that is there for another use too is read across, not stored or moved a second time."""
    transpose = _made_by(product.inputs[1], "Transpose")
    if transpose is None or not _is_weight(transpose.inputs[0]):
        return
    fused = onnx_ir.node(
        "FusedMatMul", [product.inputs[0], transpose.inputs[0]], {"transB": 1}, domain=MICROSOFT
    )
    replace(graph, product, [fused])


def _made_by(value: onnx_ir.Value | None, operator: str) -> onnx_ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == operator else None


def _is_weight(value: onnx_ir.Value | None) -> bool:
    return value is not None and value.is_initializer()
