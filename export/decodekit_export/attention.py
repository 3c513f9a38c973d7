"""
Attention as the graph will have it: two ways to attend to a past.

`in_place` is one operator, com.microsoft::GroupQueryAttention, which appends to the cache
it reads when past and present are the same memory. `plain` is tensor code over keys that the
cache has put together. Both give query t of a row every key of that row whose position is not
after its own, positions being counted per row, so rows of unequal length may share a batch.

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

from decodekit_export.cache import BYPASSED, PassThroughCache, widened
from decodekit_export.errors import ExportError
from decodekit_export.rotary import Rotation

NAME = "decodekit"  # what a model's configuration calls this attention

Attend = Callable[[Tensor, Tensor, Tensor, "Options"], Tensor]


@dataclass(frozen=True, slots=True)
class Options:
    """What a layer asks of its attention.

    scale    factor on query . key
    softcap  c in c * tanh(score / c), > 0; 0 leaves scores alone
    window   a query sees that many keys, its own included; None: all
    chunk    a query sees no key of another chunk of that many positions; None: all
    sinks    [heads], scores of a key without a value that every query of a head sees; None: there is none
    """

    scale: float
    softcap: float = 0.0
    window: int | None = None
    chunk: int | None = None
    sinks: Tensor | None = None


@contextmanager
def attending(model: PreTrainedModel, attend: Attend) -> Iterator[None]:
    """Inside this context the layers of `model` attend by `attend`; at its end, one of them must have."""
    attended = False

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
        **others: Any,
    ) -> tuple[Tensor, None]:
        nonlocal attended
        attended = True
        _refuse_others(module, {"attention_mask": attention_mask, **others})
        scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
        options = Options(scale, softcap or 0.0, sliding_window, chunk_size(module), s_aux)
        return attend(query, key, value, options), None

    with attending_by(model, NAME, attention):
        yield
    if not attended:
        raise ExportError(BYPASSED)


@contextmanager
def attending_by(model: Any, name: str, attention: Callable[..., tuple[Tensor, None]]) -> Iterator[None]:
    """Inside this context the layers of `model` call a function for attention, known under that name."""
    AttentionInterface.register(name, attention)
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def chunk_size(layer: nn.Module) -> int | None:
    """Positions that see each other in a layer that attends by chunks; None: it does not."""
    config = getattr(layer, "config", None)
    kinds = getattr(config, "layer_types", None) or ()
    index = getattr(layer, "layer_idx", len(kinds))
    chunked = index < len(kinds) and kinds[index] == "chunked_attention"
    return int(config.attention_chunk_size) if chunked else None  # type: ignore[union-attr]


def in_place(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Options,
    *,
    cache: PassThroughCache,
    lengths: Tensor,
    total_length: Tensor,
    turn: Rotation | None = None,
) -> Tensor:
    """Output [B, T, heads, value size]. Takes the layer's past from the cache and puts its present there.

    query, key, value  [B, heads, T, size], the latter two with kv_heads
    lengths            int32 [B], tokens in each row's cache after this call
    total_length       int32 [], the largest of them
    turn               how the operator turns queries and keys; None: they are turned, or never are
    """
    past_key, past_value = cache.take()
    (_, kv_heads, _, head_dim), size = past_key.shape, value.shape[-1]
    if key.shape[1] != kv_heads:
        raise ExportError(
            f"caches {kv_heads} heads and attends to {key.shape[1]}, which an in-place cache cannot; "
            "export with --cache concatenating"
        )
    if options.chunk is not None:
        raise ExportError("a layer attends by chunks; export with --cache concatenating")
    query, key, value = (widened(states, head_dim) for states in (query, key, value))
    rows, heads, tokens, _ = query.shape
    tables = () if turn is None else (turn.cos, turn.sin)
    sinks = () if options.sinks is None else (*(None,) * (4 - len(tables)), options.sinks)
    output, present_key, present_value = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::GroupQueryAttention",
        (*map(_flat, (query, key, value)), past_key, past_value, lengths - 1, total_length, *tables, *sinks),
        {
            "do_rotary": int(turn is not None),
            "rotary_interleaved": int(turn is not None and turn.interleaved),
            "num_heads": heads,
            "kv_num_heads": kv_heads,
            "scale": options.scale,
            "softcap": options.softcap,
            "local_window_size": -1 if options.window is None else options.window,
        },
        dtypes=(query.dtype, past_key.dtype, past_value.dtype),
        shapes=((rows, tokens, heads * head_dim), past_key.shape, past_value.shape),
        version=1,
    )
    cache.put(present_key, present_value)
    output = output.reshape(rows, tokens, heads, head_dim)
    return output if size == head_dim else output[..., :size].contiguous()


def plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    options: Options,
    *,
    attention_mask: Tensor,
    position_ids: Tensor,
) -> Tensor:
    """Output [B, T, heads, value size].

    query           [B, heads, T, size]
    key, value      [B, kv_heads, P + T, size]
    attention_mask  int64 [B, P + T], 1 where a place of the cache holds a token
    position_ids    int64 [B, T], counted over the tokens of the row, not over places
    """
    rows, heads, tokens, size = query.shape
    kv_heads, places = key.shape[1:3]
    grouped = query.reshape(rows, kv_heads, heads // kv_heads * tokens, size)
    scores = grouped @ key.transpose(2, 3) * options.scale
    if options.softcap:
        scores = options.softcap * torch.tanh(scores / options.softcap)

    hidden = ~_visible(attention_mask, position_ids, options)[:, None, None]
    scores = scores.reshape(rows, kv_heads, heads // kv_heads, tokens, places)
    scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    weights = _softmax(scores, options.sinks).to(query.dtype)
    weights = weights.reshape(rows, kv_heads, heads // kv_heads * tokens, places)
    output = (weights @ value).reshape(rows, heads, tokens, value.shape[-1])
    return output.transpose(1, 2).contiguous()


def _visible(attention_mask: Tensor, position_ids: Tensor, options: Options) -> Tensor:
    """Which keys a query sees, bool [B, T, P + T]."""
    key_positions = (attention_mask.cumsum(-1) - 1)[:, None, :]
    positions = position_ids[:, :, None]
    visible = (attention_mask[:, None, :] > 0) & (positions >= key_positions)
    if options.window is not None:
        visible = visible & (positions - key_positions < options.window)
    if options.chunk is not None:
        visible = visible & (positions // options.chunk == key_positions // options.chunk)
    return visible


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Weights of scores [B, kv_heads, heads / kv_heads, T, places], float32, a sink taking its share."""
    if sinks is None:
        return torch.softmax(scores, dim=-1, dtype=torch.float32)
    rows, kv_heads, group, tokens, _ = scores.shape
    beside = sinks.reshape(1, kv_heads, group, 1, 1).expand(rows, -1, -1, tokens, -1)
    return torch.softmax(torch.cat([scores, beside], dim=-1), dim=-1, dtype=torch.float32)[..., :-1]


HARMLESS = ("position_ids", "cache_position")  # tensors that a layer passes on and attention does not need


def _refuse_others(layer: nn.Module, arguments: dict[str, Any]) -> None:
    """An argument that would change the answer and is not known must not be lost."""
    changing = [n for n, a in arguments.items() if isinstance(a, Tensor) and n not in HARMLESS]
    if changing:
        raise ExportError(
            f"{type(layer).__name__} gives its attention {', '.join(changing)}, which the graph's cannot take"
        )


def _flat(states: Tensor) -> Tensor:
    """[B, heads, T, head_dim] as the operator wants it, [B, T, heads * head_dim]."""
    rows, heads, tokens, head_dim = states.shape
    return states.transpose(1, 2).reshape(rows, tokens, heads * head_dim)
