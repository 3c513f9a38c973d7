"""
A contest: how a token that a record tells of fares against the one that is drawn there now.

Rounding may decide between two candidates whose scores are as good as equal. Such a near tie
says nothing against a record; a token that loses by more was not drawn from these numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from decodekit import noise
from decodekit.ops import Array
from decodekit.origin import describe
from decodekit.processors import State, Step
from decodekit.sampling import Draw, Sampler, Stage

NEAR = 1e-3  # nats


@dataclass(frozen=True, slots=True)
class Contest:
    """A recorded token against the drawn one, at one step.

    recorded, drawn  ids
    logit            of the recorded one, as the model gives it, nats
    score            after the chain, nats; None: the chain removes it
    gap              by how much it loses, noise included, nats; where a strategy removes it, by
                     how much it is behind the last candidate that this one keeps
    removed_by       that strategy and its distribution; ""
    """

    recorded: int
    drawn: int
    logit: float
    score: float | None
    gap: float
    removed_by: str = ""

    @property
    def near(self) -> bool:
        """Whether rounding may have decided it."""
        return self.gap < NEAR


def contest(
    sampler: Sampler, logits: Array, step: Step, states: tuple[State, ...], recorded: int, drawn: int
) -> Contest:
    """Of two tokens of the one row of logits [1, V] and `step`, whose ids ascend."""
    stages, left, shaped = sampler.shape(logits, step, states)
    logit, before = float(logits[0, recorded]), Stage(logits, step.ids)
    for processor, stage in zip(sampler.processors, stages, strict=True):
        if _value(stage, recorded) == -np.inf:
            gap = _behind(before, stage, recorded)
            return Contest(recorded, drawn, logit, None, gap, describe(processor))
        before = stage
    total = Stage(left + noise.gumbel(noise.keys(step.rows), shaped.ids), shaped.ids)
    best = _value(total, drawn)
    gap = abs((best if best > -np.inf else float(total.logits.max())) - _value(total, recorded))
    return Contest(recorded, drawn, logit, _value(before, recorded), gap)


class Refuted(Exception):
    """A token of a record that loses by more than rounding, and the step."""

    def __init__(self, step: int, contest: Contest) -> None:
        super().__init__(f"token {step}")
        self.step, self.contest = step, contest


@dataclass(frozen=True)
class Follower(Sampler):
    """A sampler that takes the tokens of a record, where it would draw them or nearly so.

    ids   what it takes, from the first generated token on; at any other it raises `Refuted`
    near  steps at which it took the record's for its own, to be read later
    """

    ids: tuple[int, ...] = ()
    near: list[int] = field(default_factory=list)

    def draw(self, logits: Array, step: Step, states: tuple[State, ...]) -> Draw:
        draw = super().draw(logits, step, states)
        drawn, at = int(draw.tokens[0]), len(step.rows[0].generated)
        if drawn == self.ids[at]:
            return draw
        found = contest(self, logits, step, states, self.ids[at], drawn)
        if not found.near:
            raise Refuted(at, found)
        self.near.append(at)
        tokens = np.asarray([found.recorded])
        scores = draw.scores if found.score is None else np.asarray([found.score])
        after = self.accept(tokens, draw.stages, step, states)
        return Draw(tokens, after, draw.stages, scores, draw.width)


def _value(stage: Stage, id: int) -> float:
    """What a stage gives a candidate; -inf where it is not there."""
    column = np.flatnonzero(stage.ids[0] == id)
    return float(stage.logits[0, column[0]]) if len(column) else -math.inf


def _behind(before: Stage, after: Stage, id: int) -> float:
    """By how much a candidate that is gone was behind the last one kept; inf: it was not behind."""
    kept = after.ids[0][after.logits[0] > -np.inf]
    gap = float(before.logits[0][np.isin(before.ids[0], kept)].min()) - _value(before, id)
    return gap if gap >= 0 else math.inf
