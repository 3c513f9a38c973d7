"""The decoding loop for one sequence: predict, sample, append, stop. The specification of all others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from decodekit.answer import Answer, Token
from decodekit.detokenizer import Detokenizer
from decodekit.logprobs import Logprobs
from decodekit.model import Model
from decodekit.sampling import Sampler
from decodekit.stopping import StoppingCriterion


def stream(
    model: Model,
    prompt: Iterable[int],
    sampler: Sampler,
    stopping: Sequence[StoppingCriterion],
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
        if token.takes_back:
            cache = cache.keep(len(answer.ids) - 1)
