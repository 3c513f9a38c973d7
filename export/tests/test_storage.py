from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto

from decodekit_export.graph_file import FILE, write
from decodekit_export.rows import ConcatenatingRows, InPlaceRows, open_session
from decodekit_export.storage import store_in_halves

HALVES = {"float16": "FLOAT16", "bfloat16": "BFLOAT16"}
ONLY = {"float16": 1 + 2.0**-10, "bfloat16": 2.0**-100}  # what the other cannot express


def rounded(drawn, half: str) -> onnx_ir.Model:
    """The Llama graph with every large weight rounded to what `half` can express."""
    model = onnx_ir.load(drawn.path)
    dtype = onnx_ir.DataType[HALVES[half]].numpy()
    for name, value in model.graph.initializers.items():
        weight = value.const_value.numpy()
        if weight.dtype == np.float32 and weight.size >= 1024:
            weight = weight.astype(dtype).astype(np.float32)
            weight.flat[0] = ONLY[half]
            value.const_value = onnx_ir.tensor(weight, name=name)
    return model


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(("kind", "rows"), [("in_place", InPlaceRows), ("concatenating", ConcatenatingRows)])
def test_logits_are_the_same_to_the_bit_in_half_the_bytes(drawn, tmp_path, half, kind, rows):
    graph = drawn("Llama", kind)
    model = rounded(graph, half)
    folders = [tmp_path / "full", tmp_path / "halves"]
    for folder in folders:
        folder.mkdir()
    write(model, folders[0])
    assert store_in_halves(model) == half
    write(model, folders[1])

    full, halves = (rows(open_session(folder / FILE), graph.shape, 1, 64) for folder in folders)
    for tokens in ([[1, 7, 9, 200]], [[5]], [[6, 7]]):
        assert np.array_equal(full.feed(tokens), halves.feed(tokens))
    assert np.array_equal(full.row(0), halves.row(0))
    sizes = [sum(len(i.raw_data) for i in onnx.load(folder / FILE).graph.initializer) for folder in folders]
    assert sizes[1] < 0.6 * sizes[0]


def test_a_weight_that_would_change_is_left_alone(drawn, tmp_path):
    model = onnx_ir.load(drawn("Llama").path)
    assert store_in_halves(model) == "float32"
    write(model, tmp_path)
    kinds = {i.data_type for i in onnx.load(tmp_path / FILE).graph.initializer}
    assert not kinds & {TensorProto.FLOAT16, TensorProto.BFLOAT16}


def test_one_value_decides():
    exact = np.ones(2048, np.float32)
    for odd in (1 + 2.0**-20, 1e-30, 1e30):
        model = model_of(exact, np.where(np.arange(2048) == 7, np.float32(odd), exact))
        store_in_halves(model)
        kinds = [value.dtype.name for value in model.graph.initializers.values()]
        assert kinds.count("FLOAT") == 1


def test_minus_zero_stays_minus_zero():
    model = model_of(np.full(1024, -0.0, np.float32))
    assert store_in_halves(model) in HALVES
    (stored,) = model.graph.initializers.values()
    assert np.signbit(stored.const_value.numpy().astype(np.float32)).all()


def model_of(*weights: np.ndarray) -> onnx_ir.Model:
    """A graph that adds its weights up."""
    kind = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    tensors = [onnx_ir.tensor(weight, name=f"w{i}") for i, weight in enumerate(weights)]
    values = [onnx_ir.Value(name=t.name, type=kind, const_value=t) for t in tensors]
    total = onnx_ir.node("Sum", values)
    graph = onnx_ir.Graph([], total.outputs, nodes=[total], initializers=values, opset_imports={"": 20})
    return onnx_ir.Model(graph, ir_version=10)
