"""
Truncations: strategies that remove candidates and leave the logits of the others alone.

Each file holds one published rule: a function with the mathematics and a strategy around it.
"""

from decodekit import hookimpl
from decodekit_truncation.epsilon import Epsilon, Eta
from decodekit_truncation.p_less import PLess, PLessNorm
from decodekit_truncation.tail_free import TailFree
from decodekit_truncation.top_a import TopA
from decodekit_truncation.top_h import TopH
from decodekit_truncation.top_n_sigma import TopNSigma

__all__ = ["Epsilon", "Eta", "PLess", "PLessNorm", "TailFree", "TopA", "TopH", "TopNSigma"]


@hookimpl
def register_logits_processors(register):
    register("epsilon", Epsilon)
    register("eta", Eta)
    register("top_a", TopA)
    register("tail_free", TailFree)
    register("top_n_sigma", TopNSigma)
    register("top_h", TopH)
    register("p_less", PLess)
    register("p_less_norm", PLessNorm)
