"""decodekit reads .onnx files by a table of its own; here it is held against the onnx package."""

from pathlib import Path

import onnx
import pytest

from decodekit.onnx_file import read_onnx
from decodekit.onnx_schema import SCHEMA, TYPES
from decodekit.protobuf import INT, SIZE, TEXT

FIXTURES = Path(__file__).parents[2] / "tests" / "fixtures"
MESSAGES = {
    "Model": onnx.ModelProto,
    "OperatorSet": onnx.OperatorSetIdProto,
    "Graph": onnx.GraphProto,
    "Function": onnx.FunctionProto,
    "Node": onnx.NodeProto,
    "Attribute": onnx.AttributeProto,
    "Tensor": onnx.TensorProto,
    "Entry": onnx.StringStringEntryProto,
    "Value": onnx.ValueInfoProto,
    "Type": onnx.TypeProto,
    "TensorType": onnx.TypeProto.Tensor,
    "Shape": onnx.TensorShapeProto,
    "Dimension": onnx.TensorShapeProto.Dimension,
}
DATA = {"float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data"}
REFUSED = {  # on purpose: no decoder needs them
    "Model": {"training_info"},
    "Graph": {"sparse_initializer"},
    "Attribute": {"sparse_tensor", "sparse_tensors"},
    "Tensor": {"segment"},
}


@pytest.mark.parametrize("name", SCHEMA)
def test_fields_have_the_numbers_names_and_kinds_that_onnx_gives_them(name):
    theirs = {f.number: f for f in MESSAGES[name].DESCRIPTOR.fields}
    for number, field in SCHEMA[name].items():
        their = theirs.pop(number)
        if field.name and their.name not in DATA:
            assert field.name == their.name
            assert field.many == their.is_repeated
        if field.kind == TEXT:
            assert their.type in (their.TYPE_STRING, their.TYPE_BYTES)
        elif field.kind == INT:
            assert their.type in (their.TYPE_INT64, their.TYPE_INT32, their.TYPE_ENUM)
        elif field.kind != SIZE:
            assert their.message_type.full_name == MESSAGES[field.kind].DESCRIPTOR.full_name
    assert {f.name for f in theirs.values()} == REFUSED.get(name, set())


def test_types_have_the_numbers_that_onnx_gives_them():
    names = {n: i for i, n in TYPES.items()} | {"float": 1, "double": 11}
    for name, number in onnx.TensorProto.DataType.items():
        name = name.lower()
        if name != "undefined" and not name.startswith("float6e"):
            assert names[name] == number


@pytest.mark.parametrize("kind", ["in_place", "concatenating", "optimum", "genai"])
def test_a_file_reads_as_onnx_reads_it(kind):
    path = FIXTURES / kind / "model.onnx"
    ours, theirs = read_onnx(path), onnx.load(path, load_external_data=False)
    assert [(n.operator, n.domain, *n.inputs, *n.outputs) for n in ours.graph.nodes] == [
        (n.op_type, n.domain, *n.input, *n.output) for n in theirs.graph.node
    ]
    for values, protos in (
        (ours.graph.inputs, theirs.graph.input),
        (ours.graph.outputs, theirs.graph.output),
    ):
        assert [v.name for v in values] == [p.name for p in protos]
        assert [v.dims for v in values] == [
            tuple(
                d.dim_value if d.HasField("dim_value") else d.dim_param for d in p.type.tensor_type.shape.dim
            )
            for p in protos
        ]
    assert [(t.name, t.dims, t.raw, dict(t.external or ())) for t in ours.graph.initialisers] == [
        (t.name, tuple(t.dims), len(t.raw_data), {e.key: e.value for e in t.external_data})
        for t in theirs.graph.initializer
    ]
    attributes = [{a.name: a.i for a in n.attribute if a.HasField("i")} for n in theirs.graph.node]
    assert [dict(n.attributes) for n in ours.graph.nodes] == attributes
