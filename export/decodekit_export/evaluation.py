"""Evaluation: what a model makes of completions it is shown, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from decodekit_export.collate import IGNORED, Collate, Items
from decodekit_export.data import Row
from decodekit_export.loss import following, logits_of_trained, only_trained, token_losses
from decodekit_export.row_file import lengths_of


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Over all trained tokens of some rows.

    loss      cross entropy, nats a token
    accuracy  share of tokens that were the most probable after what comes before them, in [0, 1]
    """

    loss: float
    accuracy: float

    @staticmethod
    def of(sums: torch.Tensor) -> Evaluation:
        """From the `sums` of all processes."""
        total, right, tokens = sums.tolist()
        return Evaluation(total / tokens, right / tokens)


@torch.no_grad()
def sums(model: Any, rows: Sequence[Row], batch_size: int, rank: int = 0, world: int = 1) -> torch.Tensor:
    """Cross entropy, tokens foreseen and tokens in all, float64 [3].

    How rows are batched is of no consequence.

    rank, world  every `world`-th row from number `rank` on; the sums of several processes add up
    """
    model.eval()
    device = next(model.parameters()).device
    found = torch.zeros(3, dtype=torch.float64, device=device)
    collate = Collate(pad_id=0)
    items, own = Items(rows), np.arange(rank, len(rows), world)
    order = own[np.argsort(lengths_of(rows)[own], kind="stable")].tolist()
    for start in range(0, len(order), batch_size):
        batch = collate([items[i] for i in order[start : start + batch_size]])
        next_ids = following(batch["labels"].to(device))
        with only_trained(model, next_ids):
            logits = model(input_ids=batch["input_ids"].to(device), use_cache=False).logits
        trained = next_ids[next_ids != IGNORED]
        found[0] += token_losses(logits, next_ids).double().sum()
        found[1] += (logits_of_trained(logits, next_ids).argmax(-1) == trained).sum()
        found[2] += len(trained)
    return found
