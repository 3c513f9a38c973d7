"""
Beam search: carry several answers on at once, and keep those that are most probable as a whole.

An answer's score is the sum of the log-probabilities of its tokens, the end token included,
divided by their number to the power of `length_penalty`. At each step all ways on, every
running answer with every token, are ranked by their sums. Of the best `beams` of them, those
that end are kept by score, at most `beams` of them in all; the best `beams` that do not end run
on. At the last token that there is room for, every way ends. The search is over when nothing
runs, or when there are `beams` ended answers and

    early_stopping True     at once
    early_stopping False    the best running one, were it to end now, would not beat the worst of them
    early_stopping "never"  nor would it, for a length penalty > 0, if it ended as late as it may

Of equals the earlier comes first: the better running answer, then the lower id; what ended
earlier. Strategies of a chain apply to log-probabilities, which are not normalised again.

This is the search of transformers 5.23, `_beam_search` in `generation/utils.py`, where equals
come in the order of torch.topk, which is not specified; its stopping rules are discussed in
huggingface/transformers#20901. Beam search: Graves, "Sequence Transduction with Recurrent Neural
Networks", 2012, arXiv:1211.3711, section 2.5. Length: Wu et al., "Google's Neural Machine
Translation System", 2016, arXiv:1609.08144, section 7; Murray and Chiang, "Correcting Length
Bias in Neural Machine Translation", WMT 2018, arXiv:1808.10006.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decodekit.errors import ParameterError
from decodekit.history import History
from decodekit.ops import Array, log_softmax
from decodekit.parameters import real, whole
from decodekit.processors import State, Step
from decodekit.sampling import Sampler, Stage, check_logits

MAX_BEAMS = 128


@dataclass(frozen=True, slots=True)
class Rules:
    """How wide the search is, how answers compare, and when it is over.

    beams           answers that run at once, in [1, 128]
    length_penalty  exponent of the length, in [-16, 16]; 0: none; the higher, the longer the answers
    early_stopping  True, False or "never"
    """

    beams: int
    length_penalty: float
    early_stopping: Any

    def __post_init__(self) -> None:
        whole("beams", self.beams, f"[1, {MAX_BEAMS}]")
        real("length_penalty", self.length_penalty, "[-16, 16]")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise ParameterError(
                f"early_stopping must be True, False or 'never', got {self.early_stopping!r}"
            )

    def score(self, total: float, length: int) -> float:
        """Of `length` tokens whose log-probabilities sum to `total`."""
        return total / math.pow(length, self.length_penalty)


@dataclass(frozen=True, slots=True)
class Path:
    """An answer under way.

    ids       int64 [T], prompt and generated ids, read-only
    logprobs  what each generated token adds to the sum, nats
    total     their sum
    states    of the strategies
    parent    which of the paths that ran before it goes on from
    """

    ids: Array
    logprobs: tuple[float, ...] = ()
    total: float = 0.0
    states: tuple[State, ...] = ()
    parent: int = 0

    def then(self, id: int, logprob: float, states: tuple[State, ...], parent: int) -> Path:
        """With one more token."""
        ids = np.append(self.ids, id)
        ids.flags.writeable = False
        return Path(ids, (*self.logprobs, logprob), self.total + logprob, states, parent)


@dataclass(frozen=True, slots=True)
class Look:
    """The best ways on from one path, best first.

    ids       int [N], candidates
    logprobs  float64 [N], what each adds to the sum, nats
    """

    ids: Array
    logprobs: Array
    stages: Sequence[Stage]
    step: Step


class Search:
    """The search. It asks no model; the caller does.

    room  tokens that an answer has at most
    ends  ids that end one
    """

    def __init__(
        self, prompt: Sequence[int], sampler: Sampler, rules: Rules, *, room: int, ends: Collection[int]
    ) -> None:
        ids = np.array(prompt, np.int64)
        ids.flags.writeable = False
        self.running = [Path(ids, states=sampler.init(batch=1))]  # best first
        self.ended: list[Path] = []  # by score, best first
        self._sampler, self._rules = sampler, rules
        self._asked, self._room, self._ends = len(ids), room, ends
        self._enough = (1 + len(ends)) * rules.beams  # one way of a path per end token ends

    @property
    def over(self) -> bool:
        """Whether the rules ask for no further turn."""
        rules = self._rules
        if not self.running or len(self.ended) < rules.beams:
            return not self.running
        late = rules.early_stopping == "never" and rules.length_penalty > 0
        hope = self.running[0]
        hoped = rules.score(hope.total, self._room if late else len(hope.logprobs))
        return rules.early_stopping is True or hoped <= self.score(self.ended[-1])

    def turn(self, logits: Array) -> None:
        """Take a step, from logits float32 [R, V] of what follows each running path."""
        ways, width = self._ways(logits), self._rules.beams
        ending = [path for path in ways[:width] if self._ends_with(path)]
        self.ended = sorted([*self.ended, *ending], key=self.score, reverse=True)[:width]  # stable
        self.running = [path for path in ways if not self._ends_with(path)][:width]

    def score(self, path: Path) -> float:
        """Of a path as an answer."""
        return self._rules.score(path.total, len(path.logprobs))

    def _ends_with(self, path: Path) -> bool:
        return len(path.logprobs) == self._room or int(path.ids[-1]) in self._ends

    def _ways(self, logits: Array) -> list[Path]:
        """The best ways on, best first; so many that `beams` of them do not end, where there are."""
        looks = [self._look(path, row) for path, row in zip(self.running, logits[:, None])]
        totals = np.concatenate([p.total + look.logprobs for p, look in zip(self.running, looks)])
        ways = [(parent, column) for parent, look in enumerate(looks) for column in range(len(look.ids))]
        return [self._go(looks[ways[i][0]], *ways[i]) for i in best(totals, self._enough)]

    def _look(self, path: Path, logits: Array) -> Look:
        step = Step.dense((History(path.ids, self._asked),), logits.shape[-1])
        check_logits(logits, step)
        stages, left, shaped = self._sampler.shape(log_softmax(logits), step, path.states)
        if not np.isfinite(left.max()):
            raise self._sampler.culprit(stages, step)
        columns = best(left[0], self._enough)
        return Look(shaped.ids[0, columns], left[0, columns].astype(np.float64), stages, step)

    def _go(self, look: Look, parent: int, column: int) -> Path:
        path, id = self.running[parent], int(look.ids[column])
        states = self._sampler.accept(np.asarray([id]), look.stages, look.step, path.states)
        return path.then(id, float(look.logprobs[column]), states, parent)


def best(totals: Array, count: int) -> Array:
    """Places of the `count` highest, -inf left out: highest first, of equals the first first."""
    least = np.partition(totals, -count)[-count] if count < len(totals) else -np.inf
    places = np.flatnonzero((totals >= least) & (totals > -np.inf))
    return places[np.argsort(-totals[places], kind="stable")][:count]
