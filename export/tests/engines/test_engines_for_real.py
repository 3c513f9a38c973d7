"""Other exporters in their own environments. `make test-engines` makes these and runs this."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import decodekit
from decodekit_export.bundle import export_bundle
from decodekit_export.engine_bundle import export_with_engine
from decodekit_export.engines import ENGINES
from decodekit_export.errors import EngineError

ROTARY = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}  # not what anybody assumes
SCALED = {
    "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 700.0},
}
CASES = [
    ("optimum", "Llama", ROTARY, "concatenating"),
    ("optimum", "Llama", SCALED, "concatenating"),
    ("optimum", "GPT2", {}, "concatenating"),
    ("optimum", "Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "concatenating"),
    ("genai", "Llama", {"hidden_size": 64, **ROTARY}, "in_place"),
    ("genai", "Qwen2", {"hidden_size": 64}, "in_place"),
]


@pytest.fixture(autouse=True)
def installed() -> None:
    for engine in ENGINES.values():
        if engine.variable not in os.environ:
            pytest.skip(f"{engine.variable} names no Python; run make test-engines")


@pytest.mark.parametrize(("engine", "architecture", "changes", "kind"), CASES)
def test_the_graph_of_another_exporter_passes_the_same_gate(
    engine, architecture, changes, kind, new_checkpoint, tmp_path: Path
):
    folder = new_checkpoint(tmp_path / "tiny", architecture, **changes)
    bundle = export_with_engine(engine, folder, tmp_path / "theirs", prompts=16)
    parity, provenance = bundle.manifest["parity"], bundle.manifest["provenance"]
    assert parity["passed"] and not parity["near_ties"]
    assert bundle.cache.kind == kind
    assert provenance["engine"] == engine and {"transformers", "torch"} < provenance["engine_packages"].keys()
    assert {"tokenizer.json", "chat_template.jinja", "model.onnx"} <= {p.name for p in bundle.path.iterdir()}
    assert not list(tmp_path.glob(".engine-*")) and not list(tmp_path.glob(".theirs*"))

    ours = export_bundle(folder, tmp_path / "ours", prompts=1)
    assert (ours.stop_ids, ours.context_length) == (bundle.stop_ids, bundle.context_length)
    plugins = decodekit.load_plugins(only=())
    answers = [
        decodekit.load(one.path, plugins=plugins).generate(
            "Once upon a time", "temperature=0", max_new_tokens=24
        )
        for one in (bundle, ours)
    ]
    assert answers[0].ids == answers[1].ids


SEED_OSS = {  # weights of a Llama without biases are also those of a Seed-OSS
    **{"model_type": "seed_oss", "architectures": ["SeedOssForCausalLM"]},
    **{"attention_bias": False, "attention_out_bias": False},
}
UNKNOWN = [
    ("optimum", "Llama", SEED_OSS, "seed_oss"),
    ("genai", "GPT2", {}, "GPT2LMHeadModel|not currently supported"),
]


@pytest.mark.parametrize(("engine", "architecture", "changes", "words"), UNKNOWN)
def test_an_architecture_that_an_engine_does_not_know_is_its_own_words_in_one_line(
    engine, architecture, changes, words, new_checkpoint, change, tmp_path: Path
):
    folder = new_checkpoint(tmp_path / "tiny", architecture)
    change(folder / "config.json", **changes)
    with pytest.raises(EngineError, match=f"^--engine {engine}: failed with status 1: .*({words})") as error:
        export_with_engine(engine, folder, tmp_path / "theirs", prompts=2)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
