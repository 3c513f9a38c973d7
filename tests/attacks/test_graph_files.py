"""Hostile .onnx files and data beside them."""

import os
import shutil
import socket
from pathlib import Path

import pytest
from onnx_bytes import INT64, decoder, field, function, graph, model, node, tensor

from decodekit.bundle import open_bundle
from decodekit.graph_check import check_graph_file

FIXTURES = Path(__file__).parent.parent / "fixtures"
WEIGHT = {"location": "model.onnx.data", "offset": "0", "length": "40"}


def file_with(folder, *constants, **parts):
    path = folder / "model.onnx"
    path.write_bytes(model(constants=constants, **parts))
    return path


def weight(*more, shape=(10,), raw=None, **changed):
    """A tensor of 40 bytes in model.onnx.data; `changed` and `more` are what a hostile file says instead."""
    return tensor("a weight", shape, raw=raw, external=[*(WEIGHT | changed).items(), *more])


@pytest.fixture
def place(tmp_path):
    """A folder whose graph may keep 40 bytes in model.onnx.data."""
    path = tmp_path / "place"
    path.mkdir()
    (path / "model.onnx.data").write_bytes(bytes(40))
    return path


def test_a_weight_beside_the_graph_is_accepted(place):
    assert check_graph_file(file_with(place, weight()))
    assert check_graph_file(file_with(place, weight(("checksum", "00"))))


# M1


@pytest.mark.parametrize("kind", ["in_place", "optimum", "genai"])
def test_m1_a_graph_cut_off_at_any_of_64_places_is_named(tmp_path, kind, refused, attack):
    folder = shutil.copytree(FIXTURES / kind, tmp_path / kind)
    content = (folder / "model.onnx").read_bytes()
    for i in range(64):
        (folder / "model.onnx").write_bytes(content[: i * len(content) // 64])
        attack("open", folder).refused(
            "model.onnx", "BundleHashError" if kind == "in_place" else "BundleError"
        )


# M2


def make_folder(path):
    path.mkdir()


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path.name)  # a socket's path is short


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.touch, "not an ONNX graph .0 bytes; a graph has some"),
        (make_folder, "not a regular file, though it is the graph"),
        (os.mkfifo, "not a regular file, though it is the graph"),
        (make_socket, "not a regular file, though it is the graph"),
    ],
)
def test_m2_what_is_no_file_is_refused_without_waiting_for_it(folder, monkeypatch, make, message, refused):
    monkeypatch.chdir(folder)
    (folder / "model.onnx").unlink()
    make(folder / "model.onnx")
    refused(folder, message)


# M3


def test_m3_data_that_is_not_there_is_named_with_the_tensor(place, refused_graph):
    (place / "model.onnx.data").unlink()
    refused_graph(
        file_with(place, weight()),
        "model.onnx.data: No such file or directory, though model.onnx keeps tensor 'a weight' in it; copy",
    )


# M4


@pytest.mark.parametrize(
    ("key", "said", "message"),
    [
        ("offset", "1", "at 1 to 41 of 'model.onnx.data', which has 40 bytes"),
        ("offset", "-1", "offset '-1', which must be a number from 0"),
        ("length", "-40", "length '-40', which must be a number from 0"),
        ("length", str(2**63), f"has {2**63} bytes, its shape .* asks for 40"),
        ("offset", str(2**63), "which has 40 bytes"),
        ("offset", "9" * 4000, "which must be a number from 0"),
        ("offset", "1_0", "which must be a number from 0"),
        ("length", "39", "has 39 bytes, its shape .* asks for 40"),
        ("offset", "", "which must be a number from 0"),
    ],
)
def test_m4_bytes_that_are_not_in_the_file_are_refused(place, key, said, message, refused_graph):
    refused_graph(file_with(place, weight(**{key: said})), message)


@pytest.mark.parametrize(
    "constant",
    [
        tensor("a weight", [2**62, 2**62, 2], raw=b"0000"),
        tensor("a weight", [-1, -1], raw=b"0000"),
        tensor("a weight", [2], raw=b"0000"),
        tensor("a weight", [2]),
        tensor("a weight", [1], type=99, raw=b"0000"),
        tensor("a weight", [1], type=0, raw=b"0000"),
        tensor("a weight", [1], raw=b"0000") + field(4, b"0000"),
        weight(shape=(2**40,)),
        weight(raw=bytes(40)),
        field(8, "a weight") + field(1, 1_000_000) + field(2, INT64) + field(7, b"\x01"),
    ],
)
def test_m4_a_tensor_has_the_bytes_that_its_shape_asks_for(place, constant, refused_graph):
    refused_graph(file_with(place, constant), "tensor 'a weight'")


def test_m4_the_value_of_an_attribute_is_a_tensor_too(place, refused_graph):
    constant = node("Constant", [], ["c"], attributes=[field(1, "value") + field(5, tensor("a weight", [2]))])
    refused_graph(file_with(place, nodes=[constant]), "tensor 'a weight'")
    inside = field(1, "body") + field(6, graph(nodes=[constant]))
    refused_graph(file_with(place, nodes=[node("Loop", [], ["y"], attributes=[inside])]), "tensor 'a weight'")
    default = field(11, field(1, "value") + field(5, tensor("a weight", [2])))
    refused_graph(file_with(place, functions=[function("own", "f", []) + default]), "tensor 'a weight'")


# M5


@pytest.mark.parametrize(
    "location",
    [
        *("../outside", "/etc/passwd", "a/../../outside", "C:\\x", "\\\\host\\x", "file:///etc/passwd"),
        *("http://169.254.169.254/", "a\0b", "", ".", "..", "*/_ORT_MEM_ADDR_/*", "a\nb"),
    ],
)
def test_m5_data_outside_the_folder_is_refused_and_not_opened(place, location, refused, attack):
    (place.parent / "outside").write_bytes(bytes(40))
    path = file_with(place, weight(location=location))
    report = attack("graph", path)
    report.refused("leaves the folder, though model.onnx keeps tensor 'a weight' in it|not a regular file")
    assert report.opened == [str(path)]


def test_m5_an_address_of_the_runtimes_memory_is_no_place_for_data(place, refused_graph):
    (place / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (place / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(bytes(40))
    refused_graph(file_with(place, weight(location="*/_ORT_MEM_ADDR_/*")), "leaves the folder")


# M6


def test_m6_a_link_in_place_of_data_is_refused(place, refused_graph):
    outside = (place / "model.onnx.data").rename(place.parent / "outside")
    (place / "model.onnx.data").symlink_to(outside)
    refused_graph(
        file_with(place, weight()), "a link, or reached by one, and links are refused; copy the folder"
    )


def test_m6_a_link_on_the_way_to_data_is_refused(place, refused_graph):
    outside = place.parent / "elsewhere"
    outside.mkdir()
    (outside / "data").write_bytes(bytes(40))
    (place / "below").symlink_to(outside)
    refused_graph(file_with(place, weight(location="below/data")), "a link, or reached by one")


def test_m6_a_second_name_of_data_is_refused_unless_a_manifest_vouches_for_it(place, refused_graph):
    os.link(place / "model.onnx.data", place.parent / "second name")
    path = file_with(place, weight())
    refused_graph(path, "in 'model.onnx.data', which has another hard link; replace the file by a copy")
    assert check_graph_file(path, pinned=["model.onnx.data"])


def test_m6_a_folder_of_the_hugging_face_cache_is_copied_first(folder, refused):
    cache = folder.parent / "models--someone--model"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots" / "main").mkdir(parents=True)
    for i, file in enumerate(folder.iterdir()):
        shutil.copy(file, cache / "blobs" / str(i))
        (cache / "snapshots" / "main" / file.name).symlink_to(f"../../blobs/{i}")
    refused(cache / "snapshots" / "main", "a link into the Hugging Face cache, .* cp -rL .*/main COPY")
    shutil.copytree(cache / "snapshots" / "main", folder.parent / "copy")
    assert open_bundle(folder.parent / "copy").stop_ids == {3}


# M7


@pytest.mark.parametrize("more", [("prepacked_0", "x"), ("__class__", "x"), ("location", "/etc/passwd")])
def test_m7_unknown_and_repeated_keys_of_data_are_refused(place, more, refused_graph):
    refused_graph(file_with(place, weight(more)), "known are .*location.* each once")


def test_m7_data_without_a_location_is_refused(place, refused_graph):
    refused_graph(
        file_with(place, tensor("a weight", [1], external=[("offset", "0")])), "is told where to be by"
    )


# M20


@pytest.mark.parametrize(
    ("operator", "domain"),
    [
        ("EPContext", "com.microsoft"),
        ("PythonOp", "com.microsoft"),
        ("PyOp", "com.microsoft"),
        ("AllReduce", "com.microsoft"),
        ("ATen", "org.pytorch.aten"),
        ("Add", "com.example"),
        ("Add", "ai.onnx.contrib"),
    ],
)
def test_m20_an_operator_that_could_run_other_code_is_refused(place, operator, domain, refused_graph):
    bad = node(operator, ["x"], ["y"], domain)
    message = f"node 'a {operator}' calls '{domain}:{operator}', which is refused"
    refused_graph(file_with(place, nodes=[bad]), message)
    inside = field(1, "then_branch") + field(6, graph(nodes=[bad]))
    refused_graph(file_with(place, nodes=[node("If", ["c"], ["y"], attributes=[inside])]), message)
    refused_graph(file_with(place, functions=[function("own", "f", [bad])]), message)


@pytest.mark.parametrize("domain", ["", "ai.onnx", "com.microsoft", "ai.onnx.ml", "com.microsoft.nchwc"])
def test_m20_a_function_in_place_of_an_operator_is_refused(place, domain, refused_graph):
    refused_graph(file_with(place, functions=[function(domain, "Add", [])]), "is in a domain of operators")


def test_m20_functions_do_not_call_themselves_or_grow_without_end(place, refused_graph):
    twice = function("own", "f", [])
    refused_graph(file_with(place, functions=[twice, twice]), "two functions have one name")
    a, b = (function("own", f, [node(g, [], ["y"], "own")]) for f, g in ("ab", "ba"))
    refused_graph(file_with(place, functions=[a, b]), "function .[ab]. calls itself")
    laughs = [function("own", f"f{i}", [node(f"f{i + 1}", [], ["y"], "own")] * 10) for i in range(9)]
    last = function("own", "f9", [node("Add", ["x", "x"], ["y"])] * 10)
    many = file_with(place, nodes=[node("f0", [], ["y"], "own")], functions=[*laughs, last])
    refused_graph(many, "more than 1000000 nodes once its functions are written out")


def test_parts_that_no_decoder_needs_are_refused(folder, refused):
    for extra in (field(20, b""), field(99, b"x")):  # training, and what onnx does not have
        (folder / "model.onnx").write_bytes(decoder() + extra)
        refused(folder, "field (20|99) is not known in Model")
