"""
Packing: several short rows in one window, so that little of a batch is padding.

Which rows share a window is best-fit decreasing: the longest rows first, each into the fullest
window that still has room for it. Rows in a window never see each other: positions begin again
with every row, and transformers' masks keep apart what does not count on. Not every architecture
asks for those masks, so a model is tried before it is trained. Where it can, it does without them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import torch

from decodekit.errors import ParameterError
from decodekit_export.packed_attention import rows_apart, takes_rows_apart
from decodekit_export.row_file import Ints, Row, lengths_of


def windows_of(lengths: Sequence[int] | Ints, capacity: int, seed: int = 0) -> Ints:
    """The number of the window that each row goes into, int64 [rows].

    lengths   tokens of each row, in [1, capacity]
    capacity  tokens of a window
    seed      decides among rows of one length

    Johnson, "Near-optimal bin packing algorithms", 1973: at most 11/9 of the best number, plus one.
    """
    lengths = np.asarray(lengths, np.int64)
    if len(lengths) and lengths.max() > capacity:
        raise ParameterError(f"packing: a row of {lengths.max()} tokens does not fit a window of {capacity}")
    shuffled = np.random.default_rng(seed).permutation(len(lengths))
    longest_first = shuffled[np.argsort(-lengths[shuffled], kind="stable")]

    windows = np.empty(len(lengths), np.int64)
    having: defaultdict[int, list[int]] = defaultdict(list)  # room left -> windows
    rooms: list[int] = []  # the keys of `having`, sorted
    opened = 0
    for row in longest_first:
        length = int(lengths[row])
        at = bisect_left(rooms, length)
        if at == len(rooms):
            window, room = opened, capacity
            opened += 1
        else:
            room = rooms[at]
            window = having[room].pop()
            if not having[room]:
                del having[room], rooms[at]
        windows[row] = window
        if left := room - length:
            if left not in having:
                insort(rooms, left)
            having[left].append(window)
    return windows


class Packed(Sequence[dict[str, Any]]):
    """Windows as the mappings that a trainer's data loader takes, for `CollatePacked`.

    rows      what is packed
    capacity  tokens of a window, at least the longest row
    """

    def __init__(self, rows: Sequence[Row], capacity: int, seed: int = 0) -> None:
        self._rows = rows
        lengths = lengths_of(rows)
        windows = windows_of(lengths, capacity, seed)
        self._order = np.argsort(windows, kind="stable")
        self._ends = np.cumsum(np.bincount(windows))
        self.lengths: Ints = np.bincount(windows, weights=lengths).astype(np.int64)  # tokens of each window

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Sequence[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        window = range(len(self))[index]
        start = self._ends[window - 1] if window else 0
        rows = [self._rows[row] for row in self._order[start : self._ends[window]]]
        return {
            "input_ids": [id for row in rows for id in row.ids],
            # The token before a row is of another row and must not be trained to predict its first.
            "mask": [trained and i > 0 for row in rows for i, trained in enumerate(row.mask)],
            "position_ids": [i for row in rows for i in range(len(row.ids))],
            "lines": [row.line for row in rows],
        }


@torch.no_grad()
def attends_apart(model: Any, capacity: int) -> bool:
    """Whether `rows_apart` is good for the model in windows of that many tokens; otherwise, masks are.

    Refuses a model in which the rows of a window see each other all the same.
    """
    ids = torch.arange(1, 9, device=model.device).remainder(model.config.vocab_size)[None]
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2]], device=model.device)
    was_training = model.training
    model.eval()
    try:
        rows = [model(input_ids=row, use_cache=False).logits for row in (ids[:, :5], ids[:, 5:])]
        alone = torch.cat(rows, dim=1)
        most = 1e-4 * max(alone.abs().max().item(), 1.0)
        if takes_rows_apart(model, capacity):
            with rows_apart(model, positions):
                together = model(input_ids=ids, position_ids=positions, use_cache=False).logits
            if (together - alone).abs().max().item() <= most:
                return True
        together = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    finally:
        model.train(was_training)
    difference = (together - alone).abs().max().item()
    if not difference <= most:
        raise ParameterError(
            f"packing: in {type(model).__name__} the rows of a window see each other "
            f"(logits differ by {difference:.2g}); train it without packing"
        )
    return False
