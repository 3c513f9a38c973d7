"""
Logits processors: reshape the next-token distribution before it is sampled.

A processor is a pure function of what it is given. It draws no random numbers,
never writes to its inputs, and keeps what it must remember in a state value
that the caller holds. That is what lets the caller batch it, replay it, trace
it into a graph, and take back a step that speculation rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from decodekit.edits import Edits, allowed, apply_mask
from decodekit.history import History
from decodekit.ops import Array
from decodekit.parameters import check
from decodekit.progress import Progress
from decodekit.tokenizer import Tokenizer

State = Any  # an array with leading axis B, a tuple of those, or ()


@dataclass(frozen=True, slots=True)
class Step:
    """What a processor may know about the step besides the logits.

    rows   one History per row: prompt ids, generated ids
    ids    int [B, N], the token id of each column, read-only
    companion  float [B, V], the model's logits where the same answer follows the `companion_prompt` of
               a strategy, by token id; None: no strategy has one
    """

    rows: tuple[History, ...]
    ids: Array
    companion: Array | None = None

    @staticmethod
    def dense(rows: tuple[History, ...], vocabulary: int, companion: Array | None = None) -> Step:
        """A step whose columns are the whole vocabulary in order."""
        return Step(rows, _all_ids(len(rows), vocabulary), companion)

    @property
    def whole(self) -> bool:
        """Whether the columns are the whole vocabulary in order, as `dense` makes them."""
        batch, width = self.ids.shape
        return bool(self.ids[0, -1] == width - 1) and self.ids is _all_ids(batch, width)

    def columns(self, row: int, ids: Array) -> Array:
        """The columns of a row that hold `ids`, int [M], >= 0, in their order; those gone have none."""
        return self.places(row, ids)[0]

    def places(self, row: int, ids: Array) -> tuple[Array, Array]:
        """The same, and which of the ids have a column, bool [M]."""
        if self.whole:
            there = ids < self.ids.shape[-1]
            return ids[there], there
        here = self.ids[row]
        place = np.full(int(here.max()) + 2, -1)  # the last one is that of all ids above
        place[here[::-1]] = np.arange(len(here))[::-1]  # of columns that repeat an id the first counts
        found = place[np.minimum(ids, len(place) - 1)]
        return found[found >= 0], found >= 0

    def counts(self) -> Array:
        """How often each candidate occurs in prompt and generated ids, int [B, N]."""
        return self._counts([row.ids for row in self.rows])

    def generated_counts(self) -> Array:
        """How often each candidate occurs in the generated ids, int [B, N]."""
        return self._counts([row.generated for row in self.rows])

    def _counts(self, histories: list[Array]) -> Array:
        counts = np.zeros(self.ids.shape, np.int64)
        for row, history in enumerate(histories):
            np.add.at(counts[row], self.columns(row, history), 1)
        return counts


class LogitsProcessor:
    """The contract. Override `process`; the others only to remember something or to look tokens up.

    A strategy without a state that pushes or removes tokens whatever their logits may override `edits`
    instead, one that lets through only some `mask`. With a state it says both; then `process` does to
    each row what they say.

    Columns of the logits are candidates, not token ids: columns that an earlier
    processor removed may be gone. Ask `step.ids` which token a column is.

    The logits are the caller's: they hold until the call returns. A state that
    remembers some of them copies them.

    keeps_best  True: `process` keeps the best candidate of each row and nothing else, of
                equals the lowest id; where that is all, the sampler takes it directly
    """

    keeps_best: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """For dataclasses: check the annotated fields; see `parameters`."""
        check(self)

    def bind(self, tokenizer: Tokenizer) -> LogitsProcessor:
        """This processor, knowing the tokens it works on; called once a request, before `init`."""
        return self

    def companion_prompt(self) -> Any:
        """A second prompt, as `Decoder.generate` takes them, whose logits it wants to see; None: none."""
        return None

    def init(self, batch: int) -> State:
        """State before the first step."""
        return ()

    def process(self, logits: Array, step: Step, state: State) -> Array:
        """Reshaped logits, float [B, N], same shape and dtype; -inf removes a candidate."""
        if type(self).mask is not LogitsProcessor.mask:
            return masked(logits, step, [self.mask(row, state) for row in step.rows])
        return edited(logits, step, [self.edits(row, state) for row in step.rows])

    def edits(self, row: History, state: State) -> Edits | None:
        """What it does to a few tokens of one row, so that a graph can do it too; None: nothing.

        state  of this row alone, as `init(1)` gives it
        """
        raise NotImplementedError

    def mask(self, row: History, state: State) -> Array | None:
        """What it lets through of one row, for a graph too: uint8 [W], bit i % 8 of byte i // 8 is token i.

        None lets through all; tokens beyond it are removed. `state` as for `edits`.
        """
        raise NotImplementedError

    def survivors(self, logits: Array, step: Step, state: State) -> Array | None:
        """A shortcut past `process` for who only removes candidates: those of one row [1, N] that stay.

        Their columns, int [M], ascending, or a mask, bool [N]; None: ask `process`. NumPy only.
        """
        told = type(self).mask is not LogitsProcessor.mask and step.whole
        mask = self.mask(step.rows[0], state) if told else None
        return None if mask is None else allowed(mask, logits.shape[-1])

    def accept(self, logits: Array, column: Array, state: State) -> State:
        """State after `column` int [B] was drawn from the `logits` that `process` returned."""
        return state

    def forced(self, row: History, state: State) -> Sequence[int]:
        """Ids of one row that must come next, in order, as far as it knows, for speculation; () for none."""
        return ()

    def take_back(self, progress: Progress, state: State) -> tuple[int, State] | None:
        """After a token was appended: how many at the end, this one included, to draw again; None: none.

        With it goes the state to draw the first of them with, which must keep the same from coming
        again; the states of all others are those of then.
        """
        return None

    def pending(self, text: str) -> int:
        """How many characters at the end of `text` it may still take back, once more came."""
        return 0


def edited(logits: Array, step: Step, edits: Sequence[Edits | None]) -> Array:
    """The logits [B, N] after the edits of each row; themselves where there are none."""
    out = logits
    for row, edit in enumerate(edits):
        if edit is None:
            continue
        columns, found = step.places(row, edit.ids)
        if len(columns):
            out = logits.copy() if out is logits else out
            out[row][columns] = edit.of(logits[row].take(columns), found)
    return out


def masked(logits: Array, step: Step, masks: Sequence[Array | None]) -> Array:
    """The logits [B, N] of what the mask of each row lets through; themselves where there is none."""
    if all(mask is None for mask in masks):
        return logits
    rows = [
        row if mask is None else apply_mask(row, mask, None if step.whole else ids)
        for row, mask, ids in zip(logits, masks, step.ids, strict=True)
    ]
    return np.stack(rows) if len(rows) > 1 else rows[0][None]


@lru_cache(maxsize=64)
def _all_ids(batch: int, vocabulary: int) -> Array:
    return np.broadcast_to(np.arange(vocabulary), (batch, vocabulary))
