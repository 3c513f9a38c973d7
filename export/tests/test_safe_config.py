from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
