"""A score: how probable a model finds a given text, token by token. Values only; see `scorer`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decodekit.logprobs import best
from decodekit.ops import Array, log_softmax

BLOCK = 1 << 20  # float64 numbers that are looked at together
MAX_EXPONENT = 709.0  # exp of more is no float64


@dataclass(frozen=True, slots=True)
class TokenScore:
    """A given token under the model's own distribution, before every strategy.

    id       the token
    text     what it adds to the text; "" while a character is incomplete
    logprob  log-probability given what is before it, nats; None: nothing is before it
    top      the most probable tokens there, with theirs, best first
    """

    id: int
    text: str
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        return {"id": self.id, "text": self.text, "logprob": self.logprob, "top": list(map(list, self.top))}


@dataclass(frozen=True, slots=True)
class Sum:
    """Tokens that have a log-probability, and its sum. Adds up over texts.

    count  of them
    sum    nats
    """

    count: int = 0
    sum: float = 0.0

    @property
    def mean(self) -> float:
        """Per token, nats; NaN for none."""
        return self.sum / self.count if self.count else math.nan

    @property
    def perplexity(self) -> float:
        """exp(-mean): as uncertain as a fair choice among so many tokens; inf beyond float64."""
        return math.inf if -self.mean > MAX_EXPONENT else math.exp(-self.mean)

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.count + other.count, self.sum + other.sum)

    def to_json(self) -> dict[str, Any]:
        """Plain data; a number that JSON cannot say is None."""
        numbers = {"logprob": self.sum, "mean_logprob": self.mean, "perplexity": self.perplexity}
        return {"tokens": self.count} | {n: x if math.isfinite(x) else None for n, x in numbers.items()}


@dataclass(frozen=True, slots=True)
class Score:
    """A text under a model.

    tokens   those that were asked about, in order
    given    tokens before them: the prompt, or what the tokenizer puts before a text
    windows  parts that were read each on its own, since together they exceed the context window
    """

    tokens: tuple[TokenScore, ...]
    given: int
    windows: int = 1

    @property
    def total(self) -> Sum:
        """Of the tokens that have a log-probability."""
        return total(self.tokens)

    @property
    def sum(self) -> float:
        """Log-probability of the text, nats."""
        return self.total.sum

    @property
    def mean(self) -> float:
        """Log-probability per token, nats; NaN where no token has one."""
        return self.total.mean

    @property
    def perplexity(self) -> float:
        """exp(-mean)"""
        return self.total.perplexity

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        tokens = [token.to_json() for token in self.tokens]
        return {**self.total.to_json(), "given": self.given, "windows": self.windows, "scores": tokens}


def total(tokens: Sequence[TokenScore]) -> Sum:
    """Of the tokens that have a log-probability."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    return Sum(len(known), math.fsum(known))


def logprobs(
    logits: Array, ids: Array, top: int = 0
) -> Iterator[tuple[float, tuple[tuple[int, float], ...]]]:
    """Of each token its log-probability, nats, and the `top` best with theirs, best first.

    logits  float [T, V], of what comes at each place
    ids     int [T], what did
    """
    rows = max(1, BLOCK // logits.shape[-1])
    for start in range(0, len(ids), rows):
        logp = log_softmax(logits[start : start + rows].astype(np.float64))
        for row, id in zip(logp, ids[start : start + rows].tolist(), strict=True):
            yield float(row[id]), best(row, top)
