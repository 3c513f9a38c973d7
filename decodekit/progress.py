"""Progress: one sequence just after a token was appended, as criteria and strategies look back at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decodekit.history import History


@dataclass(frozen=True, slots=True)
class Progress:
    """One sequence, just after a token was appended.

    history  prompt and generated ids, the new one last
    text     the generated ids as text
    start    where in `text` the new token's part begins, characters
    elapsed  seconds since the request began
    starts   where each generated token's part begins, for strategies that take tokens back; else ()
    """

    history: History
    text: str
    start: int
    elapsed: float = 0.0
    starts: Sequence[int] = ()
