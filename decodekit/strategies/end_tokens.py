"""Stop at a token: the model's own end tokens, or ids that a request names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from decodekit.hookspecs import Register, hookimpl
from decodekit.parameters import known_ids, token_ids
from decodekit.stopping import Progress, Stop, StoppingCriterion
from decodekit.tokenizer import Tokenizer


@dataclass(frozen=True)
class EndTokens(StoppingCriterion):
    """Stop when the newest token is one of `ids`; its text is no part of the answer.

    formula   the newest id is one of `ids`
    boundary  ids of the prompt do not count
    ties      none
    history   the newest id
    neutral   ids = []
    source    OpenAI API, "stop"; vLLM, `stop_token_ids`
    """

    ids: Collection[int]

    def __post_init__(self) -> None:
        token_ids("end_tokens: ids", self.ids)
        object.__setattr__(self, "ids", frozenset(self.ids))

    def bind(self, tokenizer: Tokenizer) -> EndTokens:
        known_ids("end_tokens", self.ids, tokenizer.size)
        return self

    def check(self, progress: Progress) -> Stop | None:
        newest = int(progress.history.ids[-1])
        if newest not in self.ids:
            return None
        adds_text = progress.start < len(progress.text)
        return Stop("stop", keep=progress.start if adds_text else None, by=f"token {newest}")


@hookimpl
def register_stopping_criteria(register: Register) -> None:
    register("end_tokens", EndTokens)
