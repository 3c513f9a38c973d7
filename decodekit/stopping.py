"""
Stopping criteria: after each appended token, decide whether the sequence is finished.

A criterion is a pure function of the sequence so far. It answers None to go on,
or a `Stop` that says why, and how much of the text belongs to the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from decodekit.errors import ContractError, DecodekitError, StrategyError
from decodekit.origin import describe
from decodekit.parameters import check
from decodekit.progress import Progress as Progress
from decodekit.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Stop:
    """The verdict.

    reason  "stop" or "length" as in the OpenAI API; a criterion may add its own
    keep    characters of the text that belong to the answer; None: all
    by      what fired, for people: the stop string, the token, ...
    """

    reason: str
    keep: int | None = None
    by: str = ""


class StoppingCriterion:
    """The contract. Override `check`; `pending` only if text may be taken back.

    needs_confidence  True: `Progress.confidence` is filled in, which costs O(V) a token
    """

    needs_confidence: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """For dataclasses: check the annotated fields; see `parameters`."""
        check(self)

    def bind(self, tokenizer: Tokenizer) -> StoppingCriterion:
        """This criterion, knowing the tokens it works on; called once a request."""
        return self

    def check(self, progress: Progress) -> Stop | None:
        """The verdict on the sequence, or None to go on."""
        raise NotImplementedError

    def pending(self, text: str) -> int:
        """How many characters at the end of `text` a later verdict of this criterion may still cut off."""
        return 0


def first_stop(criteria: Iterable[StoppingCriterion], progress: Progress) -> Stop | None:
    """The verdict of the first criterion, in the caller's order, that gives one."""
    for criterion in criteria:
        try:
            stop = criterion.check(progress)
        except DecodekitError:
            raise
        except (Exception, SystemExit) as exc:
            raise StrategyError(f"{describe(criterion)} raised {exc!r} at {_place(progress)}") from exc
        if stop is not None:
            if not isinstance(stop, Stop):
                raise ContractError(
                    f"{describe(criterion)} must answer a Stop or None, got {stop!r} at {_place(progress)}"
                )
            return stop
    return None


def overlap(text: str, string: str) -> int:
    """Characters at the end of `text` that `string` begins with, fewer than all of it."""
    start = max(0, len(text) - len(string) + 1)
    while (start := text.find(string[0], start)) >= 0:
        if string.startswith(text[start:]):
            return len(text) - start
        start += 1
    return 0


def _place(progress: Progress) -> str:
    return f"token {len(progress.history.generated) - 1}"
