"""
RMSNorm and the sum before it in one operator.

    r = x + y;  n = r / sqrt(mean(r^2) + epsilon) * w        Zhang and Sennrich, arXiv:1910.07467

Between the layers of a decoder every sum is normed. com.microsoft::SkipSimplifiedLayerNormalization
gives both; onnxruntime recognises the norm when it loads a graph, but not the sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir

from decodekit_export.rewriting import MICROSOFT


@dataclass(frozen=True, slots=True)
class Norm:
    """One in a graph: what it is of, its weight [H] and epsilon; `end` is the node that gives it."""

    of: onnx_ir.Value
    weight: onnx_ir.Value
    epsilon: float
    end: onnx_ir.Node


def norm_sums(graph: onnx_ir.Graph) -> None:
    """Rewrite every sum of two that is normed, in place."""
    for node in list(graph):
        norm = _norm(node)
        total = None if norm is None else norm.of.producer()
        if norm is not None and total is not None and _of_two(total):
            _join(graph, total, norm)


def _join(graph: onnx_ir.Graph, total: onnx_ir.Node, norm: Norm) -> None:
    joined = onnx_ir.Node(
        MICROSOFT,
        "SkipSimplifiedLayerNormalization",
        [*reversed(total.inputs), norm.weight],
        [onnx_ir.AttrFloat32("epsilon", norm.epsilon)],
        num_outputs=4,
    )
    normed, _, _, summed = joined.outputs
    for unused in joined.outputs[1:3]:
        unused.name = ""
    graph.insert_after(total, joined)
    for before, after in ((norm.end.outputs[0], normed), (total.outputs[0], summed)):
        after.shape, after.type = before.shape, before.type
        onnx_ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)


def _norm(node: onnx_ir.Node) -> Norm | None:
    """The norm that a node is the end of: w * (r / sqrt(mean(r ** 2) + epsilon))."""
    if node.op_type != "Mul":
        return None
    quotient = next((v for v in node.inputs if _made_by(v, "Div")), None)
    weight = next((v for v in node.inputs if v is not quotient), None)
    if quotient is None or weight is None or not weight.is_initializer() or _rank(weight) != 1:
        return None
    of, root = _inputs(quotient)
    mean = _inputs(_only(root, "Sqrt"), "Add")
    square = _inputs(mean[0], "ReduceMean") if mean else ()
    power = _inputs(square[0], "Pow") if square else ()
    if not power or power[0] is not of or of is None or of.dtype != onnx_ir.DataType.FLOAT:
        return None
    epsilon, axis, exponent = (_number(v) for v in (mean[1], square[1], power[1]))
    if epsilon is None or exponent != 2 or axis not in (-1, (_rank(of) or 0) - 1):
        return None
    return Norm(of, weight, epsilon, node)


def _of_two(node: onnx_ir.Node) -> bool:
    """Whether it adds two of one shape, neither of which is a constant."""
    shapes = [value.shape for value in node.inputs if value is not None and value.const_value is None]
    shape = node.outputs[0].shape
    alike = len(shapes) == 2 and None not in shapes and shapes[0] == shapes[1] == shape
    return node.op_type == "Add" and alike and shape is not None and shape.rank() == 3


def _made_by(value: onnx_ir.Value | None, operator: str) -> onnx_ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == operator else None


def _inputs(value: onnx_ir.Value | None, operator: str = "Div") -> tuple[onnx_ir.Value | None, ...]:
    """Of the operator that made a value, which nobody else uses; () if another did."""
    node = _made_by(value, operator)
    if node is None or value is None or len(value.uses()) > 1 or len(node.inputs) != 2:
        return ()
    return tuple(node.inputs)


def _only(value: onnx_ir.Value | None, operator: str) -> onnx_ir.Value | None:
    """The one input of the operator that made a value."""
    node = _made_by(value, operator)
    return node.inputs[0] if node is not None else None


def _rank(value: onnx_ir.Value) -> int | None:
    return None if value.shape is None else value.shape.rank()


def _number(value: onnx_ir.Value | None) -> float | None:
    """A constant of one number."""
    tensor = None if value is None else value.const_value
    if tensor is None or tensor.size != 1:
        return None
    return float(tensor.numpy().reshape(-1)[0])
