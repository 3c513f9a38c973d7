"""
Attention of packed rows: each row to itself, and nothing computed of one row to another.

A mask makes attention compute a whole window, which costs its square, and throws most of it away. Here the
rows are taken out of their windows, those of about one length together, attend as the rows of a batch
do, and are put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from decodekit_export.attention import attending_by

NAME = "decodekit_packed"  # what a model's configuration calls this attention
WINDOWS = ("sliding_window", "attention_chunk_size")  # how far a query sees, in configurations
KINDS = {"full_attention", "sliding_attention", "chunked_attention"}  # of layers, of those that are named


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a batch of windows are.

    groups  for each group of R rows of up to L tokens, the places of their tokens in the windows end to
            end, int64 [R, L]; a shorter row repeats its last
    back    the place of each token among those of all groups, int64 [B * T]
    """

    groups: tuple[Tensor, ...]
    back: Tensor

    @staticmethod
    def of(position_ids: Tensor) -> Layout:
        """A row begins where a position [B, T] is 0."""
        positions = position_ids.flatten().cpu()
        starts = (positions == 0).nonzero().squeeze(1)
        lengths = torch.diff(starts, append=torch.tensor([len(positions)]))
        doublings = torch.tensor([(length - 1).bit_length() for length in lengths.tolist()])
        groups, back, done = [], torch.empty_like(positions), 0
        for doubling in sorted(set(doublings.tolist())):
            alike = doublings == doubling
            first, length = starts[alike, None], lengths[alike, None]
            columns = torch.arange(int(length.max()))
            places = first + torch.minimum(columns, length - 1)
            own = columns < length
            back[places[own]] = done + torch.arange(places.numel()).reshape(places.shape)[own]
            done += places.numel()
            groups.append(places.to(position_ids.device))
        return Layout(tuple(groups), back.to(position_ids.device))


def takes_rows_apart(model: Any, capacity: int) -> bool:
    """Whether rows of up to `capacity` tokens may attend by torch's attention, each query to all before."""
    config = model.config
    sees = [seen for name in WINDOWS if (seen := getattr(config, name, None)) is not None]
    replaceable = getattr(model, "_supports_attention_backend", False)
    return (
        replaceable
        and config._attn_implementation == "sdpa"
        and KINDS.issuperset(getattr(config, "layer_types", None) or ())
        and min(sees, default=capacity) >= capacity
    )


@contextmanager
def rows_apart(model: Any, position_ids: Tensor) -> Iterator[None]:
    """Inside the block, the rows of windows with these positions [B, T] attend apart.

    Backward passes belong in the block too, since they may compute activations again.
    """
    layout = Layout.of(position_ids)

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        return attend_apart(module, query, key, value, layout, **options), None

    with attending_by(model, NAME, attention):
        yield


def attend_apart(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, layout: Layout, **options: Any
) -> Tensor:
    """Queries [B, H, T, D] to the keys and values [B, G, T, D] of their own rows, as [B, T, H, D]."""
    flat = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]
    parts = []
    for places in layout.groups:
        taken = (tensor.index_select(0, places.flatten()) for tensor in flat)
        q, k, v = (rows.reshape(*places.shape, *rows.shape[1:]).transpose(1, 2) for rows in taken)
        attended, _ = sdpa_attention_forward(module, q, k, v, attention_mask=None, **options)
        parts.append(attended.flatten(0, 1))
    together = torch.cat(parts).index_select(0, layout.back)
    return together.reshape(len(query), -1, *together.shape[1:])
