"""
The loss: cross entropy of the trained tokens, and of nothing else.

The logits at a place predict the token at the next, so nothing predicts the first: a row
begins with a token of its prompt, which is not trained. Logits are asked for only where some row
of the batch has a trained token next; of a prompt's places, which are most, none are computed.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.nn import functional

from decodekit_export.collate import IGNORED


def focus(labels: torch.Tensor, keeps: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What asks a model for the logits that count, and the labels [B, K] of what these predict.

    labels  [B, T]
    keeps   whether the model can be asked for some columns only; else for all, K = T
    """
    following = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    if not keeps:
        return {}, following
    columns = (following != IGNORED).any(dim=0).nonzero().squeeze(1)
    return {"logits_to_keep": columns}, following[:, columns]


def keeps_columns(model: Any) -> bool:
    """Whether the model can be asked for the logits at some columns only."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy, nats, of each place, float32 [B * K]; 0 where not trained.

    logits  [B, K, V]
    labels  [B, K], what each place predicts
    """
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )


def loss_of_trained(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Cross entropy, nats, summed over the trained tokens of a batch and divided by `num_items_in_batch`."""
    losses = token_losses(outputs.logits, labels)
    return losses.sum() / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
