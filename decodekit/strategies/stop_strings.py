"""Stop strings: end a sequence where its text first contains one of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from decodekit.errors import ParameterError
from decodekit.hookspecs import Register, hookimpl
from decodekit.parameters import Whole
from decodekit.stopping import Progress, Stop, StoppingCriterion, overlap

MAX_STRINGS = 16
MAX_BYTES = 1024  # each, UTF-8


@dataclass(frozen=True)
class StopStrings(StoppingCriterion):
    """Stop at the first occurrence of any of up to 16 strings; the string itself is not kept.

    The text is searched, not the tokens: a stop string may begin inside one token and end
    inside another, and where tokens begin makes no difference. Of several the one that is
    complete first counts; of those that end together the longest.

    formula   the earliest end of a string in the answer's text, behind the first `after` tokens
    boundary  text of the prompt does not count; of characters that are written in two ways each is its own
    ties      of strings that end together the longest
    history   the answer's text
    neutral   none
    source    OpenAI API, "stop"
    """

    strings: Sequence[str]
    after: Annotated[int, Whole("[0, inf)", "generated tokens up to which no string counts")] = 0

    def __post_init__(self) -> None:
        given = (self.strings,) if isinstance(self.strings, str) else self.strings
        strings = tuple(given) if isinstance(given, Collection) and not isinstance(given, Mapping) else ()
        if not strings or not all(isinstance(s, str) and s for s in strings):
            raise ParameterError(f"stop: need one or more non-empty strings, got {self.strings!r}")
        if len(strings) > MAX_STRINGS or any(len(s.encode()) > MAX_BYTES for s in strings):
            raise ParameterError(f"stop: at most {MAX_STRINGS} strings of {MAX_BYTES} bytes each")
        super().__post_init__()
        object.__setattr__(self, "strings", strings)

    def check(self, progress: Progress) -> Stop | None:
        if len(progress.history.generated) <= self.after:
            return None
        found = [(at + len(s), at, s) for s in self.strings if (at := _find(s, progress)) >= 0]
        if not found:
            return None
        _, at, string = min(found)
        return Stop("stop", keep=at, by=repr(string))

    def pending(self, text: str) -> int:
        """The longest end of `text` that begins a stop string."""
        return max(overlap(text, s) for s in self.strings)


def _find(string: str, progress: Progress) -> int:
    return progress.text.find(string, max(0, progress.start - len(string) + 1))


@hookimpl
def register_stopping_criteria(register: Register) -> None:
    register("stop_strings", StopStrings)
