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
        if self.whole:
            return ids[ids < self.ids.shape[-1]]
        here = self.ids[row]
        place = np.full(int(here.max()) + 1, -1)
        place[here[::-1]] = np.arange(len(here))[::-1]  # of columns that repeat an id the first counts
        found = place[ids[ids < len(place)]]
        return found[found >= 0]

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
        raise NotImplementedError

    def survivors(self, logits: Array, step: Step, state: State) -> Array | None:
        """A shortcut past `process` for who only removes candidates: those of one row [1, N] that stay.

        Their columns, int [M], ascending, or a mask, bool [N]; None: ask `process`. NumPy only.
        """
        return None

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


@lru_cache(maxsize=64)
def _all_ids(batch: int, vocabulary: int) -> Array:
    return np.broadcast_to(np.arange(vocabulary), (batch, vocabulary))
