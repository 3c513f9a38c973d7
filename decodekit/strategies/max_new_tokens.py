"""Stop after a number of tokens."""

from dataclasses import dataclass
from typing import Annotated

from decodekit.hookspecs import Register, hookimpl
from decodekit.parameters import Whole
from decodekit.stopping import Progress, Stop, StoppingCriterion


@dataclass(frozen=True)
class MaxNewTokens(StoppingCriterion):
    """Stop after n generated tokens; the prompt does not count.

    formula   n or more tokens were generated
    boundary  the n-th is the last
    ties      another criterion that is listed before it and stops at the same token gives the reason
    history   the length of the answer
    neutral   none
    source    OpenAI API, "max_tokens"
    """

    n: Annotated[int, Whole("[1, inf)", "generated tokens")]

    def check(self, progress: Progress) -> Stop | None:
        done = len(progress.history.generated) >= self.n
        return Stop("length", by=f"{self.n} tokens") if done else None


@hookimpl
def register_stopping_criteria(register: Register) -> None:
    register("max_new_tokens", MaxNewTokens)
