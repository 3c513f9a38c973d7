"""
Batches: rows of unequal length as tensors, padded on the right.

Labels come from the mask. Which id pads is of no consequence: a padded place is not
attended to and its label is IGNORED, so it may well be the id of the stop token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from decodekit_export.data import Row

IGNORED = -100  # the label of a place that is not trained, as torch's cross entropy has it

Batch = dict[str, Any]


class Collate:
    """Makes a batch of rows: ids, attention mask, labels [B, T], and the line of each row."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[dict[str, Any]]) -> Batch:
        length = max(len(item["input_ids"]) for item in items)
        ids = torch.full((len(items), length), self.pad_id, dtype=torch.long)
        labels = torch.full((len(items), length), IGNORED, dtype=torch.long)
        attended = torch.zeros((len(items), length), dtype=torch.long)
        for i, item in enumerate(items):
            row, mask = torch.tensor(item["input_ids"]), torch.tensor(item["mask"])
            ids[i, : len(row)] = row
            labels[i, : len(row)] = row.where(mask, IGNORED)
            attended[i, : len(row)] = 1
        return {
            "input_ids": ids,
            "attention_mask": attended,
            "labels": labels,
            "lines": [item["line"] for item in items],
        }


def as_items(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as the mappings that a trainer's data loader takes and groups by length."""
    return [{"input_ids": row.ids, "mask": row.mask, "line": row.line} for row in rows]
