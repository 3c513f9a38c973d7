"""
What a model remembers between calls, as the exporter sees it: its shape, and a stand-in.

The stand-in stores nothing and moves nothing. A layer of a transformers model tells its
cache the new keys and values and then calls its attention: `PassThroughCache` hands them
back unchanged, remembers which layer is speaking, gives that layer's past to the attention
and collects the present that the attention returns. What past and present mean is the
attention's business.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from decodekit_export.errors import ExportError


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Layers of a cache, the shape of one place in it and its type, the same in every layer."""

    layers: int
    kv_heads: int
    head_dim: int
    dtype: str = "float32"


def cache_shape(model: PreTrainedModel) -> CacheShape:
    """What `model` caches, read off a run over two tokens."""
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if odd := sorted(kinds - {"full_attention", "sliding_attention"}):
        raise ExportError(
            f"{_name(model)}: layers of kind {odd} cannot be exported, only full and sliding attention"
        )
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.ones(1, 2, dtype=torch.int64), **remembering(model, cache))
    layers: list[Any] = cache.layers
    sides = [side for layer in layers for side in (layer.keys, layer.values)]
    if not sides or not all(isinstance(side, Tensor) for side in sides):
        raise ExportError(
            f"{_name(model)}: does not cache keys and values per layer, so it has no decoding graph"
        )
    shapes = {(side.shape[1], side.shape[3]) for side in sides}
    if len(shapes) > 1:
        raise ExportError(
            f"{_name(model)}: (heads, head size) must be the same in all layers, for keys and for values, "
            f"got {sorted(shapes)}"
        )
    kv_heads, head_dim = shapes.pop()
    dtype = str(sides[0].dtype).removeprefix("torch.")
    return CacheShape(len(layers), kv_heads, head_dim, dtype)


def remembering(model: PreTrainedModel, cache: Cache) -> dict[str, Any]:
    """The arguments with which `model` reads and extends a cache; transformers 5.24 renamed the first."""
    known = inspect.signature(model.forward).parameters
    if name := next((name for name in ("cache", "past_key_values") if name in known), None):
        return {name: cache, "use_cache": True}
    raise ExportError(f"{_name(model)}: takes no cache of keys and values, so it has no decoding graph")


class PassThroughCache(Cache):
    """Past in, present out, layer by layer.

    past  one (key, value) per layer, each [B, kv_heads, L, head_dim]
    """

    def __init__(self, past: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__(layers=[])
        self._past = past
        self._present: dict[int, tuple[Tensor, Tensor]] = {}
        self._speaking: int | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self._speaking = layer_idx
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0  # positions are a graph input: no model needs to ask how long the past is

    def take(self) -> tuple[Tensor, Tensor]:
        """Past key and value of the layer that just called `update`."""
        if self._speaking is None:
            raise ExportError(
                "a layer attends to keys of another layer; shared keys and values cannot be exported"
            )
        return self._past[self._speaking]

    def put(self, key: Tensor, value: Tensor) -> None:
        """Present key and value of that layer, which ends its turn."""
        assert self._speaking is not None
        self._present[self._speaking] = (key, value)
        self._speaking = None

    @property
    def present(self) -> list[Tensor]:
        """Key and value of layer 0, key and value of layer 1, ..."""
        if len(self._present) < len(self._past):
            raise ExportError("its attention does not go through the attention interface of transformers")
        return [side for layer in range(len(self._past)) for side in self._present[layer]]


def _name(model: PreTrainedModel) -> str:
    return type(model).__name__
