"""The decoding loop for one sequence: predict, sample, append, stop. The specification of all others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from decodekit.history import Sequence
from decodekit.logprobs import Logprobs
from decodekit.model import Model
from decodekit.ops import Array
from decodekit.processors import Step
from decodekit.sampling import Sampler
from decodekit.stopping import Progress, Stop, StoppingCriterion, first_stop
from decodekit.tokenizer import Detokenizer


@dataclass(frozen=True, slots=True)
class Token:
    """One turn of the loop, as the caller sees it.

    id        the token
    text      what it adds to the text; "" while a character is incomplete
    logit     of the token, as the model gave it
    score     of the token, its logit after the chain
    width     how many columns it was drawn from
    logprob   log-probability of the token where `Logprobs` looks, nats; None: not asked for
    top       the most probable tokens there, with theirs, best first
    stop      the verdict that ends the sequence, on the last token only
    """

    id: int
    text: str
    logit: float = 0.0
    score: float = 0.0
    width: int = 0
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    stop: Stop | None = None


def stream(
    model: Model,
    prompt: Iterable[int],
    sampler: Sampler,
    stopping: Seq[StoppingCriterion],
    *,
    seed: int = 0,
    sample: int = 0,
    detokenizer: Detokenizer | None = None,
    logprobs: Logprobs | None = None,
) -> Iterator[Token]:
    """Yield tokens one at a time until a criterion stops the sequence."""
    answer = Answer(
        prompt, sampler, stopping, seed=seed, sample=sample, detokenizer=detokenizer, logprobs=logprobs
    )
    cache = model.new_cache()
    tokens = answer.ids  # the first turn reads the whole prompt, later turns one token

    while True:
        logits, cache = model(tokens, cache)  # predict
        token = answer.take(logits)
        yield token
        if token.stop:
            return
        tokens = answer.ids[-1:]


class Answer:
    """One sequence being decoded: its ids, its text, and the states of its strategies."""

    def __init__(
        self,
        prompt: Iterable[int],
        sampler: Sampler,
        stopping: Seq[StoppingCriterion],
        *,
        seed: int = 0,
        sample: int = 0,
        detokenizer: Detokenizer | None = None,
        logprobs: Logprobs | None = None,
    ) -> None:
        self.sequence = Sequence(prompt, seed=seed, sample=sample)
        self.states = sampler.init(batch=1)
        self.text = ""
        self.began = time.monotonic()
        self.sampling = 0.0  # seconds the last draw took
        self._sampler, self._stopping = sampler, stopping
        self._detokenizer, self._logprobs = detokenizer, logprobs
        self._history = self.sequence.history()
        self.newest = int(self._history.ids[-1])

    @property
    def strategies(self) -> Seq[object]:
        """Processors and criteria, in order."""
        return (*self._sampler.processors, *self._stopping)

    @property
    def ids(self) -> Array:
        """Prompt and generated ids, int64 [T]."""
        return self._history.ids

    def take(self, logits: Array) -> Token:
        """One turn, from logits float [1, V] of what comes next."""
        began = time.perf_counter()
        step = Step.dense((self._history,), logits.shape[-1])
        draw = self._sampler.draw(logits, step, self.states)  # sample
        id = int(draw.tokens[0])
        self.states, self.newest = draw.states, id
        self.sampling = time.perf_counter() - began

        self.sequence.append(id)  # append
        self._history = self.sequence.history()
        start, new = len(self.text), self._detokenizer.push(id) if self._detokenizer else ""
        if new:
            self.text += new

        progress = Progress(self._history, self.text, start, time.monotonic() - self.began)
        stop = first_stop(self._stopping, progress)  # stop?

        logprob, top = (None, ()) if self._logprobs is None else self._logprobs(logits, draw, id)
        return Token(id, new, float(logits[0, id]), float(draw.scores[0]), draw.width, logprob, top, stop)
