"""`decodekit inspect`: one shape of data for every bundle, and what decoding takes, counted by hand."""

import json
import shutil
from pathlib import Path

import pytest
from test_canary import seal

from decodekit.bundle import EMBEDDED, check_graph, open_bundle
from decodekit.footprint import footprint
from decodekit.inspection import describe, examine
from decodekit.onnx_file import Graph, Node, OnnxFile, Tensor

FIXTURES = Path(__file__).parent / "fixtures"
PLACES = [EMBEDDED / "tagline", *(FIXTURES / name for name in ("genai", "optimum", "in_place"))]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_every_folder_is_described_by_the_same_keys(place):
    known = examine(open_bundle(place))
    assert known.keys() == examine(open_bundle("tagline")).keys()
    assert json.loads(json.dumps(known)) == known
    assert describe(known)["architecture"]


def test_bytes_are_those_of_weights_cache_and_logits():
    bundle = open_bundle("tagline")
    size = footprint(bundle, check_graph(bundle))
    assert size.cache == 2 * 3 * 2 * 48 * 4
    assert size.logits == 4 * 1536
    assert 2 * 1_512_768 < size.stored < bundle.manifest["files"]["model.onnx"]["size"]
    assert 4 * 1_512_768 < size.loaded < 2.02 * size.stored  # halves in the file, float32 in memory
    known = examine(bundle, batch=3, length=50)
    assert known["memory"] == {
        **{"batch": 3, "length": 50, "weights": size.loaded},
        **{"cache": 3 * 50 * 2304, "logits": 3 * 4 * 1536},
        "total": size.loaded + 3 * 50 * 2304 + 3 * 4 * 1536,
    }


def test_a_table_of_which_rows_are_looked_up_is_not_read_by_a_step():
    untied, tied = (open_bundle(FIXTURES / name) for name in ("in_place", "genai"))
    size = footprint(untied, check_graph(untied))
    assert size.loaded - size.read == 257 * 32 * 4
    size = footprint(tied, check_graph(tied))
    assert size.loaded == size.read


def test_two_names_of_one_place_are_counted_once(tmp_path):
    path, place = tmp_path / "model.onnx", (("location", "model.onnx.data"), ("offset", "0"))
    tensors = [Tensor(name, "float32", (257, 32), 0, 0, place) for name in ("table", "table.rows")]
    nodes = [
        Node("Gather", "", "", "", ("table.rows", "ids"), ("x",), {}, (), ()),
        Node("MatMul", "", "", "", ("x", "table"), ("logits",), {}, (), ()),
    ]
    graph = OnnxFile(path, {}, {"": 21}, Graph((), (), tuple(tensors), tuple(nodes)), ())
    size = footprint(open_bundle("tagline"), graph)
    assert size.stored == size.loaded == size.read == 257 * 32 * 4


def test_speed_is_bandwidth_over_bytes():
    bundle = open_bundle("tagline")
    read = footprint(bundle, check_graph(bundle)).read
    speed = examine(bundle, batch=2, length=100, bandwidth=10.0)["speed"]
    assert speed["bytes_per_step"] == read + 2 * 100 * 2304
    assert speed["tokens_per_second"] == pytest.approx(2 * 10e9 / speed["bytes_per_step"], abs=0.1)


def test_operators_are_counted():
    operators = examine(open_bundle("tagline"))["operators"]
    assert operators["GroupQueryAttention"] == 3
    assert list(operators.values()) == sorted(operators.values(), reverse=True)


def test_adapters_of_a_manifest_are_shown(tmp_path, run):
    folder = shutil.copytree(EMBEDDED / "tagline", tmp_path / "tagline")
    entry = {"file": "model.onnx", "rank": 8, "parameters": 12345}
    seal(folder, adapters={"polite": entry})
    assert json.loads(run("inspect", str(folder), "--json")[1])["adapters"] == {"polite": entry}
    assert "polite (rank 8, parameters 12,345)" in run("inspect", str(folder))[1]


def test_the_command_takes_batch_length_and_bandwidth(run):
    status, out, _ = run(
        "inspect", "tagline", "--batch", "8", "--length", "100", "--bandwidth", "50", "--json"
    )
    known = json.loads(out)
    assert status == 0
    assert (known["memory"]["batch"], known["memory"]["length"], known["speed"]["bandwidth"]) == (8, 100, 50)
    assert known["stop_tokens"] == [{"id": 0, "token": "<|end|>"}]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--batch", "0"), "batch must be in [1, inf)"),
        (("--length", "257"), "length must be in [1, 256], got 257; the model's context ends there"),
        (("--bandwidth", "0"), "bandwidth must be in (0, inf), got 0.0; it is in GB/s"),
    ],
)
def test_what_no_decoding_has_is_refused(run, option, message):
    status, _, err = run("inspect", "tagline", *option)
    assert status == 2 and message in " ".join(err.split())
