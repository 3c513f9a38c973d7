"""
The files of a graph: `model.onnx`, and `model.onnx.data` for weights that are many.

onnxruntime maps the second one, name by name, packs what products multiply with and lets go of
that name's bytes. A tied embedding, from which rows are looked up too, would so be held mapped
and packed: it gets a second name for the lookups, at the same place of the file.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir
from onnx_ir import ExternalTensor

FILE = "model.onnx"
DATA = "model.onnx.data"
ONE_FILE = 64 << 20  # bytes of weights; more are mapped from a file of their own, not read and copied
SMALL = 256  # bytes of a weight that stays in the graph's file
PRODUCTS = ("MatMul", "FusedMatMul", "Gemm", "MatMulNBits")


def write(model: onnx_ir.Model, folder: Path, *, one_file: int = ONE_FILE) -> None:
    """Save as `model.onnx`; weights of more than `one_file` bytes move to one `model.onnx.data`.

    What has moved is read from there by the model too: written again, the graph changes and they stay.
    """
    size = sum(w.const_value.nbytes for w in model.graph.initializers.values() if w.const_value)
    moved = any(isinstance(w.const_value, ExternalTensor) for w in model.graph.initializers.values())
    if size > one_file and not moved:
        onnx_ir.external_data.unload_from_model(model, folder, DATA, size_threshold_bytes=SMALL)
        _name_lookups(model.graph)
    onnx_ir.save(model, folder / FILE)


def _name_lookups(graph: onnx_ir.Graph) -> None:
    """Give what is multiplied with, and used otherwise too, a second name for the other uses."""
    for weight in list(graph.initializers.values()):
        others = [(node, place) for node, place in weight.uses() if node.op_type not in PRODUCTS]
        there = weight.const_value
        if not isinstance(there, ExternalTensor) or not 0 < len(others) < len(weight.uses()):
            continue
        name = f"{weight.name}.rows"
        same = ExternalTensor(
            there.location,
            there.offset,
            there.length,
            there.dtype,
            shape=there.shape,
            name=name,
            base_dir=there.base_dir,
        )
        rows = onnx_ir.Value(name=name, shape=weight.shape, type=weight.type, const_value=same)
        graph.register_initializer(rows)
        for node, place in others:
            node.replace_input_with(place, rows)
