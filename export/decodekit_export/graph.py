"""
The graph: a decoder as a function of plain tensors, and what its tensors are called.

A graph wraps a transformers model so that everything a decoding loop needs is an input
or an output: no state, no defaults, no positions guessed from a cache. There is one class
per cache kind. Its `inputs` are its specification: `to_onnx` reads names, axes and values
to trace with from it, and the runtime relies on the names.

Axes: B rows, T tokens, K columns whose logits are wanted, V vocabulary, L capacity of the
cache, P length of the past.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from decodekit_export.attention import attending, in_place, plain
from decodekit_export.cache import CacheShape, GrowingCache, PassThroughCache, remembering
from decodekit_export.context_length import context_length
from decodekit_export.errors import ExportError
from decodekit_export.experts import Mixtures
from decodekit_export.pairs import complex_as_pairs
from decodekit_export.rotary import Turns, rotations

Past = Sequence[tuple[Tensor, Tensor]]
Axes = tuple[str | int, ...]  # a name where an axis varies, its size where it does not


@dataclass(frozen=True, slots=True)
class Input:
    """A graph input: its name, its axes and a value to trace with."""

    name: str
    axes: Axes
    example: Tensor


class InPlaceGraph(nn.Module):
    """The decoder whose present is written into the memory of its past."""

    kind = "in_place"

    def __init__(self, model: PreTrainedModel, shape: CacheShape) -> None:
        super().__init__()
        if shape.head_dim % 8:
            raise ExportError(
                f"head size must be a multiple of 8 for an in-place cache, got {shape.head_dim}; "
                "export with --cache concatenating"
            )
        self.model = model
        self.shape = shape
        self._mixtures = Mixtures(model)
        self._turns = Turns(rotations(model, context_length(model)))

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        lengths: Tensor,
        total_length: Tensor,
        logit_positions: Tensor,
        past: Past,
    ) -> tuple[Tensor, ...]:
        """Logits [B, K, V], then present key and value of every layer."""
        cache = PassThroughCache(past)

        def attend(*states: Any) -> Tensor:
            turn = self._turns.take()
            return in_place(*states, cache=cache, lengths=lengths, total_length=total_length, turn=turn)

        with (
            attending(self.model, attend),
            self._turns.left_to_attention(self.model),
            self._mixtures.mixed_by_operators(),
        ):
            return _predict(self.model, input_ids, position_ids, logit_positions, cache)

    def inputs(self) -> list[Input]:
        """In the order of `forward`, the past flattened."""
        rows, tokens, capacity = 2, 3, 11
        return [
            Input("input_ids", ("B", "T"), torch.ones(rows, tokens, dtype=torch.int64)),
            Input("position_ids", ("B", "T"), torch.arange(tokens).expand(rows, -1).clone()),
            Input("lengths", ("B",), torch.full((rows,), tokens, dtype=torch.int32)),
            Input("total_length", (), torch.tensor(tokens, dtype=torch.int32)),
            Input("logit_positions", ("K",), torch.tensor([1, 2])),
            *_past(self.shape, "L", rows, capacity),
        ]

    def outputs(self) -> dict[str, Axes]:
        """Names and axes."""
        return {"logits": ("B", "K", "V"), **_present(self.shape, "L")}


class ConcatenatingGraph(nn.Module):
    """The decoder whose present is past with the new tokens behind it."""

    kind = "concatenating"

    def __init__(self, model: PreTrainedModel, shape: CacheShape) -> None:
        super().__init__()
        self.model = model
        self.shape = shape
        self._mixtures = Mixtures(model)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        logit_positions: Tensor,
        past: Past,
    ) -> tuple[Tensor, ...]:
        """Logits [B, K, V], then present key and value of every layer."""
        attend = partial(plain, attention_mask=attention_mask, position_ids=position_ids)
        with attending(self.model, attend), self._mixtures.mixed_by_operators():
            return _predict(self.model, input_ids, position_ids, logit_positions, GrowingCache(past))

    def inputs(self) -> list[Input]:
        """In the order of `forward`, the past flattened."""
        rows, tokens, past = 2, 3, 5
        positions = torch.arange(past, past + tokens).expand(rows, -1).clone()
        return [
            Input("input_ids", ("B", "T"), torch.ones(rows, tokens, dtype=torch.int64)),
            Input("attention_mask", ("B", "P + T"), torch.ones(rows, past + tokens, dtype=torch.int64)),
            Input("position_ids", ("B", "T"), positions),
            Input("logit_positions", ("K",), torch.tensor([1, 2])),
            *_past(self.shape, "P", rows, past),
        ]

    def outputs(self) -> dict[str, Axes]:
        """Names and axes."""
        return {"logits": ("B", "K", "V"), **_present(self.shape, "P + T")}


Graph = InPlaceGraph | ConcatenatingGraph
GRAPHS: dict[str, type[Graph]] = {graph.kind: graph for graph in (InPlaceGraph, ConcatenatingGraph)}


def _predict(
    model: PreTrainedModel,
    input_ids: Tensor,
    position_ids: Tensor,
    columns: Tensor,
    cache: PassThroughCache | GrowingCache,
) -> tuple[Tensor, ...]:
    known = inspect.signature(model.forward).parameters
    if "position_ids" not in known:
        raise ExportError(
            "takes no positions but counts tokens in its cache, which rows of unequal length cannot share; "
            "--engine optimum exports some such models, for one row at a time"
        )
    feed = {"input_ids": input_ids, "position_ids": position_ids, **remembering(model, cache)}
    with complex_as_pairs():
        if "logits_to_keep" in known:
            logits = model(**feed, logits_to_keep=columns).logits
        else:
            logits = model(**feed).logits[:, columns]
    return logits.float(), *cache.present


def _past(shape: CacheShape, places: str, rows: int, size: int) -> list[Input]:
    axes = ("B", shape.kv_heads, places, shape.head_dim)
    zeros = torch.zeros(rows, shape.kv_heads, size, shape.head_dim, dtype=getattr(torch, shape.dtype))
    return [Input(name, axes, zeros.clone()) for name in _names("past_key_values", shape)]


def _present(shape: CacheShape, places: str) -> dict[str, Axes]:
    return dict.fromkeys(_names("present", shape), ("B", shape.kv_heads, places, shape.head_dim))


def _names(prefix: str, shape: CacheShape) -> list[str]:
    return [f"{prefix}.{layer}.{side}" for layer in range(shape.layers) for side in ("key", "value")]
