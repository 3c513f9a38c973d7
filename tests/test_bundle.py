import json
import os

import pytest
from onnx_bytes import field, model, tensor

from decodekit.bundle import MANIFEST, open_bundle, write_manifest
from decodekit.errors import BundleError, BundleHashError, ContextError

CACHE = {"kind": "in_place", "layers": 1, "kv_heads": 1, "head_dim": 8, "dtype": "float32"}
GRAPH_FIELDS = {"file": "model.onnx", "inputs": ["input_ids"], "outputs": ["logits"], "cache": CACHE}
FIELDS = {
    "name": "toy",
    "graph": GRAPH_FIELDS,
    "vocabulary": 10,
    "context_length": 32,
    "stop_ids": [2],
    "tokenizer": "tokenizer.json",
    "chat_template": None,
}
GRAPH = model() + field(6, "x" * (497 - len(model())))  # 500 bytes; the rest is a text for people


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "a bündle"
    path.mkdir()
    (path / "model.onnx").write_bytes(GRAPH)
    (path / "tokenizer.json").write_text("{}")
    write_manifest(path, FIELDS)
    return path


def rewrite(folder, **fields):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | fields))


def test_a_sealed_folder_opens(folder):
    bundle = open_bundle(folder)
    assert (bundle.name, bundle.vocabulary, bundle.stop_ids) == ("toy", 10, frozenset({2}))
    assert bundle.cache.head_dim == 8
    assert set(bundle.manifest["files"]) == {"model.onnx", "tokenizer.json"}
    assert not (folder / f".{MANIFEST}").exists()


def test_a_bundle_is_named_by_its_content(folder):
    before = open_bundle(folder).sha256
    (folder / "model.onnx").write_bytes(model())
    assert write_manifest(folder, FIELDS).sha256 != before


def test_no_such_folder(tmp_path):
    with pytest.raises(BundleError, match="nowhere: no such folder, and no embedded model of that name"):
        open_bundle(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_no_bundle(folder):
    (folder / MANIFEST).unlink()
    with pytest.raises(
        BundleError,
        match=r"no decodekit.json, .* says what the model is; copy the folder again, or write a bundle",
    ):
        open_bundle(folder)


def test_a_missing_file_is_named(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer.json: No such file .*, though decodekit.json lists it"):
        open_bundle(folder)


@pytest.mark.parametrize("size", [0, 1, 499, 501])
def test_a_truncated_or_grown_file_is_named_with_both_sizes(folder, size):
    (folder / "model.onnx").write_bytes(b"x" * size)
    with pytest.raises(BundleHashError, match=rf"model.onnx: {size} bytes, the manifest says 500"):
        open_bundle(folder)


def test_one_flipped_bit_is_found(folder):
    data = bytearray((folder / "model.onnx").read_bytes())
    data[123] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(
        BundleHashError, match=r"model.onnx: sha256 differs from decodekit.json; copy or export"
    ):
        open_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, '{"format": "1"}'])
def test_a_manifest_that_is_none_is_named(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(BundleError, match=MANIFEST):
        open_bundle(folder)


def test_a_newer_format_asks_for_an_upgrade(folder):
    rewrite(folder, format=2)
    with pytest.raises(BundleError, match="format 2 is newer than this decodekit; upgrade it"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": "10"}, "'vocabulary' is missing or not a int"),
        ({"stop_ids": []}, "stop_ids is empty, so no answer would end"),
        ({"stop_ids": [10]}, r"stop_ids must be in \[0, 10\), got 10"),
        ({"stop_ids": ["</s>"]}, "stop_ids must be in"),
        ({"graph": {"file": "model.onnx"}}, "field 'graph.inputs' is missing or not a list"),
        (
            {"graph": GRAPH_FIELDS | {"cache": {"kind": "in_place"}}},
            "'graph.cache.layers' is missing or not a int",
        ),
        ({"graph": GRAPH_FIELDS | {"cache": CACHE | {"kind": "paged"}}}, "graph.cache.kind must be one of"),
        (
            {"graph": GRAPH_FIELDS | {"cache": CACHE | {"pages": 1}}},
            "graph.cache has unknown fields .'pages'.",
        ),
        (
            {"graph": GRAPH_FIELDS | {"positions": "somewhere"}},
            "graph.positions must be one of .* got 'somewhere'",
        ),
        ({"graph": GRAPH_FIELDS | {"file": ["model.onnx"]}}, "'graph.file' is missing or not a str"),
        ({"files": {"model.onnx": 500}}, "'tokenizer.json' is used but not listed"),
        (
            {"files": {"model.onnx": 500, "tokenizer.json": {}}},
            "'files.model.onnx.size' is missing or not a int",
        ),
        ({"context_length": 0}, r"context_length must be in \[1, inf\), got 0"),
        ({"chat_template": 1}, "1 is used but not listed"),
        ({"tokenizer": "../other.json"}, "'../other.json' is used but not listed"),
    ],
)
def test_a_field_that_cannot_be_is_named(folder, fields, message):
    rewrite(folder, **fields)
    with pytest.raises(BundleError, match=message):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a\\b"])
def test_a_file_name_that_leaves_the_folder_is_refused(folder, name):
    files = json.loads((folder / MANIFEST).read_text())["files"]
    rewrite(folder, files=files | {name: {"size": 1, "sha256": ""}})
    with pytest.raises(BundleError, match="leaves the folder"):
        open_bundle(folder)


def test_links_pipes_and_folders_are_no_files_of_a_bundle(folder, tmp_path):
    graph = folder / "model.onnx"
    outside = graph.rename(tmp_path / "elsewhere")
    graph.symlink_to(outside)
    with pytest.raises(
        BundleError, match="a link, or reached by one, and links are refused; copy the folder"
    ):
        open_bundle(folder)
    graph.unlink()
    os.mkfifo(graph)
    with pytest.raises(BundleError, match="not a regular file"):  # and it does not wait for a writer
        open_bundle(folder)


def test_a_graph_whose_hash_is_right_is_checked_all_the_same(folder):
    (folder / "model.onnx").write_bytes(b"graph" * 100)
    write_manifest(folder, FIELDS)
    with pytest.raises(BundleError, match=r"model.onnx: not an ONNX graph \(byte 0: field 12 is not known"):
        open_bundle(folder)


def test_weights_beside_the_graph_are_listed_too(folder):
    place = [("location", "weights"), ("length", "4")]
    (folder / "model.onnx").write_bytes(model(constants=[tensor("w", [1], external=place)]))
    write_manifest(folder, FIELDS)
    (folder / "weights").write_bytes(b"late")
    with pytest.raises(
        BundleError, match=r"keeps weights in \['weights'\], which decodekit.json does not list"
    ):
        open_bundle(folder)
    write_manifest(folder, FIELDS)
    assert "weights" in open_bundle(folder).manifest["files"]


def test_a_chat_template_may_stand_in_a_configuration(folder):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    write_manifest(folder, FIELDS | {"chat_template": "tokenizer_config.json"})
    assert open_bundle(folder).chat_template == "{{ messages }}"


def test_the_room_for_an_answer_is_what_the_window_leaves(folder):
    bundle = open_bundle(folder)
    assert bundle.room(30, None) == 2
    assert bundle.room(30, 1) == 1
    with pytest.raises(
        ContextError, match="prompt of 30 tokens and max_new_tokens 3 .* at most 2 new tokens fit"
    ):
        bundle.room(30, 3)
    for prompt in (32, 33, 1000):
        with pytest.raises(ContextError, match="shorten the prompt"):
            bundle.room(prompt, None)
