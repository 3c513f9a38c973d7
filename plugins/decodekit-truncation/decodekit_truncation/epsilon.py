"""
Epsilon and eta sampling: a bound on the probability, absolute or lowered where many words fit.

Hewitt, Manning and Liang, "Truncation Sampling as Language Model Desmoothing",
Findings of EMNLP 2022, arXiv:2210.15191.
"""

from dataclasses import dataclass
from typing import Annotated

from decodekit import LogitsProcessor
from decodekit.ops import Array, array_namespace, entropy, log_softmax, softmax
from decodekit.parameters import Real
from decodekit_truncation.bound import at_least


def epsilon_sampling(logits: Array, epsilon: float | Array) -> Array:
    """Keep candidates with at least probability epsilon, and the best one.

    logits   float [..., N], nats
    epsilon  probability in [0, 1], scalar or [..., 1]; 0 keeps everything
    """
    return at_least(logits, softmax(logits), epsilon)


def eta_sampling(logits: Array, epsilon: float | Array) -> Array:
    """Keep candidates with at least probability eta = min(epsilon, sqrt(epsilon) exp(-H)), and the best one.

    logits   float [..., N], nats; H is the entropy of their distribution
    epsilon  probability in [0, 1], scalar or [..., 1]; 0 keeps everything
    """
    xp = array_namespace(logits)
    log_p = log_softmax(logits)
    absolute = xp.asarray(epsilon, dtype=logits.dtype)
    eta = xp.minimum(absolute, xp.sqrt(absolute) * xp.exp(-entropy(log_p)))
    return at_least(logits, xp.exp(log_p), eta)


@dataclass(frozen=True)
class Epsilon(LogitsProcessor):
    """Remove candidates less probable than epsilon in [0, 1]; 0 is neutral.

    formula   keep p(i) >= epsilon
    boundary  exactly epsilon: kept; the most probable one and its equals always stay
    ties      treated alike
    history   none
    neutral   epsilon = 0
    source    Hewitt et al., "Truncation Sampling as Language Model Desmoothing",
              Findings of EMNLP 2022, arXiv:2210.15191
    """

    epsilon: Annotated[float, Real("[0, 1]", "least probability; about 3e-4 to 9e-4", neutral=0)]

    def process(self, logits, step, state):
        return logits if self.epsilon == 0 else epsilon_sampling(logits, self.epsilon)


@dataclass(frozen=True)
class Eta(LogitsProcessor):
    """Remove candidates less probable than epsilon, or than less where many fit; 0 is neutral.

    formula   keep p(i) >= min(epsilon, sqrt(epsilon) * exp(-H)), H = -sum p ln p
    boundary  exactly the bound: kept; the most probable one and its equals always stay
    ties      treated alike
    history   none
    neutral   epsilon = 0
    source    Hewitt et al., "Truncation Sampling as Language Model Desmoothing",
              Findings of EMNLP 2022, arXiv:2210.15191
    """

    epsilon: Annotated[float, Real("[0, 1]", "greatest bound on the probability", neutral=0)]

    def process(self, logits, step, state):
        return logits if self.epsilon == 0 else eta_sampling(logits, self.epsilon)
