from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_bytes import FLOAT16, INT64, field, function, graph, model, node, tensor, value, varint

from decodekit import protobuf
from decodekit.errors import BundleError
from decodekit.graph_check import check_graph_file, external_files
from decodekit.onnx_file import read_onnx

FIXTURES = Path(__file__).parent / "fixtures"

BODY = graph(nodes=[node("Add", ["x", "x"], ["y"])], outputs=[value("y", ["N"])])
SMALL = model(
    nodes=[
        node("If", ["condition"], ["y"], attributes=[field(1, "then_branch") + field(6, BODY)]),
        node("double", ["y"], ["z"], "own"),
        node(
            "Constant",
            [],
            ["c"],
            attributes=[field(1, "value") + field(5, tensor("t", [2], raw=b"8bytes.."))],
        ),
    ],
    inputs=[value("x", ["N", 4], FLOAT16), value("w", [2], INT64)],
    outputs=[value("z", ["N", ""])],
    constants=[tensor("w", [2], INT64, raw=bytes(16))],
    functions=[function("own", "double", [node("Mul", ["a", "a"], ["b"])])],
)


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        return path

    return write


def test_a_file_is_read_without_its_weights(write):
    file = read_onnx(write(SMALL))
    assert file.producer == {"by hand": ""} and file.opsets == {"": 20}
    assert [(v.name, v.type, v.dims) for v in file.graph.inputs] == [("x", "float16", ("N", 4))]
    assert [(v.name, v.type, v.dims) for v in file.graph.outputs] == [("z", "float32", ("N", ""))]
    assert [n.operator for n in file.every_node()] == ["If", "double", "Constant", "Add", "Mul"]
    assert [(t.name, t.type, t.dims, t.raw) for t in file.every_tensor()] == [
        ("w", "int64", (2,), 16),
        ("t", "float32", (2,), 8),
    ]


def test_attributes_of_attention_are_read(write):
    numbers = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1, "local_window_size": -1}
    content = model(nodes=[node("GroupQueryAttention", [], [], "com.microsoft", **numbers)])
    (attention,) = read_onnx(write(content)).every_node()
    assert attention.attributes == numbers and attention.domain == "com.microsoft"


@pytest.mark.parametrize("name", ["in_place", "concatenating", "optimum", "genai"])
def test_what_exporters_write_passes(name):
    file = check_graph_file(FIXTURES / name / "model.onnx")
    assert {"logits", "present.0.key"} <= {value.name for value in file.graph.outputs}
    assert external_files(file) == (["model.onnx.data"] if name == "genai" else [])


def test_a_file_cut_off_anywhere_is_an_error_or_a_smaller_file(write):
    errors = 0
    for size in range(len(SMALL)):
        try:
            check_graph_file(write(SMALL[:size]))
        except BundleError as exc:
            errors += 1
            assert "model.onnx" in str(exc)
    assert errors > 0.9 * len(SMALL)


def test_one_flipped_bit_is_an_error_or_another_file(write):
    for i in range(len(SMALL)):
        content = bytearray(SMALL)
        content[i] ^= 1 << i % 8
        try:
            check_graph_file(write(content))
        except BundleError as exc:
            assert "model.onnx" in str(exc)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_an_error_or_a_message(content):
    try:
        protobuf.read(content, {"m": {1: protobuf.Field("m", "m"), 2: protobuf.Field("t", "text")}}, "m")
    except protobuf.WireError as exc:
        assert "byte" in str(exc)


NUMBER = protobuf.Field("number", protobuf.INT)
NUMBERS = protobuf.Field("numbers", protobuf.INT, many=True)
SKIPPED = protobuf.Field("skipped", protobuf.SIZE, many=True)
SCHEMA = {"outer": {1: NUMBER, 2: NUMBERS, 3: protobuf.Field("inner", "outer"), 4: SKIPPED}}


def read(content):
    return protobuf.read(content, SCHEMA, "outer")


def test_numbers_are_read_alone_and_packed_and_with_their_sign():
    assert read(field(1, -1)) == {"number": -1}
    assert read(field(2, 1) + field(2, b"\x02\x96\x01") + field(2, 2**63 - 1)) == {
        "numbers": [1, 2, 150, 2**63 - 1]
    }


def test_of_a_skipped_value_only_the_size_is_kept():
    fixed = varint(4 << 3 | 5) + bytes(4) + varint(4 << 3 | 1) + bytes(8)
    assert read(field(4, b"abc") + field(4, 300) + fixed) == {"skipped": 3 + 2 + 4 + 8}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (field(9, 1), "byte 0: field 9 is not known in outer"),
        (field(1, 1) + field(1, 2), "byte 2: outer.number is there twice"),
        (field(1, b"\x01"), "byte 0: outer.number has wire type 2"),
        (field(3, 1), "byte 0: outer.inner has wire type 0"),
        (varint(3 << 3 | 3), "wire type 3 is not known"),
        (varint(3 << 3 | 2) + varint(5) + b"\x08", "cut off, 4 bytes are missing"),
        (varint(3 << 3 | 2) + varint(2**63), "cut off, "),
        (b"\x80" * 11, "a number does not end"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "a number does not end"),
    ],
)
def test_a_message_that_two_readers_could_read_differently_is_refused(content, message):
    with pytest.raises(protobuf.WireError, match=message):
        read(content)


def test_depth_and_numbers_of_fields_and_length_of_texts_are_bounded(monkeypatch):
    deep = b""
    for _ in range(protobuf.MAX_DEPTH + 2):
        deep = field(3, deep)
    with pytest.raises(protobuf.WireError, match="nested deeper than 64"):
        read(deep)
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 10)
    for many in (field(2, 1) * 11, field(2, b"\x01" * 11)):
        with pytest.raises(protobuf.WireError, match="more than 10 fields"):
            read(many)
    with pytest.raises(protobuf.WireError, match="a name of 5000 bytes"):
        protobuf.read(field(1, "x" * 5000), {"m": {1: protobuf.Field("text", protobuf.TEXT)}}, "m")
    with pytest.raises(protobuf.WireError, match="a name is not UTF-8"):
        protobuf.read(field(1, b"\xff"), {"m": {1: protobuf.Field("text", protobuf.TEXT)}}, "m")


def test_a_constant_may_be_encoded_by_its_type(write):
    floats = field(1, 2) + field(2, 1) + field(4, bytes(8))
    small_numbers = field(1, 3) + field(2, 22) + field(5, b"\x01\x02")  # 3 of 4 bits in 2 numbers
    texts = field(1, 1) + field(2, 8) + field(6, b"a text")
    check_graph_file(write(model(constants=[floats, small_numbers, texts])))
