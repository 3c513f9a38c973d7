"""
The order of rows: which ones make the batches of an epoch.

A function of seed and epoch alone, so a run that goes on after an interruption meets the rows that the
unbroken one would have met, and processes that share a run agree without a word: of a step's
rows each takes every `world`-th.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from torch.utils.data import Sampler

WIDE = 50  # steps whose rows are sorted together: little padding, and much is left to chance


class Batches(Sampler[list[int]]):
    """Batches of row numbers for one process of `world`; set `epoch` before each pass.

    The rows of a step depend on their number alone, not on the batches and processes it is spread over.

    lengths     tokens of each row; at least `world` rows
    batch_size  rows of a batch of one process; the last batch takes one more rather than leave a process idle
    accumulate  batches of a step
    grouped     whether rows of like length share a step
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        accumulate: int,
        grouped: bool,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.epoch = 0
        self._lengths = lengths
        self._batch = batch_size * world  # rows of all processes, in a batch of each
        self._step = self._batch * accumulate
        self._grouped = grouped
        self._seed, self._rank, self._world = seed, rank, world

    def __len__(self) -> int:
        whole, rest = divmod(len(self._lengths), self._batch)
        return whole + (rest >= self._world)

    def __iter__(self) -> Iterator[list[int]]:
        chance = torch.Generator().manual_seed((self._seed << 20) + self.epoch)
        order = torch.randperm(len(self._lengths), generator=chance).tolist()
        if self._grouped:
            order = self._sorted(order, chance)
        starts = [self._batch * i for i in range(len(self))]
        for start, end in zip(starts, [*starts[1:], None], strict=True):
            yield order[start:end][self._rank :: self._world]

    def _sorted(self, order: list[int], chance: torch.Generator) -> list[int]:
        """Whole steps of rows of like length, in any order; then the rest."""
        whole = len(order) - len(order) % self._step
        wide = WIDE * self._step
        pieces = [order[start : min(start + wide, whole)] for start in range(0, whole, wide)]
        rows = [row for piece in pieces for row in sorted(piece, key=self._lengths.__getitem__)]
        steps = torch.randperm(whole // self._step, generator=chance).tolist()
        shuffled = [row for i in steps for row in rows[i * self._step : (i + 1) * self._step]]
        return shuffled + sorted(order[whole:], key=self._lengths.__getitem__)


class Epochs(transformers.TrainerCallback):
    """Tells `batches` which pass over the rows begins."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._batches.epoch = int(state.epoch or 0)
