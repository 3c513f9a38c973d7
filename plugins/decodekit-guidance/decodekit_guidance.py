"""
Classifier-free guidance: away from what the model would say to a second prompt.

Sanchez et al., "Stay on Topic with Classifier-Free Guidance", ICML 2024, section 3,
arXiv:2306.17806.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.errors import ParameterError
from decodekit.ops import Array, array_namespace, log_softmax
from decodekit.parameters import Real


def guided(logits: Array, other: Array, scale: float | Array) -> Array:
    """other + scale * (logits - other), both as log-probabilities.

    logits  float [..., N], nats, after the prompt
    other   float [..., N], nats, log-probabilities of the same candidates after the second prompt
    scale   >= 0, scalar or [..., 1]; 1 gives the log-probabilities of `logits`, 0 gives `other`

    A candidate that is removed stays removed; one that the second prompt makes impossible is
    taken as after the prompt.
    """
    xp = array_namespace(logits)
    wanted = log_softmax(logits)
    both = xp.isfinite(wanted) & xp.isfinite(other)
    difference = xp.where(both, wanted, 0.0) - xp.where(both, other, 0.0)
    return xp.where(both, xp.where(both, other, 0.0) + scale * difference, wanted)


@dataclass(frozen=True)
class Guidance(LogitsProcessor):
    """Move away from the answer to a second prompt, by a factor; the model is asked twice a token.

    formula   l' = l_u + scale * (l_c - l_u) on log-probabilities, l_u after `prompt`, l_c after the
              request's own
    boundary  scale below 1 moves toward the second prompt, 0 is its distribution
    ties      kept
    history   the whole answer, after each of both prompts
    neutral   scale = 1
    source    Sanchez et al. 2024, section 3, arXiv:2306.17806
    """

    scale: Annotated[float, Real("[0, 100]", "factor; above 1 moves away from the second prompt", neutral=1)]
    prompt: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale != 1 and not (self.prompt and isinstance(self.prompt, str | list | tuple)):
            raise ParameterError(
                "guidance: prompt must be the second prompt, a text, messages or token ids, got "
                f"{self.prompt!r}; write guidance.prompt=TEXT"
            )

    def companion_prompt(self) -> Any:
        return None if self.scale == 1 else self.prompt

    def process(self, logits, step, state):
        if self.scale == 1:
            return logits
        if step.companion is None:
            raise ParameterError("guidance needs the logits of a second prompt, which are not at hand here")
        other = np.take_along_axis(log_softmax(step.companion), step.ids, axis=-1)
        return guided(logits, other, self.scale).astype(logits.dtype)


@hookimpl
def register_logits_processors(register):
    register("guidance", Guidance)
