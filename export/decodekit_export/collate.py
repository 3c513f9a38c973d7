"""
Batches: rows, or windows of packed rows, of unequal length as tensors, padded on the right.

Labels come from the mask. Which id pads is of no consequence: nothing that is trained attends to
a padded place and its label is IGNORED, so it may well be the id of the stop token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch

from decodekit_export.row_file import Ints, Row, lengths_of

IGNORED = -100  # the label of a place that is not trained, as torch's cross entropy has it

Batch = dict[str, Any]


class Collate:
    """Makes a batch of rows: ids, labels [B, T], and the line of each row.

    There is no attention mask: padding is on the right, and nothing attends to what comes after it. Without
    one, attention takes its fastest form.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[dict[str, Any]]) -> Batch:
        return {
            "input_ids": padded([item["input_ids"] for item in items], self.pad_id),
            "labels": labels(items),
            "use_cache": False,
            "lines": [item["line"] for item in items],
        }


class CollatePacked:
    """Makes a batch of `Packed` windows: ids, positions, labels [B, T], and the lines of all their rows.

    Without an attention mask and without a cache, transformers' models keep apart the tokens of a
    window whose positions do not count on. Padding is a row of its own, behind the others.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, items: Sequence[dict[str, Any]]) -> Batch:
        length = max(len(item["input_ids"]) for item in items)
        counted = [[*at, *range(length - len(at))] for item in items if (at := item["position_ids"])]
        return {
            "input_ids": padded([item["input_ids"] for item in items], self.pad_id),
            "position_ids": torch.tensor(counted),
            "labels": labels(items),
            "use_cache": False,
            "lines": [line for item in items for line in item["lines"]],
        }


def labels(items: Sequence[dict[str, Any]]) -> torch.Tensor:
    """The ids where they are trained, IGNORED elsewhere, int64 [B, T]."""
    rows = [zip(item["input_ids"], item["mask"], strict=True) for item in items]
    return padded([[id if trained else IGNORED for id, trained in row] for row in rows], IGNORED)


def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Rows of unequal length as one tensor, filled up on the right, int64 [B, T]."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows])


class Items(Sequence[dict[str, Any]]):
    """Rows as the mappings that a trainer's data loader takes and groups by length, made when asked for."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> Ints:
        """Tokens of each, int64 [rows]."""
        return lengths_of(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Items: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Items:
        if isinstance(index, slice):
            return Items(self._rows[index])
        row = self._rows[index]
        return {"input_ids": row.ids, "mask": row.mask, "line": row.line}
