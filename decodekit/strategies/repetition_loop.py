"""Stop where an answer has begun to say the same again and again."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit.hookspecs import Register, hookimpl
from decodekit.parameters import Whole
from decodekit.stopping import Progress, Stop, StoppingCriterion


@dataclass(frozen=True)
class RepetitionLoop(StoppingCriterion):
    """Stop, with reason "repetition", once the end of the answer is `times` copies of one block.

    The answer is searched, not the prompt. Text that was generated is kept.

    formula   the last max(times * q, least) generated ids have period q, for a q of at most `period`
    boundary  exactly `times` copies are enough
    ties      of several periods the shortest
    history   the answer's ids
    neutral   none
    source    vLLM, `repetition_detection`; exllamav3, `LoopDetector`
    """

    period: Annotated[int, Whole("[1, 4096]", "longest block, tokens")] = 64
    times: Annotated[int, Whole("[2, 1000]", "copies")] = 4
    least: Annotated[
        int, Whole("[2, inf)", "tokens that all copies have together; short blocks need more copies")
    ] = 32

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
