"""
The fields and types of an .onnx file that a decoder needs, by number.

Parts that no decoder needs (training, sparse weights) are not listed, so a file that has them
is refused.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections.abc import Mapping

from decodekit.protobuf import INT, SIZE, TEXT, Field, Schema

TYPES = {  # TensorProto.DataType, by the names of NumPy where it has them
    **{1: "float32", 10: "float16", 11: "float64", 16: "bfloat16", 14: "complex64", 15: "complex128"},
    **{3: "int8", 5: "int16", 6: "int32", 7: "int64", 22: "int4", 26: "int2"},
    **{2: "uint8", 4: "uint16", 12: "uint32", 13: "uint64", 21: "uint4", 25: "uint2"},
    **{17: "float8e4m3fn", 18: "float8e4m3fnuz", 19: "float8e5m2", 20: "float8e5m2fnuz", 24: "float8e8m0"},
    **{23: "float4e2m1", 8: "string", 9: "bool"},
}


def _skipped(*numbers: int) -> Mapping[int, Field]:
    """Fields that may be there and that nobody asks for."""
    return {number: Field("", SIZE, many=True) for number in numbers}


SCHEMA: Schema = {
    "Model": {
        2: Field("producer_name", TEXT),
        3: Field("producer_version", TEXT),
        7: Field("graph", "Graph"),
        8: Field("opset_import", "OperatorSet", many=True),
        25: Field("functions", "Function", many=True),
        **_skipped(1, 4, 5, 6, 14, 26),  # versions, texts, metadata, device configurations
    },
    "OperatorSet": {1: Field("domain", TEXT), 2: Field("version", INT)},
    "Graph": {
        1: Field("node", "Node", many=True),
        5: Field("initializer", "Tensor", many=True),
        11: Field("input", "Value", many=True),
        12: Field("output", "Value", many=True),
        **_skipped(2, 10, 13, 14, 16),  # name, text, types of values, quantisation notes, metadata
    },
    "Function": {
        1: Field("name", TEXT),
        7: Field("node", "Node", many=True),
        10: Field("domain", TEXT),
        11: Field("attribute_proto", "Attribute", many=True),
        13: Field("overload", TEXT),
        **_skipped(4, 5, 6, 8, 9, 12, 14),  # names, text, versions, types of values, metadata
    },
    "Node": {
        1: Field("input", TEXT, many=True),
        2: Field("output", TEXT, many=True),
        3: Field("name", TEXT),
        4: Field("op_type", TEXT),
        5: Field("attribute", "Attribute", many=True),
        7: Field("domain", TEXT),
        8: Field("overload", TEXT),
        **_skipped(6, 9, 10),  # text, metadata, device configurations
    },
    "Attribute": {
        1: Field("name", TEXT),
        3: Field("i", INT),
        5: Field("t", "Tensor"),
        6: Field("g", "Graph"),
        10: Field("tensors", "Tensor", many=True),
        11: Field("graphs", "Graph", many=True),
        **_skipped(2, 4, 7, 8, 9, 13, 14, 15, 20, 21),  # numbers, texts, types
    },
    "Tensor": {
        1: Field("dims", INT, many=True),
        2: Field("data_type", INT),
        8: Field("name", TEXT),
        9: Field("raw_data", SIZE),
        13: Field("external_data", "Entry", many=True),
        14: Field("data_location", INT),
        **{number: Field("typed_data", SIZE, many=True) for number in (4, 5, 6, 7, 10, 11)},
        **_skipped(12, 16),  # text, metadata
    },
    "Entry": {1: Field("key", TEXT), 2: Field("value", TEXT)},
    "Value": {1: Field("name", TEXT), 2: Field("type", "Type"), **_skipped(3, 4)},
    "Type": {1: Field("tensor_type", "TensorType"), **_skipped(4, 5, 6, 7, 8, 9)},
    "TensorType": {1: Field("elem_type", INT), 2: Field("shape", "Shape")},
    "Shape": {1: Field("dim", "Dimension", many=True)},
    "Dimension": {1: Field("dim_value", INT), 2: Field("dim_param", TEXT), **_skipped(3)},
}
