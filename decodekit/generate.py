"""The decoding loop for one sequence: predict, sample, append, stop. The specification of all others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np

from decodekit.history import Sequence
from decodekit.model import Model
from decodekit.ops import Array, log_softmax
from decodekit.processors import Step
from decodekit.sampling import Sampler
from decodekit.stopping import Progress, Stop, StoppingCriterion, first_stop
from decodekit.tokenizer import Detokenizer


@dataclass(frozen=True, slots=True)
class Token:
    """One turn of the loop, as the caller sees it.

    id        the token
    text      what it adds to the text; "" while a character is incomplete
    logprob   log-probability of the token under the model's own distribution, nats; None: not asked for
    top       the most probable tokens there, with theirs, best first
    stop      the verdict that ends the sequence, on the last token only
    """

    id: int
    text: str
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
    logprobs: int | None = None,
) -> Iterator[Token]:
    """Yield tokens one at a time until a criterion stops the sequence."""
    began = time.monotonic()
    sequence, text = Sequence(prompt, seed=seed, sample=sample), ""
    cache, states = model.new_cache(), sampler.init(batch=1)
    tokens = sequence.history().ids  # the first turn reads the whole prompt, later turns one token

    while True:
        logits, cache = model(tokens, cache)  # predict

        step = Step.dense((sequence.history(),), model.vocabulary)
        (token,), states = sampler(logits, step, states)  # sample

        sequence.append(token)  # append
        start, new = len(text), detokenizer.push(int(token)) if detokenizer else ""
        text += new

        progress = Progress(sequence.history(), text, start, time.monotonic() - began)
        stop = first_stop(stopping, progress)  # stop?

        yield Token(int(token), new, *_logprobs(logits[0], token, logprobs), stop)
        if stop:
            return
        tokens = sequence.history().ids[-1:]


def _logprobs(
    logits: Array, token: int, top: int | None
) -> tuple[float | None, tuple[tuple[int, float], ...]]:
    if top is None:
        return None, ()
    logp = log_softmax(logits.astype(np.float64))
    best = np.argsort(-logp, kind="stable")[:top]
    return float(logp[token]), tuple((int(i), float(logp[i])) for i in best)
