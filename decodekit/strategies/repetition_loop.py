"""Stop where an answer has begun to say the same again and again."""

from dataclasses import dataclass

import numpy as np

from decodekit.hookspecs import Register, hookimpl
from decodekit.parameters import whole
from decodekit.stopping import Progress, Stop, StoppingCriterion


@dataclass(frozen=True)
class RepetitionLoop(StoppingCriterion):
    """Stop, with reason "repetition", once the end of the answer is `times` copies of one block.

    period  longest block, tokens, >= 1
    times   copies, >= 2
    least   tokens that all copies together must have, >= 2: short blocks need more copies

    The answer is searched, not the prompt. Text that was generated is kept.
    """

    period: int = 64
    times: int = 4
    least: int = 32

    def __post_init__(self) -> None:
        whole("repetition_loop: period", self.period, "[1, 4096]")
        whole("repetition_loop: times", self.times, "[2, 1000]")
        whole("repetition_loop: least", self.least, "[2, inf)")

    def check(self, progress: Progress) -> Stop | None:
        ids = progress.history.generated
        if len(ids) < max(self.times, self.least):
            return None
        before = ids[-self.period - 1 : -1][::-1]
        for period in np.flatnonzero(before == ids[-1]) + 1:
            length = max(int(period) * self.times, self.least)
            tail = ids[-length:]
            if len(tail) == length and np.array_equal(tail[period:], tail[:-period]):
                return Stop("repetition", by=f"{length} tokens with period {period}")
        return None


@hookimpl
def register_stopping_criteria(register: Register) -> None:
    register("repetition_loop", RepetitionLoop)
