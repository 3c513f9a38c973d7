"""
The reference: what a PyTorch model says about a sequence, in the plainest way it can.

One sequence alone, all its tokens at once, nothing cached before, no padding. Causality
makes the answer at a position independent of what follows it, so one such run is the
truth about every way of reaching that position.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from decodekit_export.cache import remembering, widened
from decodekit_export.rows import Array


class Reference:
    """Asks `model`, which must attend with plain tensor code ("eager"). In float32 that is the truth."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.vocabulary = int(model.config.vocab_size)
        self.window = _window(model)

    def __call__(self, ids: Sequence[int], wanted: Sequence[int] | None = None) -> tuple[Array, Array]:
        """Logits [K, V] after the `wanted` tokens, by default all; keys and values of all.

        The latter are [layers, 2, kv_heads, T, head_dim], the smaller heads filled with zeros; both float32.
        """
        columns = torch.tensor(range(len(ids)) if wanted is None else wanted)
        cache = DynamicCache()  # without a configuration it keeps all places, also behind a window
        feed = {"input_ids": torch.tensor([list(ids)]), **remembering(self._model, cache)}
        with torch.no_grad():
            if self._keeps:
                logits = self._model(**feed, logits_to_keep=columns).logits
            else:
                logits = self._model(**feed).logits[:, columns]
        layers: list[Any] = cache.layers
        sides = [side[0] for layer in layers for side in (layer.keys, layer.values)]
        size = max(side.shape[-1] for side in sides)
        same = torch.stack([widened(side, size) for side in sides])
        same = same.float().reshape(len(layers), 2, *same.shape[1:])
        return logits[0].float().numpy(), np.asarray(same.numpy())


def _window(model: PreTrainedModel) -> int | None:
    """How many keys a query of a windowed layer sees, or None."""
    window = getattr(model.config, "sliding_window", None)
    kinds = getattr(model.config, "layer_types", None)
    if window is None or (kinds and "sliding_attention" not in kinds):
        return None
    return int(window)
