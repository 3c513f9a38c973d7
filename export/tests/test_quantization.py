"""Weights in a few bits: what is rounded, that nothing more is lost, and what is said of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit.bundle_check import check_bundle
from decodekit_export.bundle import export_bundle
from decodekit_export.cache import cache_shape
from decodekit_export.errors import ExportError, ParityError
from decodekit_export.graph import InPlaceGraph
from decodekit_export.grid import Grid
from decodekit_export.quantization import Quantization
from decodekit_export.to_onnx import to_onnx

GRIDS = [Grid(bits, block) for bits in (4, 8) for block in (16, 32)]
ASYMMETRIC = [Grid(bits, block, symmetric=False) for bits in (4, 8) for block in (16, 32)]


def by_hand(row, bits, block):
    """One row rounded, in plain Python."""
    most, rounded = 2 ** (bits - 1), []
    for start in range(0, len(row), block):
        part = [float(w) for w in row[start : start + block]]
        scale = float(np.float32(max(part, key=abs) / -most))
        for w in part:
            q = (
                0
                if scale == 0
                else min(max(int(np.rint(np.float32(w) / np.float32(scale))), -most), most - 1)
            )
            rounded.append(np.float32(q * scale))
    return np.asarray(rounded, np.float32)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("width", [16, 96, 100])
def test_a_row_is_rounded_block_by_block(grid, width):
    weights = np.random.default_rng(0).standard_normal((5, width)).astype(np.float32)
    weights[1] = 0
    rounded = grid.rounded(weights)
    for row, found in zip(weights, rounded, strict=True):
        assert found == pytest.approx(by_hand(row, grid.bits, grid.block), abs=0)
    steps = np.abs(weights).max() / 2 ** (grid.bits - 1)
    assert np.abs(rounded - weights).max() <= steps  # the end that has one number fewer


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(GRIDS + ASYMMETRIC), st.floats(1e-30, 1e30))
def test_rounding_twice_changes_nothing(seed, grid, size):
    weights = (np.random.default_rng(seed).standard_normal((3, 64)) * size).astype(np.float32)
    once = grid.rounded(weights)
    assert np.array_equal(grid.rounded(once), once)
    assert grid.encode(once) is not None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(ASYMMETRIC), st.floats(-3, 3))
def test_an_asymmetric_block_reaches_from_its_smallest_number_to_its_largest(seed, grid, middle):
    weights = np.random.default_rng(seed).normal(middle, 1, (3, 100)).astype(np.float32)
    weights[0] = 0
    rounded = grid.rounded(weights)
    filled = np.pad(weights, [(0, 0), (0, -100 % grid.block)]).reshape(3, -1, grid.block)
    step = (np.maximum(filled.max(-1), 0) - np.minimum(filled.min(-1), 0)) / (2**grid.bits - 1)
    off = np.abs(np.pad(rounded - weights, [(0, 0), (0, -100 % grid.block)])).reshape(filled.shape).max(-1)
    assert (off <= step * 1.01).all()  # half a step, and half a step more at an end for the zero point
    assert np.array_equal(grid.rounded(rounded), rounded)
    assert np.array_equal(rounded[0], weights[0])


def test_zero_points_are_packed_like_codes():
    weights = np.concatenate([np.arange(16), np.arange(16) - 15, np.zeros(16)]).astype(np.float32)[None]
    codes, scales, zeros = Grid(4, 16, symmetric=False).encode(weights)
    assert scales.tolist() == [[1.0, 1.0, 0.0]]
    assert zeros.tolist() == [[0 | 15 << 4, 0]]
    assert codes[0, :2].tolist() == [[2 * i | (2 * i + 1) << 4 for i in range(8)]] * 2


def test_codes_are_read_lower_half_first():
    weights = np.zeros((1, 16), np.float32)
    weights[0, :3] = [-8.0, 7.0, 1.0]
    codes, scales = Grid(4, 16).encode(weights)
    assert scales.tolist() == [[1.0]]
    assert codes[0, 0, :3].tolist() == [0 | 15 << 4, 9 | 8 << 4, 8 | 8 << 4]


def test_what_lies_off_the_grid_is_not_stored():
    assert Grid(4, 16).encode(np.random.default_rng(0).standard_normal((2, 16)).astype(np.float32)) is None


@pytest.fixture(scope="module")
def exported(tmp_path_factory, checkpoint):
    made = {}

    def export(dtype, architecture="Qwen2", **options):
        key = (dtype, architecture, *options.items())
        if key not in made:
            quantization = Quantization(dtype, **options) if dtype else None
            place = tmp_path_factory.mktemp("bundles") / "bundle"
            made[key] = export_bundle(
                checkpoint(architecture), place, quantization=quantization, prompts=8, allow_no_eos=True
            )
        return made[key]

    return export


def operators(bundle):
    return Counter(node.op_type for node in onnx.load(bundle.path / "model.onnx").graph.node)


@pytest.mark.parametrize("architecture", ["Qwen2", "GPT2", "Gemma2"])
@pytest.mark.parametrize("dtype", ["int4", "int8"])
def test_a_rounded_bundle_is_exactly_the_rounded_model(exported, architecture, dtype):
    bundle = exported(dtype, architecture)
    parity, quality = bundle.manifest["parity"], bundle.manifest["quality"]
    assert parity["passed"] and max(parity["logits"].values()) < 5e-4
    assert bundle.manifest["storage"] == dtype
    assert bundle.manifest["quantization"] == {
        "dtype": dtype,
        "block": 32,
        "symmetric": True,
        "keep": [],
    }
    assert quality["tokens"] > 1000 and quality["text"] == "sample"
    assert operators(bundle)["MatMul"] == 0
    assert operators(bundle)["GatherBlockQuantized"] == 1


@pytest.mark.parametrize("architecture", ["Qwen2", "Llama"])
def test_an_asymmetric_bundle_is_exactly_its_rounded_model_too(exported, architecture):
    bundle = exported("int4", architecture, symmetric=False)
    weights = onnx.load(bundle.graph).graph.initializer
    assert max(bundle.manifest["parity"]["logits"].values()) < 5e-4
    assert bundle.manifest["quantization"]["symmetric"] is False
    assert sum(w.name.endswith(".zeros") for w in weights) == sum(w.name.endswith(".codes") for w in weights)
    assert (
        bundle.manifest["quality"]["divergence"]
        < exported("int4", architecture).manifest["quality"]["divergence"]
    )


def test_eight_bits_say_what_the_model_says_more_often_than_four(exported):
    four, eight = (exported(dtype).manifest["quality"] for dtype in ("int4", "int8"))
    assert eight["divergence"] < four["divergence"] / 10
    assert eight["agreement"] > four["agreement"]
    assert eight["perplexity"]["float32"] == four["perplexity"]["float32"]


def test_fewer_bits_make_a_smaller_bundle(exported):
    sizes = [(exported(dtype).path / "model.onnx").stat().st_size for dtype in ("int4", "int8", None)]
    assert sizes == sorted(sizes) and sizes[2] - sizes[0] > 80_000


def test_a_tied_embedding_is_stored_once(exported):
    weights = onnx.load(exported("int4").path / "model.onnx").graph.initializer
    assert sum(weight.name.endswith("lm_head.weight.codes") for weight in weights) == 1
    assert not any(list(weight.dims) == [300, 32] for weight in weights)


def test_products_are_of_whole_numbers_in_the_end(exported):
    nodes = onnx.load(exported("int4").path / "model.onnx").graph.node
    levels = {
        a.i for n in nodes if n.op_type == "MatMulNBits" for a in n.attribute if a.name == "accuracy_level"
    }
    assert levels == {4}


def test_named_modules_stay_as_they_are(exported):
    bundle = exported("int4", architecture="Llama", keep=("lm_head", "*.down_proj"))
    assert operators(bundle)["MatMul"] == 1 + 2
    assert bundle.manifest["quantization"]["keep"] == ["lm_head", "*.down_proj"]


def test_the_canary_of_a_rounded_bundle_has_room_for_what_other_kernels_round(exported):
    bundle = exported("int4")
    assert check_bundle(bundle.path).passed
    assert bundle.manifest["canary"]["bar"] > bundle.manifest["parity"]["bars"]["logits"]


def test_a_rounded_bundle_decodes(exported):
    with decodekit.load(exported("int8").path) as decoder:
        alone = decoder.generate([5, 6, 7], max_new_tokens=12, ignore_eos=True)
        streamed = decoder.stream([5, 6, 7], max_new_tokens=12, ignore_eos=True).complete()
    assert len(alone.tokens) == 12
    assert [t.id for t in alone.tokens] == [t.id for t in streamed.tokens]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int3"}, "quantize must be one of int4, int8, got 'int3'"),
        ({"dtype": "int4", "block": 33}, r"block must be one of \(16, 32, 64, 128, 256\), got 33"),
    ],
)
def test_what_no_grid_has_is_refused(options, message):
    with pytest.raises(ExportError, match=message):
        Quantization(**options)


def test_a_pattern_that_names_nothing_is_refused(checkpoint, tmp_path):
    with pytest.raises(ExportError, match=r"keep: no weight is called 'head'; there are .*lm_head"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", quantization=Quantization("int4", keep=("head",)))
    assert not (tmp_path / "b").exists()


def test_rows_that_are_no_whole_blocks_name_a_block_that_fits(checkpoint, tmp_path):
    with pytest.raises(
        ExportError, match=r"rows of 32 numbers are no whole blocks of 64; pass --block 32 or --keep"
    ):
        export_bundle(checkpoint("Llama"), tmp_path / "b", quantization=Quantization("int4", block=64))


def test_compact_and_rounded_exclude_each_other(checkpoint, tmp_path):
    with pytest.raises(ExportError, match="--compact and --quantize exclude each other"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", compact=True, quantization=Quantization("int4"))


def test_a_text_of_ones_own_is_read(checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("One page of my own. " * 30)
    bundle = export_bundle(
        checkpoint("Llama"),
        tmp_path / "b",
        quantization=Quantization("int8"),
        text=tmp_path / "mine.txt",
        prompts=1,
    )
    assert bundle.manifest["quality"]["text"].startswith("mine.txt, sha256 ")


def test_a_text_that_is_too_short_or_missing_is_refused(checkpoint, tmp_path):
    (tmp_path / "short.txt").write_text("")
    for name, message in (("short.txt", "fewer than two tokens"), ("none.txt", "none.txt: cannot be read")):
        with pytest.raises(ExportError, match=message):
            export_bundle(
                checkpoint("Llama"), tmp_path / "b", quantization=Quantization("int4"), text=tmp_path / name
            )


def faulty(fault):
    """`store`, with one weight of the first product changed afterwards."""
    honest = Quantization.store

    def store(self, model, rounded):
        storage = honest(self, model, rounded)
        node = next(node for node in model.graph if node.op_type == "MatMulNBits")
        value = node.inputs[1 if fault != "scale" else 2]
        array = value.const_value.numpy().copy()
        if fault == "scale":
            array[0, 0] *= 1.5
        elif fault == "halves":
            array[:] = array >> 4 | array << 4
        else:
            array[:, 0] = np.roll(array[:, 0], 1, axis=0)
        value.const_value = type(value.const_value)(array, name=value.name)
        return storage

    return store


@pytest.mark.parametrize("fault", ["scale", "halves", "rows"])
def test_a_weight_that_was_stored_wrongly_is_found(checkpoint, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(Quantization, "store", faulty(fault))
    with pytest.raises(ParityError, match="the graph differs from the model"):
        export_bundle(checkpoint("Llama"), tmp_path / "b", quantization=Quantization("int4"), prompts=2)
    assert not (tmp_path / "b").exists()


def test_numbers_that_were_rounded_but_not_stored_are_an_error(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(Grid, "encode", lambda self, weights: None)
    with pytest.raises(
        ExportError, match=r"weights were rounded, and 0 are in the graph where they can be int4"
    ):
        export_bundle(checkpoint("Llama"), tmp_path / "b", quantization=Quantization("int4"))


def test_the_graph_holds_the_rounded_numbers(checkpoint):
    from decodekit_export.checkpoint import open_checkpoint

    model = open_checkpoint(checkpoint("Llama")).load_model()
    quantization = Quantization("int4")
    rounded = quantization.round(model)
    graph = to_onnx(InPlaceGraph(model, cache_shape(model)))
    quantization.store(graph, rounded)
    node = next(n for n in graph.graph if n.op_type == "MatMulNBits" and "down_proj" in str(n.inputs[1].name))
    codes, scales = (value.const_value.numpy() for value in node.inputs[1:3])
    numbers = np.stack([codes & 15, codes >> 4], -1).reshape(*scales.shape, 32).astype(int) - 8
    stored = (numbers * scales[..., None]).astype(np.float32).reshape(len(codes), -1)[:, :48]
    assert np.array_equal(stored, model.model.layers[0].mlp.down_proj.weight.detach().numpy())
