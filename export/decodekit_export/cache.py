"""
What a model remembers between calls, as the exporter sees it: its shape, and two stand-ins.

A layer of a transformers model tells its cache the new keys and values and then calls its
attention with what the cache answers. `PassThroughCache` hands them back unchanged, remembers
which layer is speaking, gives that layer's past to the attention and collects the present that
the attention returns: what past and present mean is the attention's business. `GrowingCache`
answers with the past and the new behind it, so a layer may do what it likes with them before
it attends.
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

KINDS = {"full_attention", "sliding_attention", "chunked_attention"}  # of layers that cache keys and values

BYPASSED = (
    "its attention does not go through the attention interface of transformers; "
    "--engine optimum has exporters for some that do not"
)


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Layers of a cache, the shape of one place in it and its type, the same in every layer.

    head_dim  the largest of all keys and values; smaller ones are filled with zeros
    """

    layers: int
    kv_heads: int
    head_dim: int
    dtype: str = "float32"


def cache_shape(model: PreTrainedModel) -> CacheShape:
    """What `model` caches, read off a run over two tokens."""
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if odd := sorted(kinds - KINDS):
        raise ExportError(
            f"{_name(model)}: layers of kind {', '.join(odd)} keep no plain cache of keys and values, "
            "so it has no decoding graph; --engine optimum has exporters for some such models"
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
    heads = {side.shape[1] for side in sides}
    if len(heads) > 1:
        raise ExportError(
            f"{_name(model)}: the number of heads must be the same in all layers, for keys and for values, "
            f"got {sorted(heads)}"
        )
    dtype = str(sides[0].dtype).removeprefix("torch.")
    return CacheShape(len(layers), heads.pop(), max(side.shape[3] for side in sides), dtype)


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
                "a layer attends to keys of another layer, or to its own once more, which an in-place cache "
                "cannot; export with --cache concatenating"
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
            raise ExportError(BYPASSED)
        return [side for layer in range(len(self._past)) for side in self._present[layer]]


class GrowingCache(Cache):
    """Past and new behind it out, layer by layer.

    past  one (key, value) per layer, each [B, kv_heads, P, head_dim]
    """

    def __init__(self, past: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__(layers=[])
        self._sides = [list(sides) for sides in past]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        sides = self._sides[layer_idx]
        grown = []
        for i, new in enumerate((key_states, value_states)):
            size, head_dim = new.shape[-1], sides[i].shape[-1]
            sides[i] = torch.cat([sides[i], widened(new, head_dim)], dim=2)
            grown.append(sides[i] if size == head_dim else sides[i][..., :size])
        return grown[0], grown[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    @property
    def present(self) -> list[Tensor]:
        """Key and value of layer 0, key and value of layer 1, ..."""
        return [side for sides in self._sides for side in sides]


def widened(states: Tensor, head_dim: int) -> Tensor:
    """Heads filled with zeros to that size."""
    missing = head_dim - states.shape[-1]
    return torch.nn.functional.pad(states, (0, missing)) if missing else states


def _name(model: PreTrainedModel) -> str:
    return type(model).__name__
