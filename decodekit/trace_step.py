"""
One step of a trace: what the model said, what each strategy made of it, and how the draw fell.

It only looks: at the logits, at the stages a sampler passed through, and at the noise, which
is a function of the place. What it gives is bounded by `top`, however large the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from decodekit import noise
from decodekit.answer import Token
from decodekit.ops import Array
from decodekit.processors import Step
from decodekit.sampling import Draw
from decodekit.stopping import Stop

CONTENDERS = 5  # how many scores of a draw are told


@dataclass(frozen=True, slots=True)
class Removed:
    """The candidates that died at one stage.

    count          how many
    mass           their probability in the distribution that the stage was given
    ids            the most probable of them, best first, at most `top`
    probabilities  of these, in that distribution
    """

    count: int
    mass: float
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StageTrace:
    """The distribution behind one strategy.

    logits   of the step's listed candidates, nats; None: dead
    norm     logarithm of the sum of exp(logit) over all candidates: log p = logit - norm
    entropy  bits
    alive    candidates left
    mass     what the model itself gave to those that are left
    changed  survivors whose logit is another one than before the stage
    """

    logits: tuple[float | None, ...]
    norm: float
    entropy: float
    alive: int
    mass: float
    changed: int
    removed: Removed


@dataclass(frozen=True, slots=True)
class DrawTrace:
    """argmax(logit + noise), over what the chain left.

    ids     the candidates with the highest scores, the winner first, at most 5
    logits  after the chain, nats
    noise   standard Gumbel, keyed by place; None where one candidate was left: nothing was drawn
    margin  score of the winner less that of the runner-up, nats; None where there was none
    """

    ids: tuple[int, ...]
    logits: tuple[float, ...]
    noise: tuple[float, ...] | None
    margin: float | None


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One token.

    id, text           the token, and what it adds to the text
    probability        of the token as the model gave it
    final_probability  after the chain
    rank               of the token among all candidates of the model, from 1
    ids                the listed candidates, by the model's probability: the best `top` of the
                       model, the best `top` of what the chain left, and the token
    logits             theirs as the model gave them, nats; None: -inf
    norm, entropy      of the model's distribution, see `StageTrace`
    stages             one a strategy, in order
    stop               the verdict that ended the answer, on the last step only
    """

    id: int
    text: str
    probability: float
    final_probability: float
    rank: int
    ids: tuple[int, ...]
    logits: tuple[float | None, ...]
    norm: float
    entropy: float
    stages: tuple[StageTrace, ...]
    draw: DrawTrace
    stop: Stop | None

    def mentioned(self) -> Iterator[int]:
        """The ids in it, some more than once."""
        yield from self.ids
        yield from self.draw.ids
        for stage in self.stages:
            yield from stage.removed.ids


def look(logits: Array, step: Step, draw: Draw, token: Token, top: int) -> StepTrace:
    """What happened at a step.

    logits  float [1, V], as the model gave them
    step    what the first strategy was told
    draw    the sampler's account of the step, and `token` what came of it
    top     candidates to list at each place
    """
    model = _Distribution(logits[0].astype(np.float64))
    behind = [
        _Distribution(_spread(stage.logits[0], stage.ids[0], logits.shape[-1])) for stage in draw.stages
    ]
    final = behind[-1] if behind else model
    listed = np.unique([*model.best(top), *final.best(top), token.id])
    listed = listed[np.argsort(-model.logits[listed], kind="stable")]
    return StepTrace(
        id=token.id,
        text=token.text,
        probability=model.probability(token.id),
        final_probability=final.probability(token.id),
        rank=1 + int(np.count_nonzero(model.logits > model.logits[token.id])),
        ids=_whole(listed),
        logits=_optional(model.logits[listed]),
        norm=model.norm,
        entropy=model.entropy,
        stages=tuple(_stage(b, a, model, listed, top) for b, a in zip([model, *behind], behind)),
        draw=_draw(final, step),
        stop=token.stop,
    )


class _Distribution:
    """Logits over the whole vocabulary, float64 [V]; -inf: dead."""

    def __init__(self, logits: Array) -> None:
        self.logits = logits
        self.alive = logits > -np.inf
        living = logits[self.alive]
        best = living.max()
        exp = np.exp(living - best)
        total = float(exp.sum())
        self.norm = float(best) + math.log(total)
        self.probabilities = np.zeros(len(logits))
        self.probabilities[self.alive] = exp / total
        self.entropy = float(exp @ (self.norm - living)) / total / math.log(2)

    def probability(self, id: int) -> float:
        return float(self.probabilities[id])

    def best(self, top: int, among: Array | None = None) -> Array:
        """Ids of the most probable candidates, best first; of equals the lowest."""
        ids = np.flatnonzero(self.alive if among is None else among)
        if len(ids) > top:
            ids = ids[self.logits[ids] >= np.partition(self.logits[ids], -top)[-top]]
        return ids[np.argsort(-self.logits[ids], kind="stable")[:top]]


def _stage(
    before: _Distribution, after: _Distribution, model: _Distribution, listed: Array, top: int
) -> StageTrace:
    gone = before.alive & ~after.alive
    named = before.best(top, gone)
    return StageTrace(
        logits=_optional(after.logits[listed]),
        norm=after.norm,
        entropy=after.entropy,
        alive=int(np.count_nonzero(after.alive)),
        mass=float(model.probabilities[after.alive].sum()),
        changed=int(np.count_nonzero(after.alive & (before.logits != after.logits))),
        removed=Removed(
            count=int(np.count_nonzero(gone)),
            mass=float(before.probabilities[gone].sum()),
            ids=_whole(named),
            probabilities=tuple(before.probabilities[named].tolist()),
        ),
    )


def _draw(final: _Distribution, step: Step) -> DrawTrace:
    ids = np.flatnonzero(final.alive)
    logits = final.logits[ids]
    if len(ids) == 1:
        return DrawTrace(_whole(ids), tuple(logits.tolist()), None, None)
    gumbel = noise.gumbel(noise.keys(step.rows), ids[None])[0]
    scores = logits + gumbel
    order = np.argsort(-scores, kind="stable")[:CONTENDERS]
    return DrawTrace(
        ids=_whole(ids[order]),
        logits=tuple(logits[order].tolist()),
        noise=tuple(gumbel[order].tolist()),
        margin=float(scores[order[0]] - scores[order[1]]),
    )


def _spread(logits: Array, ids: Array, vocabulary: int) -> Array:
    """Over the whole vocabulary, where columns that were dropped are dead."""
    dense = np.full(vocabulary, -np.inf)
    dense[ids] = logits
    return dense


def _whole(ids: Array) -> tuple[int, ...]:
    return tuple(ids.tolist())


def _optional(logits: Array) -> tuple[float | None, ...]:
    return tuple(None if value == -np.inf else value for value in logits.tolist())
