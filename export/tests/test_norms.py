"""Sums that are normed: found where they are, left alone where they are something else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir
import onnxruntime
import pytest

from decodekit_export.norms import norm_sums
from decodekit_export.rewriting import constant
from decodekit_export.to_onnx import FILE, write

JOINED = "SkipSimplifiedLayerNormalization"
SHAPE = (2, 3, 8)


def norm_of_a_sum(
    *, exponent=2.0, axis=-1, weight=(8,), bias=False, other_use=False, other_root=False, kind="float32"
):
    """x + y, normed; each option is one thing that makes it another computation."""
    random = np.random.default_rng(0)
    type = onnx_ir.TensorType(onnx_ir.DataType.from_numpy(np.dtype(kind)))
    x, y = (onnx_ir.Value(name=n, shape=onnx_ir.Shape(SHAPE), type=type) for n in "xy")
    inputs = [x] if bias else [x, y]
    graph = onnx_ir.Graph(inputs, [], nodes=[], opset_imports={"": 21}, name="norm")

    def add(operator, *values, **attributes):
        node = onnx_ir.node(operator, values, attributes)
        graph.append(node)
        node.outputs[0].type, node.outputs[0].shape = type, onnx_ir.Shape(SHAPE)
        return node.outputs[0]

    def number(name, value):
        return constant(graph, name, np.asarray(value, kind))

    total = add("Add", x, constant(graph, "bias", random.normal(size=8).astype(kind)) if bias else y)
    square = add("Pow", total, number("exponent", exponent))
    mean = add("ReduceMean", square, constant(graph, "axis", np.asarray([axis])))
    root = add("Sqrt", add("Add", mean, number("epsilon", 1e-5)))
    normed = add(
        "Mul",
        constant(graph, "w", random.normal(size=weight).astype(kind)),
        add("Div", x if other_root else total, root),
    )
    graph.outputs.extend([normed, add("Neg", total)])
    if other_use:
        graph.outputs.append(add("Neg", square))
    for i, value in enumerate(graph.outputs):
        value.name = f"out{i}"
    return onnx_ir.Model(graph, ir_version=10)


def run(model, folder):
    folder.mkdir()
    model.opset_imports["com.microsoft"] = 1
    write(model, folder)
    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    return session.run(
        None, {i.name: random.normal(size=SHAPE).astype(np.float32) for i in session.get_inputs()}
    )


def operators(model):
    return Counter(node.op_type for node in model.graph)


@pytest.mark.parametrize("options", [{}, {"axis": 2}], ids=str)
def test_a_sum_and_its_norm_are_one_operator_that_gives_both(options, tmp_path):
    plain, joined = norm_of_a_sum(**options), norm_of_a_sum(**options)
    norm_sums(joined.graph)
    assert operators(joined)[JOINED] == 1
    for before, after in zip(run(plain, tmp_path / "a"), run(joined, tmp_path / "b"), strict=True):
        assert np.abs(before - after).max() < 1e-5 and np.abs(before).max() > 1


@pytest.mark.parametrize(
    "options",
    [
        {"exponent": 3.0},
        {"axis": 1},
        {"weight": (3, 8)},
        {"bias": True},
        {"other_use": True},
        {"other_root": True},
        {"kind": "float16"},
    ],
    ids=str,
)
def test_what_is_another_computation_stays(options):
    model = norm_of_a_sum(**options)
    before = operators(model)
    norm_sums(model.graph)
    assert operators(model) == before


@pytest.mark.parametrize(("name", "sums"), [("Llama", 4), ("Gemma2", 4), ("GPT2", 0)])
def test_in_a_decoder_they_are_all_found(drawn, name, sums):
    assert operators(onnx_ir.load(drawn(name).path))[JOINED] == sums
