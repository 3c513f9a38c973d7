"""The whole way: a checkpoint in, a bundle out that the runtime decodes as PyTorch does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

import decodekit
import decodekit_export.bundle
import decodekit_export.description
from decodekit.bundle import Bundle, open_bundle
from decodekit_export.bundle import export_bundle
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.errors import CheckpointError, ExportError, ParityError


@pytest.fixture(scope="module")
def source(checkpoint, tmp_path_factory) -> Path:
    """The Llama checkpoint as one trained in bfloat16, with a licence."""
    folder = Path(shutil.copytree(checkpoint("Llama"), tmp_path_factory.mktemp("source") / "tiny-llama"))
    weights = {n: w.bfloat16().float() for n, w in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "LICENSE").write_text("Do as you like.")
    return folder


@pytest.fixture(scope="module")
def bundle(source, tmp_path_factory) -> Bundle:
    place = tmp_path_factory.mktemp("bundles") / "deep" / "tiny"
    return export_bundle(source, place, compact=True, prompts=8, texts=["Tiny random models"])


def greedy(model, ids: list[int], count: int, stops: frozenset[int]) -> list[int]:
    """PyTorch, from the start at every step, until a stop token."""
    new: list[int] = []
    with torch.no_grad():
        while len(new) < count and not (new and new[-1] in stops):
            new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
    return new


@pytest.mark.parametrize("lost", [lambda ids: ids[1:], lambda ids: [*ids, 5]], ids=["dropped", "made up"])
def test_a_stop_token_that_is_not_the_checkpoints_is_refused(lost, source, tmp_path, monkeypatch):
    found = decodekit_export.bundle.stop_ids
    monkeypatch.setattr(decodekit_export.bundle, "stop_ids", lambda *a, **k: lost(found(*a, **k)))
    with pytest.raises(ExportError, match=r"names stop ids \[.*\], the manifest \[.*\]; nothing written"):
        export_bundle(source, tmp_path / "out", prompts=1)
    assert not (tmp_path / "out").exists()


def test_the_manifest_says_what_the_bundle_is(bundle, source):
    manifest = open_bundle(bundle.path).manifest
    assert manifest["name"] == "tiny-llama"
    assert manifest["architecture"] == "LlamaForCausalLM"
    assert manifest["graph"]["inputs"][:3] == ["input_ids", "position_ids", "lengths"]
    assert manifest["graph"]["outputs"][0] == "logits"
    assert manifest["graph"]["cache"] == {
        "kind": "in_place",
        "layers": 2,
        "kv_heads": 2,
        "head_dim": 8,
        "dtype": "float32",
    }
    assert (manifest["dtype"], manifest["quantization"]) == ("float32", None)
    assert manifest["storage"] in ("float16", "bfloat16")
    assert manifest["parameters"] == sum(w.numel() for w in load_file(source / "model.safetensors").values())
    assert (manifest["vocabulary"], manifest["context_length"]) == (300, 96)
    assert manifest["stop_ids"] == [2, 4]  # </s> and, from the template, <|im_end|>
    assert manifest["license"] == "Do as you like."
    assert set(manifest["source"]) == {"config.json", "model.safetensors"}
    assert manifest["made_by"]["torch"] == torch.__version__
    assert manifest["parity"]["passed"] and manifest["parity"]["prompts"] == 9
    assert set(manifest["files"]) == {"model.onnx", "tokenizer.json", "chat_template.jinja"}


def test_the_runtime_decodes_as_pytorch_does(bundle, source):
    model = open_checkpoint(source).load_model()
    decoder = decodekit.load(bundle.path)
    for text in ("Tiny", "random models of several", "def"):
        ids = open_checkpoint(source).tokenizer.encode(text)
        completion = decoder.generate(ids, max_new_tokens=24)
        assert list(completion.ids) == greedy(model, ids, 24, bundle.stop_ids)


def test_nothing_is_left_beside_the_bundle(bundle):
    assert [path.name for path in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_a_graph_that_differs_leaves_no_bundle(source, tmp_path, monkeypatch):
    sound = decodekit_export.bundle.write

    def write_with_a_fault(model, folder):
        sound(model, folder)
        broken = onnx.load(folder / "model.onnx")
        weight = next(i for i in broken.graph.initializer if "down_proj" in i.name)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.05, weight.name))
        onnx.save(broken, folder / "model.onnx")

    monkeypatch.setattr(decodekit_export.bundle, "write", write_with_a_fault)
    with pytest.raises(
        ParityError, match=r"nothing written: logits, prefill: differs from PyTorch by"
    ) as error:
        export_bundle(source, tmp_path / "out", prompts=2)
    assert (error.value.code, error.value.exit_code) == ("E_PARITY", 2)
    assert not error.value.parity.passed
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(ExportError, match=r"taken: already exists and is not an empty folder"):
        export_bundle(tmp_path / "nonesuch", tmp_path / "taken")
    assert (tmp_path / "taken" / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "a b", "../up", "x" * 129, "-x"])
def test_a_name_is_a_plain_word(source, tmp_path, name):
    with pytest.raises(ExportError, match=r"name must be 1 to 128 letters"):
        export_bundle(source, tmp_path / "out", name=name)


def test_an_unknown_cache_kind_is_refused(source, tmp_path):
    with pytest.raises(ExportError, match=r"cache must be one of 'in_place', 'concatenating', got 'paged'"):
        export_bundle(source, tmp_path / "out", cache="paged")


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(new_checkpoint, tmp_path):
    folder = new_checkpoint(tmp_path / "small", vocab_size=200)
    with pytest.raises(ExportError, match=r"the tokenizer has 300 ids, the model only 200"):
        export_bundle(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_stop_token_is_refused(source, tmp_path):
    folder = Path(shutil.copytree(source, tmp_path / "endless"))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "generation_config.json").write_text("{}")
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | {"eos_token_id": None})
    )
    with pytest.raises(CheckpointError, match=r"--allow-no-eos"):
        export_bundle(folder, tmp_path / "out")


def test_truncation_and_padding_of_the_tokenizer_are_switched_off(source, tmp_path):
    folder = Path(shutil.copytree(source, tmp_path / "padded"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    out = tmp_path / "written"
    out.mkdir()
    with pytest.warns(UserWarning, match=r"tokenizer.json has truncation switched on; the bundle's has not"):
        decodekit_export.description.write_tokenizer(open_checkpoint(folder), out, 300)
    assert json.loads((out / "tokenizer.json").read_text())["truncation"] is None


def test_frequencies_that_change_with_length_limit_the_context(new_checkpoint, tmp_path):
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 64,
    }
    model = open_checkpoint(new_checkpoint(tmp_path / "long", rope_parameters=rope)).load_model()
    with pytest.warns(UserWarning, match=r"beyond 64 tokens, .* context_length is 64 instead of 96"):
        assert decodekit_export.description.told_context_length(model) == 64
