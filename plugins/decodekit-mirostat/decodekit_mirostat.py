"""
Mirostat 2.0: keep the surprise of the generated text near a target.

Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
Perplexity", ICLR 2021, arXiv:2007.14966, algorithm 2.
"""

from dataclasses import dataclass

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.ops import keep, log_softmax
from decodekit.parameters import real


@dataclass(frozen=True)
class Mirostat(LogitsProcessor):
    """Drop candidates more surprising than mu; move mu toward the target.

    tau  target surprise, bits, > 0
    eta  learning rate of mu, in (0, 1]

    State: mu, float [B, 1], the largest surprise allowed now; starts at 2 * tau.
    """

    tau: float = 5.0
    eta: float = 0.1

    def __post_init__(self):
        real("mirostat: tau", self.tau, "(0, inf)")
        real("mirostat: eta", self.eta, "(0, 1]")

    def init(self, batch):
        return np.full((batch, 1), 2 * self.tau, dtype=np.float32)

    def process(self, logits, step, mu):
        best = logits == logits.max(axis=-1, keepdims=True)  # never drop the last candidate
        return keep(logits, best | (surprise(logits) <= mu))

    def accept(self, logits, column, mu):
        observed = np.take_along_axis(surprise(logits), column[:, None], axis=-1)
        return (mu - self.eta * (observed - self.tau)).astype(mu.dtype)


def surprise(logits):
    """-log2 of each candidate's probability, bits, [..., N]."""
    return -log_softmax(logits) / np.log(2)


@hookimpl
def register_logits_processors(register):
    register("mirostat", Mirostat)
