"""Evaluation: what a model makes of completions it is shown, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from decodekit_export.collate import IGNORED, Collate, as_items
from decodekit_export.data import Row
from decodekit_export.loss import focus, keeps_columns, token_losses


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Over all trained tokens of some rows.

    loss      cross entropy, nats a token
    accuracy  share of tokens that were the most probable after what comes before them, in [0, 1]
    tokens    how many
    """

    loss: float
    accuracy: float
    tokens: int


def evaluate(model: Any, rows: Sequence[Row], batch_size: int) -> Evaluation:
    """The evaluation of `rows`; how they are batched is of no consequence."""
    total, right, tokens = sums(model, rows, batch_size).tolist()
    return Evaluation(total / tokens, right / tokens, int(tokens))


@torch.no_grad()
def sums(model: Any, rows: Sequence[Row], batch_size: int) -> torch.Tensor:
    """Cross entropy, tokens foreseen and tokens in all, float64 [3]; sums of several processes add up."""
    model.eval()
    keeps = keeps_columns(model)
    device = next(model.parameters()).device
    found = torch.zeros(3, dtype=torch.float64, device=device)
    collate = Collate(pad_id=0)
    items = sorted(as_items(rows), key=lambda item: len(item["input_ids"]))
    for start in range(0, len(items), batch_size):
        batch = collate(items[start : start + batch_size])
        wanted, labels = focus(batch["labels"].to(device), keeps)
        ids, attended = batch["input_ids"].to(device), batch["attention_mask"].to(device)
        logits = model(input_ids=ids, attention_mask=attended, **wanted).logits
        found[0] += token_losses(logits, labels).double().sum()
        found[1] += (logits.argmax(-1) == labels).sum()
        found[2] += (labels != IGNORED).sum()
    return found
