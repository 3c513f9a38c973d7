from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from decodekit_export.cache import CacheShape, PassThroughCache, cache_shape
from decodekit_export.errors import ExportError
from decodekit_export.graph import InPlaceGraph
from decodekit_export.to_onnx import to_onnx

SMALL = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}


def build(name: str, **config):
    made = getattr(transformers, f"{name}Config")(**config)
    return AutoModelForCausalLM.from_config(made, attn_implementation="eager")


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2"])
def test_the_shape_is_that_of_grouped_heads(drawn, architecture):
    assert drawn(architecture).shape == CacheShape(layers=2, kv_heads=2, head_dim=8)


def test_without_grouped_heads_all_have_keys(drawn):
    assert drawn("GPT2").shape == CacheShape(layers=2, kv_heads=4, head_dim=8)


def test_a_layer_gets_its_own_past_and_gives_its_own_present():
    past = [(torch.full((1,), float(layer)), torch.full((1,), layer + 0.5)) for layer in range(2)]
    cache = PassThroughCache(past)
    for layer in (1, 0):
        key, value = cache.update(torch.ones(1), torch.zeros(1), layer)
        assert (key, value) == (torch.ones(1), torch.zeros(1))
        cache.put(*(side + 10 for side in cache.take()))
    assert [float(side) for side in cache.present] == [10, 10.5, 11, 11.5]


def test_a_layer_without_keys_of_its_own_is_refused():
    cache = PassThroughCache([(torch.ones(1), torch.ones(1))])
    with pytest.raises(ExportError, match=r"shared keys and values cannot be exported"):
        cache.take()


def test_a_model_without_keys_and_values_is_refused():
    model = build("Mamba", vocab_size=97, hidden_size=32, num_hidden_layers=2)
    with pytest.raises(ExportError, match=r"MambaForCausalLM: .*(cannot be exported|has no decoding graph)"):
        cache_shape(model)


def test_attention_that_bypasses_the_interface_is_refused_with_what_works():
    model = build("GPTNeoXJapanese", **SMALL)
    with pytest.raises(
        ExportError, match=r"GPTNeoXJapaneseForCausalLM: cannot be traced: .*known to work: .*Llama"
    ):
        to_onnx(InPlaceGraph(model, cache_shape(model)))


def test_a_mixture_of_experts_is_refused():
    model = build("Mixtral", vocab_size=97, hidden_size=32, num_hidden_layers=1, num_local_experts=2)
    with pytest.raises(ExportError, match=r"MixtralForCausalLM: a mixture of experts cannot be exported"):
        to_onnx(InPlaceGraph(model, CacheShape(layers=1, kv_heads=8, head_dim=8)))


def test_a_head_size_that_the_operator_cannot_have_names_the_other_cache_kind():
    with pytest.raises(ExportError, match=r"multiple of 8 for an in-place cache, got 12; .*concatenating"):
        InPlaceGraph(torch.nn.Identity(), CacheShape(layers=1, kv_heads=1, head_dim=12))
