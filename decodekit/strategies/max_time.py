"""Stop after a time."""

from dataclasses import dataclass
from typing import Annotated

from decodekit.hookspecs import Register, hookimpl
from decodekit.parameters import Real
from decodekit.stopping import Progress, Stop, StoppingCriterion


@dataclass(frozen=True)
class MaxTime(StoppingCriterion):
    """Stop at the first token after `seconds`, counted from the start of the request.

    formula   elapsed >= seconds
    boundary  the token at which the time is over is kept; a request that still waits ends without one
    ties      none
    history   the clock
    neutral   none
    source    transformers, `MaxTimeCriteria`; llama.cpp, `t_max_predict_ms`
    """

    seconds: Annotated[float, Real("(0, inf)", "seconds from the start of the request")]

    def check(self, progress: Progress) -> Stop | None:
        return Stop("time", by=f"{self.seconds} s") if progress.elapsed >= self.seconds else None


@hookimpl
def register_stopping_criteria(register: Register) -> None:
    register("max_time", MaxTime)
