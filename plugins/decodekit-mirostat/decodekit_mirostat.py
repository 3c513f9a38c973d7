"""
Mirostat 2.0: keep the surprise of the generated text near a target.

Basu et al., "Mirostat: A Neural Text Decoding Algorithm that Directly Controls
Perplexity", ICLR 2021, arXiv:2007.14966, algorithm 2.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.ops import keep, log_softmax
from decodekit.parameters import Real


@dataclass(frozen=True)
class Mirostat(LogitsProcessor):
    """Drop candidates more surprising than mu; move mu toward the target.

    State: mu, float [B, 1], the largest surprise allowed now; starts at 2 * tau.
    """

    tau: Annotated[float, Real("(0, inf)", "target surprise, bits")] = 5.0
    eta: Annotated[float, Real("(0, 1]", "learning rate of mu")] = 0.1

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
