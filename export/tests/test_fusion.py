"""What the attention operator takes over; and the model's own code where it cannot."""

from __future__ import annotations

from collections import Counter
from functools import cache

import onnx
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

import decodekit_export.rotary
from decodekit_export.cache import cache_shape
from decodekit_export.gate import check_parity
from decodekit_export.graph import InPlaceGraph
from decodekit_export.graph_file import DATA, FILE, write
from decodekit_export.rotary import rotations
from decodekit_export.to_onnx import to_onnx

SIZES = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
MODELS = {
    "Llama": {},
    "Qwen2": {"tie_word_embeddings": True},  # projections have biases
    "Qwen3": {"head_dim": 16},  # queries and keys are normed between projection and rotation
    "Cohere": {},  # pairs are neighbours
    "StableLm": {"num_attention_heads": 2, "rope_parameters": PARTIAL},  # half of a head is turned
    "SmolLM3": {"num_hidden_layers": 4},  # every fourth layer turns nothing
    "Gemma3Text": {
        "head_dim": 16,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],  # of which each turns at its own pace
    },
}
PLAIN = {"Phi": {"rope_parameters": PARTIAL}, "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 64}}


@cache
def model(name):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES | (MODELS | PLAIN)[name])
    made = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter_name, parameter in made.named_parameters():
        if parameter_name.endswith("bias"):  # they begin as zeros, which would hide a mistake
            torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    @cache
    def draw(name):
        folder = tmp_path_factory.mktemp(name.lower())
        write(to_onnx(InPlaceGraph(model(name), cache_shape(model(name)))), folder)
        return folder / FILE

    return draw


def nodes(path):
    return list(onnx.load(path).graph.node)


def operators(path):
    return Counter(node.op_type for node in nodes(path))


def attention(path):
    return [node for node in nodes(path) if node.op_type == "GroupQueryAttention"]


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


@pytest.mark.parametrize("name", [*MODELS, *PLAIN])
def test_the_fused_graph_computes_what_pytorch_computes(drawn, name):
    shape = cache_shape(model(name))
    parity = check_parity(drawn(name), model(name), "in_place", shape, context_length=96, prompts=8)
    assert parity.passed, parity.failures
    assert max(parity.logits.values()) < 2e-4


@pytest.mark.parametrize("name", MODELS)
def test_the_operator_turns_where_it_can(drawn, name):
    turned = [attributes(node)["do_rotary"] for node in attention(drawn(name))]
    assert turned == ([1, 1, 1, 0] if name == "SmolLM3" else [1, 1])
    assert not operators(drawn(name)).keys() & {"Cos", "Sin", "Neg"}


@pytest.mark.parametrize("name", PLAIN)
def test_elsewhere_the_model_keeps_its_own_code(drawn, name):
    assert [attributes(node)["do_rotary"] for node in attention(drawn(name))] == [0, 0]


def test_one_product_makes_query_key_and_value(drawn):
    llama = operators(drawn("Llama"))
    assert llama["MatMul"] == 2 * (1 + 1 + 3) + 1  # with output, and the three of the MLP; logits
    assert llama["Reshape"] == 0
    assert [node.input[1:3] for node in attention(drawn("Llama"))] == [["", ""], ["", ""]]
    weights = {w.name: list(w.dims) for w in onnx.load(drawn("Llama")).graph.initializer}
    together = "+".join(f"model.layers.1.self_attn.{part}_proj.weight.T" for part in "qkv")
    assert weights[together] == [64, 64 + 2 * 32]


def test_biases_are_put_side_by_side_too(drawn):
    weights = {w.name: list(w.dims) for w in onnx.load(drawn("Qwen2")).graph.initializer}
    together = "+".join(f"model.layers.1.self_attn.{part}_proj.bias" for part in "qkv")
    assert weights[together] == [64 + 2 * 32]


def test_normed_queries_and_keys_stay_apart(drawn):
    assert all(all(node.input[:3]) for node in attention(drawn("Qwen3")))


def test_a_tied_embedding_is_read_across_for_the_logits(drawn):
    tied = operators(drawn("Qwen2"))
    assert tied["FusedMatMul"] == 1
    weights = [w for w in onnx.load(drawn("Qwen2")).graph.initializer if list(w.dims) in ([97, 64], [64, 97])]
    assert len(weights) == 1


def test_layers_share_tables_that_are_alike(drawn):
    def tables(name):
        return sorted(w.name for w in onnx.load(drawn(name)).graph.initializer if w.name.startswith("rotary"))

    assert tables("Llama") == ["rotary.0.cos", "rotary.0.sin"]
    assert tables("Gemma3Text") == ["rotary.0.cos", "rotary.0.sin", "rotary.1.cos", "rotary.1.sin"]


def test_neighbours_are_told_from_halves():
    assert {rotation.interleaved for rotation in rotations(model("Cohere"), 96)} == {True}
    assert {rotation.interleaved for rotation in rotations(model("Llama"), 96)} == {False}
    assert rotations(model("Llama"), 96)[0].cos.shape == (96, 8)


def test_a_function_that_does_something_else_is_not_replaced(monkeypatch):
    llama = model("Llama")
    module = __import__(type(llama).__module__, fromlist=["x"])
    original = module.apply_rotary_pos_emb

    def doubled(q, k, cos, sin, *args):
        q, k = original(q, k, cos, sin, *args)
        return 2 * q, k

    monkeypatch.setattr(module, decodekit_export.rotary.FUNCTION, doubled)
    assert rotations(llama, 96) == []


def test_the_model_is_left_as_it_was(drawn):
    module = __import__(type(model("Llama")).__module__, fromlist=["x"])
    before = module.apply_rotary_pos_emb
    drawn("Llama")
    assert module.apply_rotary_pos_emb is before


def test_positions_are_no_input_where_the_operator_knows_them(drawn):
    inputs = [i.name for i in onnx.load(drawn("Llama")).graph.input]
    assert inputs[:4] == ["input_ids", "lengths", "total_length", "logit_positions"]
    assert "position_ids" in [i.name for i in onnx.load(drawn("OPT")).graph.input]


def test_large_weights_lie_in_a_file_that_is_mapped(drawn, tmp_path):
    graph = to_onnx(InPlaceGraph(model("Llama"), cache_shape(model("Llama"))))
    write(graph, tmp_path, one_file=1)
    assert (tmp_path / DATA).stat().st_size > 100_000 > (tmp_path / FILE).stat().st_size
