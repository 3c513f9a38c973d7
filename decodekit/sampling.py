"""
Sampling: from logits to one token per row, by a chain of processors and a draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from decodekit import noise
from decodekit.columns import best_columns, drop_removed_columns, keep_columns, pick
from decodekit.drawing import sample
from decodekit.errors import ContractError, NumericalError
from decodekit.ops import Array
from decodekit.origin import describe, named
from decodekit.processors import LogitsProcessor, State, Step


@dataclass(frozen=True)
class Sampler:
    """Processors in order, then one draw. Holds parameters only; state passes through."""

    processors: tuple[LogitsProcessor, ...] = ()
    compact: bool = True  # False only to test that compaction changes nothing

    def init(self, batch: int) -> tuple[State, ...]:
        return tuple(_init(processor, batch) for processor in self.processors)

    def __call__(
        self, logits: Array, step: Step, states: tuple[State, ...]
    ) -> tuple[Array, tuple[State, ...]]:
        """Token ids, int [B], drawn from logits [B, V]; and the states after them."""
        draw = self.draw(logits, step, states)
        return draw.tokens, draw.states

    def draw(self, logits: Array, step: Step, states: tuple[State, ...]) -> Draw:
        """One token per row from logits [B, V], the columns of `step` in ascending order of id."""
        if not self._takes_best:
            check_logits(logits, step)
        stages, left, shaped = self.shape(logits, step, states)
        if left.shape[-1] == 1:
            score, tokens = left[:, 0], shaped.ids[:, 0]
        else:
            column = sample(left, noise.keys(step.rows), shaped.ids)
            score, tokens = pick(left, column), pick(shaped.ids, column)
        if not _finite(score):
            check_logits(logits, step)
            raise self.culprit(stages, step)
        return Draw(tokens, self.accept(tokens, stages, step, states), stages, score, left.shape[-1])

    @property
    def _takes_best(self) -> bool:
        """Whether the model's best candidate is taken, so that one look at it tells whether all is well."""
        return self.compact and bool(self.processors) and self.processors[0].keeps_best

    def shape(self, logits: Array, step: Step, states: tuple[State, ...]) -> tuple[list[Stage], Array, Step]:
        """The stages of the chain; and what is left to draw from, logits [B, N] and the step with its ids."""
        stages = []
        for processor, state in zip(self.processors, states, strict=True):
            if processor.keeps_best and self.compact:
                logits, step = best_columns(logits, step)
                stages.append(Stage(logits, step.ids))
                continue
            if self.compact and (kept := _keep(processor, logits, step, state)) is not None:
                logits, step = kept
                stages.append(Stage(logits, step.ids))
                continue
            logits = _process(processor, logits, step, state)
            stages.append(Stage(logits, step.ids))
            if self.compact:
                logits, step = drop_removed_columns(logits, step)
        return stages, logits, step

    def accept(
        self, tokens: Array, stages: Iterable[Stage], step: Step, states: tuple[State, ...]
    ) -> tuple[State, ...]:
        """The states after `tokens` int [B], drawn or forced, behind a step with these stages.

        A strategy that had removed a token, or was never shown it, keeps its state.
        """
        return tuple(
            _accept(processor, state, stage, tokens, step)
            for processor, state, stage in zip(self.processors, states, stages, strict=True)
        )

    def after(self, done: int) -> Sampler:
        """The same without the first `done` processors."""
        return replace(self, processors=self.processors[done:])

    @property
    def remembers(self) -> bool:
        """Whether a token may change a state."""
        return any(type(p).accept is not LogitsProcessor.accept for p in self.processors)

    @property
    def takes_back(self) -> bool:
        """Whether a strategy may take tokens back."""
        return any(type(p).take_back is not LogitsProcessor.take_back for p in self.processors)

    def culprit(self, stages: Iterable[Stage], step: Step) -> ContractError:
        """The error that names who left nothing to draw from, or what is not a number."""
        for processor, stage in zip(self.processors, stages, strict=True):
            if np.isnan(stage.logits).any() or np.isposinf(stage.logits).any():
                return ContractError(f"{describe(processor)} gave NaN or +inf at {_place(step)}")
            if (stage.logits == -np.inf).all(axis=-1).any():
                return ContractError(f"no candidate left after {describe(processor)} at {_place(step)}")
        raise AssertionError("a draw was not finite although every stage was")


@dataclass(frozen=True, slots=True)
class Stage:
    """What one processor returned: logits [B, N] of the candidates `ids` [B, N]."""

    logits: Array
    ids: Array


@dataclass(frozen=True, slots=True)
class Draw:
    """What a sampler did at one step.

    tokens  int [B]
    states  of the processors, after these tokens
    stages  what each processor returned, in order
    scores  float [B], the tokens' logits after the chain
    width   N, the columns that were left to draw from
    """

    tokens: Array
    states: tuple[State, ...]
    stages: Sequence[Stage]
    scores: Array
    width: int


def check_logits(logits: Array, step: Step) -> None:
    """Raise NumericalError unless the model's logits [B, V] are numbers with a finite best one."""
    top = logits.max(axis=-1)
    if not _finite(top):
        kind = "NaN" if np.isnan(top).any() else "+inf" if np.isposinf(top).any() else "-inf everywhere"
        raise NumericalError(
            f"the model gave {kind} logits at {_place(step)}; check its dtype with a float32 bundle"
        )


def _init(processor: LogitsProcessor, batch: int) -> State:
    with named(processor, "its start"):
        return processor.init(batch)


def _process(processor: LogitsProcessor, logits: Array, step: Step, state: State) -> Array:
    with named(processor, _place(step)):
        out = processor.process(_read_only(logits), step, state)
    if getattr(out, "shape", None) != logits.shape or out.dtype != logits.dtype:
        got = f"{out.dtype} {list(out.shape)}" if hasattr(out, "shape") else repr(type(out).__name__)
        raise ContractError(
            f"{describe(processor)} must keep shape and dtype, {logits.dtype} {list(logits.shape)}, got {got}"
        )
    return out


def _keep(processor: LogitsProcessor, logits: Array, step: Step, state: State) -> tuple[Array, Step] | None:
    """What a processor says it keeps of one row; None: it does not say, or nothing."""
    kind = type(processor)
    silent = kind.survivors is LogitsProcessor.survivors and kind.mask is LogitsProcessor.mask
    if silent or len(logits) > 1:
        return None
    with named(processor, _place(step)):
        kept = processor.survivors(_read_only(logits), step, state)
        if kept is None or not (kept.any() if kept.dtype == bool else kept.size):
            return None
        return keep_columns(logits, step, kept)


def _accept(processor: LogitsProcessor, state: State, stage: Stage, tokens: Array, step: Step) -> State:
    if type(processor).accept is LogitsProcessor.accept:
        return state
    column = np.argmax(stage.ids == tokens[:, None], axis=-1)
    survived = (pick(stage.ids, column) == tokens) & np.isfinite(pick(stage.logits, column))
    if not survived.all():
        return state
    with named(processor, _place(step)):
        return processor.accept(_read_only(stage.logits), column, state)


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _finite(row: Array) -> bool:
    """Whether all numbers are finite."""
    return math.isfinite(row[0]) if len(row) == 1 else bool(np.isfinite(row).all())


def _place(step: Step) -> str:
    return "token " + ", ".join(str(len(row.generated)) for row in step.rows)
