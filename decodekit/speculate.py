"""
Speculation: guess the next tokens cheaply, check them in one call of the model.

Lossless, because the sampler is pure and its noise belongs to positions: after a call over
the guesses it draws at each of them what it would have drawn anyway. A guess is that token,
or it and those behind it are dropped. Nothing about a strategy changes.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
arXiv:2211.17192, accept by rejection sampling; the form used here, shared noise, is Daliri,
Musco and Suresh, "Coupling without Communication and Drafter-Invariant Speculative
Decoding", 2024, arXiv:2408.07978. Prompt lookup: Saxena, 2023; Yang et al., "Inference with
Reference", 2023, arXiv:2304.04487.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from decodekit.answer import Answer
from decodekit.cached_model import PIECE, CachedModel
from decodekit.costs import MEMORY, Costs
from decodekit.model import Model
from decodekit.processors import Step
from decodekit.sampling import Sampler

MOST = 8  # guesses in one call
PROBE = 32  # steps without a guess after which one is tried, since costs and texts change


class Drafter(Protocol):
    """Guesses how one sequence goes on."""

    free: bool  # whether a guess costs next to nothing

    def guess(self, answer: Answer, most: int) -> Sequence[int]:
        """Up to `most` ids."""


class PromptLookup:
    """The tokens that followed the last time the newest ones occurred in prompt or answer.

    sizes  how many newest tokens must agree, tried in this order
    """

    free = True

    def __init__(self, sizes: Sequence[int] = (4, 2)) -> None:
        self._sizes = sizes
        self._after: dict[tuple[int, ...], int] = {}  # n-gram -> place behind its last occurrence
        self._known = 0

    def guess(self, answer: Answer, most: int) -> Sequence[int]:
        ids = answer.ids
        self._learn(ids)
        for size in self._sizes:
            at = self._after.get(tuple(ids[-size:].tolist()))
            if at is not None:
                return [int(i) for i in ids[at : at + most]]
        return []

    def _learn(self, ids: Any) -> None:
        longest = max(self._sizes)
        start = max(0, self._known - longest)
        new = ids[start:-1].tolist()  # what ends in the last id has no successor yet
        for end in range(self._known - start, len(new)):
            for size in self._sizes:
                if end + 1 >= size:
                    self._after[tuple(new[end + 1 - size : end + 1])] = start + end + 1
        self._known = start + len(new)


class DraftModel:
    """A smaller model with the same tokens, drawing with the request's own chain and noise.

    vocabulary  of the model that checks: what the smaller one has beyond it is padding
    """

    free = False

    def __init__(self, model: Model, sampler: Sampler, vocabulary: int) -> None:
        self._model, self._sampler, self._vocabulary = CachedModel(model), sampler, vocabulary

    def guess(self, answer: Answer, most: int) -> Sequence[int]:
        if not self._catch_up(answer.ids):
            return ()
        row, states = answer.sequence.copy(), answer.states
        most = min(most, self._model.context_length - row.length)
        guesses: list[int] = []
        while len(guesses) < most:
            logits = self._model.read(row.history().ids, last=1)[:, : self._vocabulary]
            draw = self._sampler.draw(logits, Step.dense((row.history(),), logits.shape[-1]), states)
            states, id = draw.states, int(draw.tokens[0])
            row.append(id)
            guesses.append(id)
        return guesses

    def _catch_up(self, ids: Any) -> bool:
        """Read a piece of a long text; whether little is left. Whoever decodes beside it goes on."""
        known = self._model.known(ids)
        if len(ids) - known <= PIECE:
            return True
        if len(ids) < self._model.context_length:
            self._model.read(ids[: known + PIECE], last=0)
        return False


@dataclass
class Statistics:
    """How speculation went.

    calls     over guesses
    guessed   tokens, in these calls
    accepted  of these, right
    failed    guesses that could not be made: a strategy or the draft model raised
    """

    calls: int = 0
    guessed: int = 0
    accepted: int = 0
    failed: int = 0


class Pace:
    """How many tokens to guess for one request: as many as pay by measured cost and success, or none."""

    def __init__(self, drafter: Drafter, costs: Costs) -> None:
        self.statistics = Statistics()
        self._drafter, self._costs = drafter, costs
        self._success = 0.7  # running share of guesses that were right, where the ones before were
        self._seconds = 0.0  # of one guess
        self._open: Sequence[int] = ()  # a guess that was made but not sent, checked against what comes
        self._certain: Sequence[int] = ()  # of the guesses that were sent, those a strategy forced
        self._idle = 0

    def guesses(self, answer: Answer, rows: int, room: int) -> Sequence[int]:
        """What to check now, among `rows` rows and with `room` tokens to go; empty: not worth it."""
        most = min(MOST, room - 1)
        self._idle += 1
        self._certain = self._forced(answer, most, rows)
        if self._certain:
            return self._certain
        if most < 1 or not (self._drafter.free or self._best(most, rows) or self._idle >= PROBE):
            return ()
        wanted = most if self._drafter.free else max(1, self._best(most, rows))
        began = time.perf_counter()
        try:
            guess = self._drafter.guess(answer, wanted)
        except BaseException:  # a guess is no token: what is wrong shows where one is drawn, if at all
            self.statistics.failed += 1
            return ()
        if guess:
            self._seconds += MEMORY * ((time.perf_counter() - began) / len(guess) - self._seconds)
        count = self._best(len(guess), rows) if self._drafter.free else len(guess)
        if self._idle >= PROBE and self._success > 0.5:
            count = len(guess)
        self._open = guess[:1] if count == 0 else ()
        if count:
            self._idle = 0
        return guess[:count]

    def _forced(self, answer: Answer, most: int, rows: int) -> Sequence[int]:
        """What a strategy, such as a grammar, leaves no choice about, as far as checking it at once pays."""
        try:
            ids = answer.forced()[: max(0, most)]
        except BaseException:  # what is wrong shows where a token is drawn
            self.statistics.failed += 1
            return ()
        return ids[: self._best(len(ids), rows, success=1.0)]

    def expect(self, id: int) -> None:
        """Tell the token that came where nothing was sent."""
        if self._open:
            self._learn(self._open[0] == id)
            self._open = ()

    def checked(self, guessed: int, right: int) -> None:
        """Tell how many of the guesses that were sent were right."""
        self.statistics.calls += 1
        self.statistics.guessed += guessed
        self.statistics.accepted += right
        for i in range(0 if self._certain else min(right + 1, guessed)):
            self._learn(i < right)

    def to_json(self) -> dict[str, int]:
        return asdict(self.statistics)

    def _learn(self, hit: bool) -> None:
        self._success += MEMORY * (hit - self._success)

    def _best(self, most: int, rows: int, success: float | None = None) -> int:
        """The number of guesses with the most tokens a second; 0 where a step with all gives more.

        success  chance of a guess where the ones before were right; None: as it was so far
        """
        success = self._success if success is None else success
        best, rate = 0, self._costs.rate(rows)
        tokens, chance = 1.0, 1.0
        for count in range(1, most + 1):
            chance *= success
            tokens += chance
            seconds = self._costs.chunk(count + 1) + (0 if self._drafter.free else count * self._seconds)
            if seconds and tokens / seconds > rate:
                best, rate = count, tokens / seconds
        return best
