"""
P-less sampling: the bound is the probability that two draws agree. It has no parameter.

Tan, Wu and Howard, "p-less Sampling: A Robust Hyperparameter-Free Approach for LLM Decoding",
arXiv:2509.23234.
"""

from dataclasses import dataclass

from decodekit import LogitsProcessor
from decodekit.ops import Array, array_namespace, softmax
from decodekit_truncation.bound import at_least


def p_less(logits: Array) -> Array:
    """Keep candidates at least as probable as it is that two draws agree; logits float [..., N], nats."""
    p = softmax(logits)
    return at_least(logits, p, _collision(p))


def p_less_norm(logits: Array) -> Array:
    """Keep candidates above the collision probability less what chance alone would give.

    logits  float [..., N], nats; at uniform probabilities the bound is 0, at certainty 1
    """
    xp = array_namespace(logits)
    p = softmax(logits)
    live = xp.sum(xp.astype(logits > -xp.inf, p.dtype), axis=-1, keepdims=True)
    others = xp.where(live > 1, live - 1, xp.ones_like(live))
    return at_least(logits, p, (live * _collision(p) - 1) / others)


def _collision(p: Array) -> Array:
    return array_namespace(p).sum(p**2, axis=-1, keepdims=True)


@dataclass(frozen=True)
class PLess(LogitsProcessor):
    """Remove candidates less probable than it is that two draws agree.

    formula   keep p(i) >= sum p^2
    boundary  exactly the bound: kept; the most probable one always stays, since sum p^2 <= pmax
    ties      treated alike
    history   none
    neutral   none: it has no parameter; equal candidates all stay
    source    Tan, Wu and Howard, "p-less Sampling", 2025, arXiv:2509.23234
    """

    def process(self, logits, step, state):
        return p_less(logits)


@dataclass(frozen=True)
class PLessNorm(LogitsProcessor):
    """Remove candidates less probable than it is, beyond chance, that two draws agree.

    formula   keep p(i) >= (N sum p^2 - 1) / (N - 1), N candidates that are left
    boundary  exactly the bound: kept; the most probable one always stays; of one candidate it stays
    ties      treated alike
    history   none
    neutral   none: it has no parameter; equal candidates all stay
    source    Tan, Wu and Howard, "p-less Sampling", 2025, arXiv:2509.23234, p-less-norm; there N is
              the vocabulary, which differs after another truncation
    """

    def process(self, logits, step, state):
        return p_less_norm(logits)
