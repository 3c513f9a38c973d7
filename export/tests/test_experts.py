"""Experts that only compute where they were chosen answer as all of transformers' do."""

from __future__ import annotations

import pytest
import torch

from decodekit_export.cache import cache_shape
from decodekit_export.experts import Gate, Mixtures, gate_of
from decodekit_export.gate import check_parity
from decodekit_export.graph import InPlaceGraph
from decodekit_export.graph_file import FILE, write
from decodekit_export.tiny import CONTEXT, tiny_model
from decodekit_export.to_onnx import to_onnx


def experts_of(name, **changes):
    model = tiny_model(name, **changes)
    return next(module for module in model.modules() if hasattr(module, "_apply_gate"))


@pytest.mark.parametrize(
    ("name", "gate"),
    [
        ("MixtralForCausalLM", Gate(1.0, 0.0, None)),
        ("GptOssForCausalLM", Gate(1.702, 1.0, 7.0)),  # Agarwal et al., 2025, arXiv:2508.10925
    ],
)
def test_the_gate_of_the_operator_is_found_by_asking(name, gate):
    assert gate_of(experts_of(name)) == gate


def test_a_gate_that_the_operator_has_not_is_none():
    assert gate_of(experts_of("MixtralForCausalLM", hidden_act="gelu")) is None


def test_a_gate_by_hand():
    gate, up = torch.tensor([10.0]), torch.tensor([-9.0])
    # clipped to 7 and -7: (-7 + 1) * 7 * sigmoid(1.702 * 7)
    assert float(Gate(1.702, 1.0, 7.0)(gate, up)) == pytest.approx(
        -42 / (1 + torch.exp(torch.tensor(-11.914)))
    )


@pytest.mark.parametrize(
    ("activation", "operators"), [("silu", 2), ("gelu", 0)], ids=["by the operator", "all of them"]
)
def test_either_way_the_graph_computes_what_pytorch_computes(tmp_path, activation, operators):
    model = tiny_model("MixtralForCausalLM", hidden_act=activation).requires_grad_(False)
    shape = cache_shape(model)
    graph = to_onnx(InPlaceGraph(model, shape))
    write(graph, tmp_path)
    assert sum(node.op_type == "MoE" for node in graph.graph) == operators
    parity = check_parity(tmp_path / FILE, model, "in_place", shape, context_length=CONTEXT, prompts=4)
    assert parity.passed, parity.failures


def test_the_model_is_left_as_it_was():
    model = tiny_model("MixtralForCausalLM")
    before = model.config._experts_implementation
    with Mixtures(model).mixed_by_operators():
        assert model.config._experts_implementation == "decodekit"
    assert model.config._experts_implementation == before
