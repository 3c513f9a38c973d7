"""Bundles in float16: what is in them, what stays in float32, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

import decodekit
from decodekit.bundle_check import check_bundle
from decodekit.errors import DeviceError
from decodekit_export.bundle import export_bundle
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.errors import ExportError
from decodekit_export.precision import Precision
from decodekit_export.quantization import Quantization
from decodekit_export.rows import open_session, widened

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
        ({"dtype": "float64"}, "dtype must be one of float32, float16, bfloat16, got 'float64'"),
        (
            {"dtype": "bfloat16"},
            "only CUDA computes in it, and .* would go unchecked; .* --dtype float16",
        ),
        ({"keep": ["lm_head"]}, "keep names what stays in float32, and all does"),
    ],
)
def test_what_cannot_be_checked_or_meant_is_refused(options, message):
    with pytest.raises(ExportError, match=message):
        Precision(**options)


@pytest.fixture
def with_cuda(monkeypatch):
    """An onnxruntime that says it has CUDA, which is enough for what comes before a graph is run."""
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)


def test_where_cuda_is_bfloat16_goes_to_the_gate(with_cuda, checkpoint, tmp_path, monkeypatch):
    seen = {}

    def gate(path, model, kind, shape, **options):
        graph = onnx.load(path).graph
        seen.update({v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)})
        seen["operators"] = {node.op_type for node in graph.node}
        seen["cache"], seen["twin"] = shape.dtype, options["twin"].dtype
        raise ExportError("as far as a machine without CUDA goes")

    monkeypatch.setattr("decodekit_export.bundle.check_parity", gate)
    with pytest.raises(ExportError, match="as far as"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", precision=Precision("bfloat16"), prompts=2)
    assert seen["past_key_values.0.key"] == seen["present.1.value"] == onnx.TensorProto.BFLOAT16
    assert seen["logits"] == onnx.TensorProto.FLOAT and "GroupQueryAttention" in seen["operators"]
    assert (seen["cache"], seen["twin"]) == ("bfloat16", torch.bfloat16)
    assert not (tmp_path / "b").exists()


@pytest.mark.filterwarnings("ignore:Specified provider")  # what onnxruntime says instead of failing
def test_bfloat16_is_not_run_on_the_cpu_instead():
    graph = Path(decodekit.__file__).parent / "models" / "tagline" / "model.onnx"
    with pytest.raises((ExportError, DeviceError), match="asked for CUDAExecutionProvider, got CPU"):
        open_session(graph, "bfloat16")


def test_bfloat16_needs_a_cache_in_place(with_cuda, checkpoint, tmp_path):
    with pytest.raises(ExportError, match="--cache in_place alone"):
        export_bundle(
            checkpoint("Llama"), tmp_path / "b", precision=Precision("bfloat16"), cache="concatenating"
        )


def test_the_bits_of_bfloat16_are_numbers():
    numbers = torch.randn(50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    bits = numbers.view(torch.int16).numpy().view(np.uint16)
    assert widened(bits).tolist() == numbers.float().tolist()


def test_a_pattern_that_names_nothing_is_refused(checkpoint, tmp_path):
    with pytest.raises(ExportError, match=r"keep: no weight is called 'head'; there are .*lm_head"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", precision=Precision("float16", ["head"]))
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("other", [{"compact": True}, {"quantization": Quantization("int4")}])
def test_one_way_to_be_smaller_at_a_time(checkpoint, tmp_path, other):
    with pytest.raises(ExportError, match=r"--dtype float16 and --\w+ exclude each other; choose one"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", precision=Precision("float16"), **other)
