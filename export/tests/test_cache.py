from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from decodekit_export.cache import CacheShape, GrowingCache, PassThroughCache, cache_shape
from decodekit_export.errors import ExportError
from decodekit_export.graph import InPlaceGraph
from decodekit_export.tiny import tiny_model
from decodekit_export.to_onnx import to_onnx

WIDE = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}


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


def test_a_growing_cache_answers_with_the_past_and_the_new_behind_it():
    cache = GrowingCache([(torch.ones(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))])
    key, value = cache.update(torch.full((1, 2, 1, 4), 5.0), torch.full((1, 2, 1, 2), 6.0), 0)
    assert key[0, 0, :, 0].tolist() == [1, 1, 1, 5]
    assert value.shape == (1, 2, 4, 2)  # as wide as the layer's own
    assert cache.present[1][0, 0, 3].tolist() == [6, 6, 0, 0]  # as wide as the cache


def test_a_layer_without_keys_of_its_own_is_refused():
    cache = PassThroughCache([(torch.ones(1), torch.ones(1))])
    with pytest.raises(ExportError, match=r"keys of another layer, .*--cache concatenating"):
        cache.take()


def test_a_model_without_keys_and_values_is_refused():
    model = build("Mamba", vocab_size=97, hidden_size=32, num_hidden_layers=2)
    with pytest.raises(ExportError, match=r"MambaForCausalLM: .*has no decoding graph"):
        cache_shape(model)


def test_attention_that_bypasses_the_interface_is_refused_with_what_may_do():
    model = build("GPTNeoXJapanese", **WIDE)
    with pytest.raises(ExportError, match=r"GPTNeoXJapaneseForCausalLM: its attention does not .*optimum"):
        to_onnx(InPlaceGraph(model, cache_shape(model)))


def test_what_an_operator_cannot_take_is_refused_and_not_lost():
    model = build("Doge", **WIDE)
    with pytest.raises(
        ExportError, match=r"DogeForCausalLM: DogeAttention gives its attention attention_mask"
    ):
        to_onnx(InPlaceGraph(model, cache_shape(model)))


def test_latent_keys_name_the_other_cache_kind():
    model = tiny_model("DeepseekV3ForCausalLM")
    shape = cache_shape(model)
    if shape.kv_heads == 4:
        pytest.skip("this transformers caches the keys of all heads")
    with pytest.raises(ExportError, match=r"caches 1 heads and attends to 4, .*--cache concatenating"):
        to_onnx(InPlaceGraph(model, shape))


def test_a_head_size_that_the_operator_cannot_have_names_the_other_cache_kind():
    with pytest.raises(ExportError, match=r"multiple of 8 for an in-place cache, got 12; .*concatenating"):
        InPlaceGraph(torch.nn.Identity(), CacheShape(layers=1, kv_heads=1, head_dim=12))
