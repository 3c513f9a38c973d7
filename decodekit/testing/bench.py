"""A bench: three rows on which a processor is tried, and the steps that it goes on them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from decodekit.history import History
from decodekit.ops import Array
from decodekit.processors import LogitsProcessor, State, Step
from decodekit.testing.table_model import frozen

DEAD = 5  # a candidate of the first row that an earlier strategy removed
PROMPTS = ([1, 2, 3, 1, 2, 3, 1, 2], [4, 4, 4, 4], [7])  # two of them repeat themselves
ANSWERED = (3, 1, 0)  # tokens of the answers so far


@dataclass(frozen=True)
class Bench:
    """Three rows of different histories; the answers in them are such as the processor lets through.

    processor  bound to its tokens, where it wants to be
    logits     float32 [3, V], one of them -inf
    step       the columns are all ids, in order
    """

    processor: LogitsProcessor
    logits: Array
    step: Step

    @staticmethod
    def of(processor: LogitsProcessor, vocabulary: int = 257, seed: int = 0) -> Bench:
        draw = np.random.default_rng(seed)
        logits, companion = (draw.standard_normal((2, 3, vocabulary)) * 3).astype(np.float32)
        logits[0, DEAD] = -np.inf
        wants = processor.companion_prompt() is not None
        rows = tuple(
            History(frozen(np.asarray(ids, np.int64)), len(ids), seed) for seed, ids in enumerate(PROMPTS)
        )
        asked = Bench(processor, logits, Step.dense(rows, vocabulary, companion if wants else None))
        answered = tuple(asked.row(i).answered(tokens) for i, tokens in enumerate(ANSWERED))
        return replace(asked, step=replace(asked.step, rows=answered))

    def row(self, i: int) -> Bench:
        """One row alone."""
        companion = None if self.step.companion is None else self.step.companion[i : i + 1]
        step = Step(self.step.rows[i : i + 1], self.step.ids[i : i + 1], companion)
        return replace(self, logits=self.logits[i : i + 1], step=step)

    def columns(self, columns: Array) -> Bench:
        """The same, with these columns only."""
        return replace(
            self, logits=self.logits[:, columns], step=replace(self.step, ids=self.step.ids[:, columns])
        )

    def __call__(self, state: State = None) -> Array:
        """What the processor makes of the logits; writing to an input fails loudly."""
        state = self.processor.init(len(self.logits)) if state is None else state
        return self.processor.process(frozen(self.logits), self.step, state)

    def accept(self, out: Array, state: State) -> State:
        """The state after the best candidate of each row was drawn."""
        return self.processor.accept(frozen(out), frozen(out.argmax(axis=-1)), state)

    def answered(self, tokens: int) -> History:
        """The history of one row, so many of its best candidates later."""
        with suppress(Exception):  # what goes wrong, a law says
            return self.walk(tokens)[1]
        return self.step.rows[0]

    def walk(
        self, steps: int, *, back: int = 0, between: Callable[[], object] | None = None
    ) -> tuple[list[Array], History]:
        """What comes out, [V] each step, and the history along the best candidates of one row.

        back     steps that it goes further, and takes back, before the last of `steps`
        between  called after each `process`
        """
        outs: list[Array] = []
        states, rows = [self.processor.init(1)], [self.step.rows[0]]
        for going in range(steps + back):
            if going == steps:
                del outs[steps - back :], states[steps - back + 1 :], rows[steps - back + 1 :]
            out = replace(self, step=replace(self.step, rows=(rows[-1],)))(states[-1])
            if between is not None:
                between()
            outs.append(out[0])
            states.append(self.accept(out, states[-1]))
            rows.append(_longer(rows[-1], int(self.step.ids[0, out[0].argmax()])))
        return outs, rows[-1]


def _longer(history: History, id: int) -> History:
    return replace(history, ids=frozen(np.append(history.ids, id)))
