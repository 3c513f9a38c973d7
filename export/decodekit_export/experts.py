"""
Experts as the graph will have them: only the chosen ones compute.

A layer with a mixture of experts chooses some of them for every token and adds up what they
answer, by weight (Shazeer et al., 2017, arXiv:1701.06538). com.microsoft::MoE does that, and
reads no weight of an expert that nobody chose. It has a router of its own, the softmax over
the largest k of its scores, which every other router can speak through: the logarithms of the
weights that a model gave come out of it as these weights, over their sum.

The operator knows one gate, up + beta times g * sigmoid(alpha * g), both clipped. Whether that
is the gate of a model is found out by asking. Experts with another one are all computed, and
those that were not chosen count nothing: right, and slower by experts over chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

NAME = "decodekit"  # what a model's configuration calls these experts


class Mixtures:
    """The experts of a model, and how the operator gates as each layer of them does."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._gates = {m: gate_of(m) for m in model.modules() if _is_interfaced(m)}

    @contextmanager
    def mixed_by_operators(self) -> Iterator[None]:
        """Inside this context the experts are operators of the graph, where the model has any."""
        if not self._gates:
            yield
            return
        from transformers.integrations.moe import ExpertsInterface  # transformers 5

        ExpertsInterface.register(NAME, self._mix)
        before = self._model.config._experts_implementation
        self._model.set_experts_implementation(NAME)
        try:
            yield
        finally:
            self._model.set_experts_implementation(before)

    def _mix(self, experts: Any, states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Answers [N, H] to states [N, H]: of the experts `chosen` [N, K], by `weights` [N, K]."""
        shares = torch.zeros(states.shape[0], experts.num_experts, dtype=states.dtype)
        shares = shares.scatter(1, chosen, weights.to(states.dtype))
        gate = self._gates[experts]
        return _all(experts, states, shares) if gate is None else _some(experts, gate, states, shares, chosen)


def _is_interfaced(module: nn.Module) -> bool:
    """Whether these are experts that transformers lets be computed in another way, as version 5 does."""
    return hasattr(module, "_apply_gate") and hasattr(module, "is_transposed")


@dataclass(frozen=True, slots=True)
class Gate:
    """(clip(up) + beta) * g * sigmoid(alpha * g), g = min(gate, limit), up clipped to both sides."""

    alpha: float
    beta: float
    limit: float | None

    def __call__(self, gate: Tensor, up: Tensor) -> Tensor:
        if self.limit is not None:
            gate, up = gate.clamp(max=self.limit), up.clamp(-self.limit, self.limit)
        return (up + self.beta) * gate * torch.sigmoid(self.alpha * gate)


def gate_of(experts: Any) -> Gate | None:
    """How the operator can gate as these experts do; None if it cannot."""
    if not experts.has_gate or experts.has_post_expert_norm:
        return None
    numbers = [v for v in vars(experts).values() if isinstance(v, float | int) and not isinstance(v, bool)]
    places = torch.cat(
        [torch.linspace(-12, 12, 31), torch.tensor([s * n for n in numbers for s in (-1.5, 1.5)])]
    )
    asked = places.repeat_interleave(len(places)), places.repeat(len(places))
    side_by_side = torch.cat(asked) if experts.is_concatenated else torch.stack(asked, -1).flatten()
    answer = experts._apply_gate(side_by_side[None])[0]
    for alpha, beta, limit in itertools.product({1.0, *numbers}, (0.0, 1.0), (None, *numbers)):
        gate = Gate(float(alpha), beta, None if limit is None else float(limit))
        if torch.allclose(gate(*asked), answer, rtol=1e-6, atol=1e-6):
            return gate
    return None


def _some(experts: Any, gate: Gate, states: Tensor, shares: Tensor, chosen: Tensor) -> Tensor:
    scores = torch.where(shares > 0, shares.log(), torch.finfo(shares.dtype).min)
    first, first_bias = _interleaved(experts)
    second, second_bias = _weight(experts, "down_proj")
    attributes: dict[str, Any] = {
        "k": chosen.shape[1],
        "normalize_routing_weights": 1,
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": gate.alpha,
        "activation_beta": gate.beta,
    }
    if gate.limit is not None:
        attributes["swiglu_limit"] = gate.limit
    mixed = torch.onnx.ops.symbolic(
        "com.microsoft::MoE",
        (states, scores, first, first_bias, second, second_bias),
        attributes,
        dtype=states.dtype,
        shape=states.shape,
        version=1,
    )
    return mixed * shares.sum(-1, keepdim=True)


def _all(experts: Any, states: Tensor, shares: Tensor) -> Tensor:
    first, first_bias = _weight(experts, "gate_up_proj" if experts.has_gate else "up_proj")
    second, second_bias = _weight(experts, "down_proj")
    inner = states @ first.transpose(1, 2) + (0 if first_bias is None else first_bias[:, None])
    inner = experts._apply_gate(inner) if experts.has_gate else experts.act_fn(inner)
    answers = inner @ second.transpose(1, 2) + (0 if second_bias is None else second_bias[:, None])
    if experts.has_post_expert_norm:
        answers = experts.post_expert_norm(answers)
    mixed: Tensor = (answers * shares.T[..., None]).sum(0)
    return mixed


def _weight(experts: Any, name: str) -> tuple[Tensor, Tensor | None]:
    """A weight [E, outputs, inputs] and its bias [E, outputs]."""
    weight = getattr(experts, name)
    return weight.transpose(1, 2) if experts.is_transposed else weight, getattr(experts, f"{name}_bias", None)


def _interleaved(experts: Any) -> tuple[Tensor, Tensor | None]:
    """The first weight and its bias with outputs gate 0, up 0, gate 1, up 1, ..."""
    weight, bias = _weight(experts, "gate_up_proj")
    if not experts.is_concatenated:
        return weight, bias
    number, outputs, inputs = weight.shape
    weight = weight.reshape(number, 2, outputs // 2, inputs).transpose(1, 2).reshape(weight.shape)
    if bias is not None:
        bias = bias.reshape(number, 2, outputs // 2).transpose(1, 2).reshape(bias.shape)
    return weight, bias
