"""
From a graph to an ONNX model: trace and tidy.

torch.onnx traces. Its own optimiser is left out, because it compares constants with a
tolerance and so drops, for one, an epsilon of 1e-8. What is done instead is exact: fold
constants, drop what nobody uses, and spell 1 / sqrt(x) * y as y / sqrt(x), the form in
which onnxruntime recognises RMSNorm when it loads the model.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir
import onnxscript.optimizer
import torch
from onnx_ir.passes import Sequential, common

from decodekit_export.errors import ExportError, first_line
from decodekit_export.fusion import fuse
from decodekit_export.graph import Graph, Input

OTHERWISE = "docs/architectures.md lists what is known to work; --engine optimum has exporters of its own"


def to_onnx(graph: Graph) -> onnx_ir.Model:
    """Trace `graph` into an ONNX model with the names and axes that it declares."""
    graph.eval()
    model = _trace(graph)
    _tidy(model)
    for value, (name, axes) in zip(model.graph.outputs, graph.outputs().items(), strict=True):
        assert value.name == name
        value.shape = onnx_ir.Shape([*axes[:-1], value.shape[-1] if value.shape else None])
    if not (positions := next(i for i in model.graph.inputs if i.name == "position_ids")).uses():
        model.graph.inputs.remove(positions)
    axes_of = {i.name: i.axes for i in graph.inputs()}
    for value in model.graph.inputs:
        value.shape = onnx_ir.Shape(axes_of[str(value.name)])
    return model


def _trace(graph: Graph) -> onnx_ir.Model:
    inputs = graph.inputs()
    split = len(inputs) - 2 * graph.shape.layers
    given, past = inputs[:split], list(zip(inputs[split::2], inputs[split + 1 :: 2], strict=True))
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                (*(i.example for i in given), [(key.example, value.example) for key, value in past]),
                dynamic_shapes=(
                    *map(_dynamic, given),
                    [(_dynamic(key), _dynamic(value)) for key, value in past],
                ),
                input_names=[i.name for i in inputs],
                output_names=list(graph.outputs()),
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except Exception as exc:  # torch.onnx wraps whatever the model raised
        cause, name = _root(exc), type(graph.model).__name__
        if isinstance(cause, ExportError):
            raise ExportError(f"{name}: {cause}") from exc
        reason = first_line(cause)
        raise ExportError(f"{name}: cannot be traced: {reason}; {OTHERWISE}") from exc
    assert program is not None
    return program.model


def _dynamic(given: Input) -> dict[int, Any]:
    """Which axes vary, for torch.export. Axes of one name are one dimension."""
    named = {i: axis for i, axis in enumerate(given.axes) if isinstance(axis, str)}
    sum_of_two = torch.export.Dim.DYNAMIC
    return {i: sum_of_two if "+" in axis else torch.export.Dim(axis, min=1) for i, axis in named.items()}


def _tidy(model: onnx_ir.Model) -> None:
    common.InlinePass()(model)
    _name_weights(model.graph)
    onnxscript.optimizer.fold_constants(
        model, input_size_limit=2**62, output_size_limit=2**62, should_fold=_unless_shared
    )
    _divide_by_roots(model.graph)
    Sequential(
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
    )(model)
    fuse(model)
    Sequential(
        common.OutputFixPass(),
        common.NameFixPass(),
        common.ClearMetadataAndDocStringPass(),  # it holds file names of the machine that exported
    )(model)


def _name_weights(graph: onnx_ir.Graph) -> None:
    """Call weights as the checkpoint does, and a transposed one `<name>.T`."""
    for value in list(graph.initializers.values()):
        value.name = str(value.name).removeprefix("model.")
        for node, _ in value.uses():
            if node.op_type == "Transpose":
                node.outputs[0].name = f"{value.name}.T"


def _unless_shared(node: onnx_ir.Node) -> bool | None:
    """A tied embedding, transposed for the logits, would be stored twice: onnxruntime can transpose it."""
    weight = node.inputs[0] if node.op_type == "Transpose" else None
    shared = weight is not None and weight.is_initializer() and len(weight.uses()) > 1
    return False if shared else None


def _divide_by_roots(graph: onnx_ir.Graph) -> None:
    for node in list(graph):
        root = node.inputs[0] if node.op_type == "Reciprocal" else None
        if root is None or (producer := root.producer()) is None or producer.op_type != "Sqrt":
            continue
        for product, place in list(node.outputs[0].uses()):
            if product.op_type == "Mul":
                quotient = onnx_ir.node("Div", [product.inputs[1 - place], root])
                graph.insert_before(product, quotient)
                onnx_ir.convenience.replace_all_uses_with(
                    product.outputs[0], quotient.outputs[0], replace_graph_outputs=True
                )


def _root(exc: BaseException) -> BaseException:
    """The first cause."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    return exc


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx prints graphs and progress, and warns about every custom operator."""
    nowhere = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
