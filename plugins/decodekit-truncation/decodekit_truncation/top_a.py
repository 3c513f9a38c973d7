"""Top-a sampling: a bound that falls with the square of the best probability. BlinkDL, RWKV-LM, 2021."""

from dataclasses import dataclass
from typing import Annotated

from decodekit import LogitsProcessor
from decodekit.ops import Array, array_namespace, keep, softmax
from decodekit.parameters import Real


def top_a(logits: Array, a: float | Array) -> Array:
    """Keep candidates with at least a times the square of the best probability.

    logits  float [..., N], nats
    a       factor in [0, 1], scalar or [..., 1]; 0 keeps everything
    """
    xp = array_namespace(logits)
    p = softmax(logits)
    return keep(logits, p >= a * xp.max(p, axis=-1, keepdims=True) ** 2)


@dataclass(frozen=True)
class TopA(LogitsProcessor):
    """Remove candidates less probable than a * pmax^2, a in [0, 1]; 0 is neutral.

    formula   keep p(i) >= a * pmax^2
    boundary  exactly the bound: kept; the most probable one always stays, since a * pmax^2 <= pmax
    ties      treated alike
    history   none
    neutral   a = 0
    source    BlinkDL, github.com/BlinkDL/RWKV-LM, "top-a sampling", 2021
    """

    a: Annotated[float, Real("[0, 1]", "factor before the square of the best probability", neutral=0)]

    def process(self, logits, step, state):
        return logits if self.a == 0 else top_a(logits, self.a)
