"""A PyTorch model behind decodekit's Model protocol, so that decodekit's own loop and sampler ask it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from decodekit.ops import Array
from decodekit_export.cache import remembering


@dataclass(frozen=True, slots=True)
class TorchCache:
    """Keys and values of one sequence, [1, kv_heads, T, head_dim], layer by layer. A value."""

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...] = ()

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0

    def keep(self, length: int) -> TorchCache:
        return TorchCache(tuple((k[:, :, :length], v[:, :, :length]) for k, v in self.layers if length))

    def copy(self) -> TorchCache:
        return self


class TorchModel:
    """Asks a transformers model of one sequence at a time. Plain: what was read is copied at each step."""

    def __init__(self, model: Any, context_length: int) -> None:
        self.vocabulary = int(model.config.vocab_size)
        self.context_length = context_length
        self._model = model.eval()
        self._asked = model.get_base_model() if hasattr(model, "get_base_model") else model  # behind peft
        self._device = next(model.parameters()).device

    def new_cache(self) -> TorchCache:
        return TorchCache()

    @torch.no_grad()
    def __call__(self, tokens: Array, cache: TorchCache, *, last: int = 1) -> tuple[Array, TorchCache]:
        """Logits [last, V] of what follows each of the `last` tokens, and the cache after `tokens` [T]."""
        past = DynamicCache()  # without a configuration it keeps all places, also behind a window
        for layer, (keys, values) in enumerate(cache.layers):
            past.update(keys, values, layer)
        ids = torch.tensor(tokens, device=self._device)[None]
        places = torch.arange(cache.length, cache.length + len(tokens), device=self._device)[None]
        logits = self._model(ids, position_ids=places, **remembering(self._asked, past)).logits[0]
        layers: list[Any] = past.layers
        after = TorchCache(tuple((layer.keys, layer.values) for layer in layers))
        return logits[len(tokens) - last :].float().cpu().numpy(), after
