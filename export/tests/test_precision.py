"""Bundles in float16: what is in them, what stays in float32, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import decodekit
from decodekit.bundle_check import check_bundle
from decodekit_export.bundle import export_bundle
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.errors import ExportError
from decodekit_export.precision import Precision
from decodekit_export.quantization import Quantization

HALF = onnx.TensorProto.FLOAT16


@pytest.fixture(scope="module")
def halves(checkpoint, tmp_path_factory):
    place = tmp_path_factory.mktemp("halves") / "bundle"
    return export_bundle(checkpoint("Llama"), place, precision=Precision("float16"), prompts=4)


@pytest.fixture(scope="module")
def kept(checkpoint, tmp_path_factory):
    place = tmp_path_factory.mktemp("kept") / "bundle"
    precision = Precision("float16", keep=("lm_head", "*.down_proj"))
    return export_bundle(checkpoint("Qwen2"), place, precision=precision, prompts=2, allow_no_eos=True)


def types(bundle):
    """Of the weights, by name, large ones only."""
    weights = onnx.load(bundle.graph).graph.initializer
    return {w.name: w.data_type for w in weights if np.prod(w.dims) > 500}


def test_weights_and_cache_are_halves_and_logits_are_not(halves):
    graph = onnx.load(halves.graph).graph
    assert set(types(halves).values()) == {HALF}
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert kinds["past_key_values.0.key"] == kinds["present.1.value"] == HALF
    assert kinds["logits"] == onnx.TensorProto.FLOAT


def test_the_manifest_says_so(halves):
    manifest = halves.manifest
    assert (manifest["dtype"], manifest["storage"], halves.cache.dtype) == ("float16",) * 3
    assert manifest["parity"]["passed"] and 0 < manifest["parity"]["rounding"]["logits"] < 0.5
    assert manifest["quality"]["agreement"] > 0.99


def test_its_canary_agrees_within_the_bar_of_its_type(halves):
    check = check_bundle(halves.path)
    assert check.passed and [f.state for f in check.findings] == ["ok"] * 6
    assert halves.manifest["canary"]["bar"] == halves.manifest["parity"]["bars"]["logits"]


def test_norms_compute_in_float32(halves):
    """As transformers has it: the square is taken after a cast."""
    graph = onnx.load(halves.graph).graph
    made = {name: node for node in graph.node for name in node.output}
    squares = [node for node in graph.node if node.op_type == "Pow"]
    assert len(squares) == 5
    assert all(made[node.input[0]].op_type == "Cast" for node in squares)


def test_the_slab_is_of_halves_and_rows_of_any_length_decode(halves, checkpoint):
    prompts = [[5, 6, 7], [9], [4] * 20, [8, 3]]
    model = open_checkpoint(checkpoint("Llama")).load_model()
    with decodekit.load(halves.path) as decoder:
        together = decoder.generate(prompts, max_new_tokens=16, ignore_eos=True)
        cache = decoder.model.new_cache()
        assert cache.slab.arrays[0].dtype == np.float16
        assert decoder.model.bytes_per_token == 2 * 2 * 2 * 8 * 2
    for prompt, answer in zip(prompts, together, strict=True):
        assert agrees(model, prompt, list(answer.ids), 2 * halves.manifest["parity"]["bars"]["logits"])


def agrees(model, prompt, ids, margin):
    """Every token is the float32 model's best one after those before, or as good but for `margin`."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + ids[:-1]])).logits[0, len(prompt) - 1 :]
    return all(float(row.max() - row[id]) <= margin for row, id in zip(logits, ids, strict=True))


def test_named_modules_stay_in_float32(kept):
    kinds = Counter(types(kept).values())
    assert kinds == {onnx.TensorProto.FLOAT: 3, HALF: 2 * 6}  # the tied head, two down_proj
    assert kept.manifest["kept_in_float32"] == ["lm_head", "*.down_proj"]
    assert kept.cache.dtype == "float16"


def test_what_is_kept_keeps_every_bit(kept, checkpoint):
    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load(kept.graph).graph.initializer}
    model = open_checkpoint(checkpoint("Qwen2")).load_model()
    head = next(weight for name, weight in weights.items() if name.endswith("lm_head.weight"))
    assert np.array_equal(head, model.get_output_embeddings().weight.numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float64"}, "dtype must be one of float32, float16, got 'float64'"),
        ({"dtype": "bfloat16"}, "only a CUDA device computes in it, .* would go unchecked; pass --dtype fl"),
        ({"keep": ["lm_head"]}, "keep names what stays in float32, and all does"),
    ],
)
def test_what_cannot_be_checked_or_meant_is_refused(options, message):
    with pytest.raises(ExportError, match=message):
        Precision(**options)


def test_a_pattern_that_names_nothing_is_refused(checkpoint, tmp_path):
    with pytest.raises(ExportError, match=r"keep: no weight is called 'head'; there are .*lm_head"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", precision=Precision("float16", ["head"]))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("other", [{"compact": True}, {"quantization": Quantization("int4")}])
def test_one_way_to_be_smaller_at_a_time(checkpoint, tmp_path, other):
    with pytest.raises(ExportError, match=r"--dtype float16 and --\w+ exclude each other; choose one"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", precision=Precision("float16"), **other)
