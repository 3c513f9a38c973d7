"""
Attention as the graph will have it: two ways to attend to a past and extend it.

`in_place` is one operator, com.microsoft::GroupQueryAttention, which appends to the cache
it reads when past and present are the same memory. `concatenating` is plain tensor code:
present is past with the new keys behind it. Both give query t of a row every key of that
row whose position is not after its own, positions being counted per row, so rows of
unequal length may share a batch.

This module knows tensors. Where past comes from and present goes is the cache's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from decodekit_export.cache import PassThroughCache
from decodekit_export.errors import ExportError
from decodekit_export.rotary import Rotation

NAME = "decodekit"  # what a model's configuration calls this attention

Attend = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, "Options"], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Options:
    """What a layer asks of its attention.

    scale    factor on query . key
    softcap  c in c * tanh(score / c), > 0; 0 leaves scores alone
    window   a query sees that many keys, its own included; None: all
    """

    scale: float
    softcap: float = 0.0
    window: int | None = None


@contextmanager
def attending(model: PreTrainedModel, cache: PassThroughCache, attend: Attend) -> Iterator[None]:
    """Inside this context the layers of `model` attend to the past in `cache` by `attend`."""

    def attention(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        softcap: float | None = None,
        sliding_window: int | None = None,
        s_aux: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        if s_aux is not None:
            raise ExportError(f"{type(module).__name__} has attention sinks, which cannot be exported")
        scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
        options = Options(scale, softcap or 0.0, sliding_window)
        output, *present = attend(query, key, value, *cache.take(), options)
        cache.put(*present)
        return output, None

    AttentionInterface.register(NAME, attention)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def in_place(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    options: Options,
    *,
    lengths: Tensor,
    total_length: Tensor,
    turn: Rotation | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output [B, T, heads, head_dim] and present, which has the shape of past [B, kv_heads, L, head_dim].

    query, key, value  [B, heads, T, head_dim], the latter two with kv_heads
    lengths            int32 [B], tokens in each row's cache after this call
    total_length       int32 [], the largest of them
    turn               how the operator turns queries and keys; None: they are turned, or never are
    """
    rows, heads, tokens, head_dim = query.shape
    tables = () if turn is None else (turn.cos, turn.sin)
    output, present_key, present_value = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::GroupQueryAttention",
        (*map(_flat, (query, key, value)), past_key, past_value, lengths - 1, total_length, *tables),
        {
            "do_rotary": int(turn is not None),
            "rotary_interleaved": int(turn is not None and turn.interleaved),
            "num_heads": heads,
            "kv_num_heads": key.shape[1],
            "scale": options.scale,
            "softcap": options.softcap,
            "local_window_size": -1 if options.window is None else options.window,
        },
        dtypes=(query.dtype, past_key.dtype, past_value.dtype),
        shapes=((rows, tokens, heads * head_dim), past_key.shape, past_value.shape),
        version=1,
    )
    return output.reshape(rows, tokens, heads, head_dim), present_key, present_value


def concatenating(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_key: Tensor,
    past_value: Tensor,
    options: Options,
    *,
    attention_mask: Tensor,
    position_ids: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output [B, T, heads, head_dim] and present [B, kv_heads, P + T, head_dim].

    query, key, value  [B, heads, T, head_dim], the latter two with kv_heads
    attention_mask     int64 [B, P + T], 1 where a place of the cache holds a token
    position_ids       int64 [B, T], counted over the tokens of the row, not over places
    """
    present_key = torch.cat([past_key, key], dim=2)
    present_value = torch.cat([past_value, value], dim=2)

    rows, heads, tokens, head_dim = query.shape
    kv_heads, places = key.shape[1], present_key.shape[2]
    grouped = query.reshape(rows, kv_heads, heads // kv_heads * tokens, head_dim)
    scores = grouped @ present_key.transpose(2, 3) * options.scale
    if options.softcap:
        scores = options.softcap * torch.tanh(scores / options.softcap)

    hidden = ~_visible(attention_mask, position_ids, options.window)[:, None, None]
    scores = scores.reshape(rows, kv_heads, heads // kv_heads, tokens, places)
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = weights.reshape(rows, kv_heads, heads // kv_heads * tokens, places)
    output = (weights @ present_value).reshape(rows, heads, tokens, head_dim)
    return output.transpose(1, 2), present_key, present_value


def _visible(attention_mask: Tensor, position_ids: Tensor, window: int | None) -> Tensor:
    """Which keys a query sees, bool [B, T, P + T]."""
    key_positions = (attention_mask.cumsum(-1) - 1)[:, None, :]
    distance = position_ids[:, :, None] - key_positions
    visible = (attention_mask[:, None, :] > 0) & (distance >= 0)
    return visible if window is None else visible & (distance < window)


def _flat(states: Tensor) -> Tensor:
    """[B, heads, T, head_dim] as the operator wants it, [B, T, heads * head_dim]."""
    rows, heads, tokens, head_dim = states.shape
    return states.transpose(1, 2).reshape(rows, tokens, heads * head_dim)
