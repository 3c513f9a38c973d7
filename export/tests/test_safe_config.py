from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from decodekit_export.config_keys import known_keys
from decodekit_export.safe_config import safe_config

PLAIN = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "gelu_pytorch_tanh",
    "rms_norm_eps": 1e-5,
    "eos_token_id": [1, 2],
    "sliding_window": None,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "llama3", "factor": 8.0},
    "layer_types": ["full_attention", "sliding_attention"],
}


def test_what_describes_a_model_is_kept():
    assert safe_config(PLAIN) == (PLAIN, [])


def test_what_acts_is_dropped_and_named():
    acting = {
        "auto_map": {"AutoModelForCausalLM": "someone/else--modeling.Model"},
        "_attn_implementation_internal": "someone/kernel",
        "_experts_implementation": "someone/kernel",
        "trust_remote_code": True,
        "custom_pipelines": {"text": {"impl": "pipe.Pipe"}},
        "kernels": ["someone/kernel"],
        "transformers_weights": "other.bin",
    }
    kept, dropped = safe_config({**PLAIN, **acting})
    assert kept == PLAIN
    assert dropped == list(acting)


def test_it_is_dropped_wherever_it_hides():
    kept, dropped = safe_config({"text_config": {"hidden_size": 8, "inner": {"_attn_implementation": "a"}}})
    assert kept == {"text_config": {"hidden_size": 8, "inner": {}}}
    assert dropped == ["text_config.inner._attn_implementation"]


def test_a_value_that_names_a_place_is_dropped_whatever_its_key():
    places = {
        "base": "someone/model",
        "code": "model--file.Class",
        "address": "https://example.org",
        "windows": "c:\\model",
        "list": ["fine", "../../etc"],
    }
    assert safe_config(places) == ({}, list(places))


def test_what_means_nothing_to_a_decoder_goes_without_a_word():
    assert safe_config({"_name_or_path": "someone/model", "id2label": {"0": "a/b"}}) == ({}, [])


def test_only_keys_of_the_architecture_are_kept():
    more = {"hidden_size": 64, "rope_theta": 1e6, "sliding_window_pattern": 6, "made_up": 1, "quantizer": "x"}
    kept, dropped = safe_config({**PLAIN, **more}, known_keys(PLAIN))
    assert dropped == ["sliding_window", "layer_types", "sliding_window_pattern", "made_up", "quantizer"]
    assert {"hidden_size", "rope_theta", "rope_parameters"} < kept.keys()
    gemma = {"model_type": "gemma3_text", "sliding_window_pattern": 6, "rope_local_base_freq": 1e4}
    assert safe_config(gemma, known_keys(gemma)) == (gemma, [])  # older spellings


def test_the_configurations_inside_have_keys_of_their_own():
    inner = {"hidden_size": 8, "made_up": 1, "_attn_implementation": "x"}
    config = {"model_type": "gemma3", "text_config": inner}
    kept, dropped = safe_config(config, known_keys(config))
    assert kept["text_config"] == {"hidden_size": 8}
    assert dropped == ["text_config.made_up", "text_config._attn_implementation"]


def test_a_model_type_that_nobody_knows_has_no_known_keys():
    for model_type in ("nonesuch", None, 7, ["llama"]):
        assert known_keys({"model_type": model_type}) is None


@pytest.mark.parametrize(
    "model_type", ["llama", "gemma2", "qwen3_moe", "gpt_neox", "opt", "phi", "falcon", "bloom"]
)
def test_what_transformers_writes_comes_back_the_same(model_type):
    assert model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    kind = CONFIG_MAPPING[model_type]
    written = json.loads(kind().to_json_string(use_diff=False))
    kept, _ = safe_config(written, known_keys(written))
    assert kind(**kept).to_dict() == kind().to_dict()


texts = st.text("ab_-/\\:. \n", max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
keys = st.sampled_from(["auto_map", "_x", "trust_remote_code", "kernels", "a", "hidden_size"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.dictionaries(keys, json_values))
def test_no_acting_key_and_no_place_survives(config):
    def check(value):
        if isinstance(value, dict):
            assert not any(
                k.startswith("_") or k in ("auto_map", "trust_remote_code", "kernels") for k in value
            )
            list(map(check, value.values()))
        elif isinstance(value, list):
            list(map(check, value))
        elif isinstance(value, str):
            assert "/" not in value and "\\" not in value and "--" not in value and ":" not in value

    kept, dropped = safe_config(config)
    check(kept)
    assert len(dropped) == len(set(dropped))
