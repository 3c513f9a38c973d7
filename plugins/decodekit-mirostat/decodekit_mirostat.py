"""
Mirostat: keep the surprise of the generated text near a target.

Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
Perplexity", ICLR 2021, arXiv:2007.14966, algorithms 1 and 2.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.ops import Array, keep, log_softmax
from decodekit.parameters import Real, Whole
from decodekit.strategies.top_k import top_k


@dataclass(frozen=True)
class Mirostat(LogitsProcessor):
    """Drop candidates more surprising than mu; move mu toward the target.

    formula   keep -log2 p(i) <= mu; after token x: mu - eta * (-log2 p'(x) - tau), p' renormalised
    boundary  exactly mu: kept; the most probable one and its equals always stay
    ties      treated alike
    history   the answer, through mu, which starts at 2 tau and moves with every token
    neutral   none
    source    Basu et al., "Mirostat", ICLR 2021, algorithm 2, arXiv:2007.14966

    State: mu, float [B, 1], the largest surprise allowed now, bits.
    """

    tau: Annotated[float, Real("(0, inf)", "target surprise, bits")] = 5.0
    eta: Annotated[float, Real("(0, 1]", "learning rate of mu")] = 0.1

    def init(self, batch):
        return np.full((batch, 1), 2 * self.tau, dtype=np.float32)

    def process(self, logits, step, mu):
        best = logits == logits.max(axis=-1, keepdims=True)  # never drop the last candidate
        return keep(logits, best | (surprise(logits) <= mu))

    def accept(self, logits, column, mu):
        return moved(mu, logits, column, self.tau, self.eta)


@dataclass(frozen=True)
class MirostatV1(LogitsProcessor):
    """Keep as many candidates as a Zipf law with surprise mu has; move mu toward the target.

    formula   t(i) = ln((i + 1) / i), b(i) = ln(p(i) / p(i+1)), i = 1 ... m - 1 of the ranked;
              s = sum t b / sum t^2, e = s - 1; k = (e 2^mu / (1 - N^-e))^(1/s), N candidates that
              are left; keep the k best; after token x: mu - eta * (-log2 p'(x) - tau)
    boundary  k is rounded down, to 1 at least: the most probable one always stays
    ties      equal to the k-th: kept
    history   the answer, through mu, which starts at 2 tau and moves with every token
    neutral   none
    source    Basu et al., "Mirostat", ICLR 2021, algorithm 1, arXiv:2007.14966; llama.cpp takes the
              whole vocabulary for N, also behind a truncation

    State: mu, float [B, 1], bits.
    """

    tau: Annotated[float, Real("(0, inf)", "target surprise, bits")] = 5.0
    eta: Annotated[float, Real("(0, 1]", "learning rate of mu")] = 0.1
    m: Annotated[int, Whole("[2, inf)", "best candidates from which the Zipf law is estimated")] = 100

    def init(self, batch):
        return np.full((batch, 1), 2 * self.tau, dtype=np.float32)

    def process(self, logits, step, mu):
        return np.stack([self._row(row, float(bound)) for row, bound in zip(logits, mu[:, 0], strict=True)])

    def _row(self, logits, mu):
        live = np.count_nonzero(logits > -np.inf)
        if live < 2:
            return logits
        m = min(self.m, live)
        best = -np.sort(-np.partition(logits, -m)[-m:].astype(np.float64))
        return top_k(logits, zipf_count(zipf_exponent(best), mu, live))

    def accept(self, logits, column, mu):
        return moved(mu, logits, column, self.tau, self.eta)


def surprise(logits: Array) -> Array:
    """-log2 of each candidate's probability, bits, [..., N]."""
    return -log_softmax(logits) / math.log(2)


def moved(mu: Array, logits: Array, column: Array, tau: float, eta: float) -> Array:
    """mu [B, 1] after `column` [B] was drawn from logits [B, N]: down after too much surprise."""
    observed = np.take_along_axis(surprise(logits), column[:, None], axis=-1)
    return (mu - eta * (observed - tau)).astype(mu.dtype)


def zipf_exponent(best: Array) -> float:
    """The s of p(i) ~ i^-s that fits the best logits, ranked, float [M], M >= 2, by least squares."""
    rank = np.arange(1, len(best))
    t = np.log((rank + 1) / rank)
    return float(t @ (best[:-1] - best[1:]) / (t @ t))


def zipf_count(s: float, mu: float, n: int) -> int:
    """How many of n >= 2 candidates under a Zipf law with exponent s have at most mu bits of surprise.

    At s = 1, where the formula is 0 / 0, its limit; in logarithms, since 2^mu and n^-e may overflow.
    """
    e = s - 1
    scale = e / -math.expm1(-e * math.log(n)) if e else 1 / math.log(n)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        k = np.exp((np.log(scale) + mu * math.log(2)) / np.float64(s))
    return int(min(np.fmax(k, 1), n))  # fmax: 1, where k is not a number


@hookimpl
def register_logits_processors(register):
    register("mirostat", Mirostat)
    register("mirostat_v1", MirostatV1)
