"""A handful of the hardest architectures become bundles; `make architectures` tries all of them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

import pytest

from decodekit_export.architectures_command import Architectures
from decodekit_export.architectures_page import page
from decodekit_export.errors import ExportError
from decodekit_export.tiny import causal_language_models, tiny_model
from decodekit_export.trial import Trial, run_trial

HARDEST = [
    ("GptOssForCausalLM", "in_place", {"sinks", "experts 2 of 6", "window 8"}),
    ("DeepseekV3ForCausalLM", "concatenating", {"experts 2 of 6"}),  # latent keys, groups of experts
    ("Llama4ForCausalLM", "concatenating", set()),  # chunks, layers without rotary, complex numbers
    ("OPTForCausalLM", "in_place", set()),  # learnt positions
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of transformers, about odd sizes
@pytest.mark.parametrize(("name", "cache", "mechanisms"), HARDEST, ids=[name for name, *_ in HARDEST])
def test_a_bundle_is_the_model_through_the_engine_too(name, cache, mechanisms):
    trial = run_trial(name, cache, prompts=2)
    assert trial.passed, trial
    assert (trial.agreed, trial.right) == (2 * 32, 4)
    assert mechanisms <= set(trial.mechanisms)


def test_one_layer_of_each_kind_is_there():
    assert tiny_model("Gemma3ForCausalLM").config.layer_types == ["sliding_attention", "full_attention"]


def test_what_is_more_than_a_text_decoder_is_refused():
    with pytest.raises(
        ExportError, match=r"Gemma3ForConditionalGeneration: stays at .* more than a text decoder"
    ):
        tiny_model("Gemma3ForConditionalGeneration")


def test_every_class_serves_a_type():
    types = causal_language_models()
    assert "llama" in types["LlamaForCausalLM"] and len(types) > 100


GREEN = Trial("A", "in_place", 1e-5, 3.0, 64, 64, 4, 4, ("window 8",))
RED = Trial("B", "in_place", error="B: keeps | no cache")


def test_the_page_lists_both():
    text = page([GREEN, RED], {"A": ["a", "aa"]}, {"transformers": "5", "onnxruntime": "1", "torch": "2"})
    assert "**1 classes pass**,\nof 2 that were tried and 1 that there are." in text
    assert "| `A` | a, aa | in_place | 1.0e-05 | 3 | 64 of 64 | 4 of 4 | window 8 |" in text
    assert "| `B` |  | in_place | keeps \\| no cache |" in text


@pytest.mark.parametrize(
    "figures", [{"agreed": 63}, {"right": 3}, {"tokens": 0, "agreed": 0}, {"error": "no"}]
)
def test_one_other_token_is_enough_to_fail(figures):
    assert GREEN.passed
    assert not Trial(**{**asdict(GREEN), **figures}).passed


def run(*words):
    parser = argparse.ArgumentParser()
    command = Architectures(None)
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_what_was_tried_is_not_tried_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("decodekit_export.architectures_command._quiet", lambda: None)
    kept = {**asdict(GREEN), "name": "LlamaForCausalLM"}
    (tmp_path / "LlamaForCausalLM.in_place.json").write_text(json.dumps(kept))
    status = run(
        "--only", "LlamaForCausalLM", "--results", str(tmp_path), "--page", str(tmp_path / "page.md")
    )
    assert status == 0
    assert "yes  LlamaForCausalLM (in_place): logits 1.0e-05" in capsys.readouterr().out
    assert "**1 classes pass**" in (tmp_path / "page.md").read_text()


def test_an_unknown_class_is_named(monkeypatch):
    monkeypatch.setattr("decodekit_export.architectures_command._quiet", lambda: None)
    with pytest.raises(ExportError, match=r"no causal language model 'Nobody' in transformers"):
        run("--only", "Nobody")
