"""Stop at a token: the model's own end tokens, or ids that a request names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from decodekit.errors import ParameterError
from decodekit.hookspecs import Register, hookimpl
from decodekit.stopping import Progress, Stop, StoppingCriterion
from decodekit.tokenizer import Tokenizer


@dataclass(frozen=True)
class EndTokens(StoppingCriterion):
    """Stop when the newest token is one of `ids`; its text is no part of the answer."""

    ids: Collection[int]

    def __post_init__(self) -> None:
        if isinstance(self.ids, str) or not all(type(i) is int for i in self.ids):
            raise ParameterError(f"end_tokens: ids must be token ids, got {self.ids!r}")
        object.__setattr__(self, "ids", frozenset(self.ids))

    def bind(self, tokenizer: Tokenizer) -> EndTokens:
        wrong = [i for i in self.ids if not 0 <= i < tokenizer.size]
        if wrong:
            raise ParameterError(f"end_tokens: token ids are in [0, {tokenizer.size}), got {wrong[0]}")
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
