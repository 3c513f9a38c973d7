"""
A cursor: a matcher, and the ids of the answer that it has read.

What a grammar allows depends on the answer alone. The cursor only saves reading it again: asked
for an answer that goes on from the last one, it reads the new tokens; for one that parts from it,
as after a rejected guess or a rewind, it goes back to where they part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from decodekit.ops import Array

if TYPE_CHECKING:
    import llguidance


class Cursor:
    """For one sequence, one thread at a time. Equal to every cursor of the same grammar: a memo, not a state.

    fresh  a matcher that has read nothing; it is copied, never moved
    """

    def __init__(self, fresh: llguidance.LLMatcher) -> None:
        self._fresh = fresh
        self._matcher = fresh.deep_copy()
        self._read: Array = np.empty(0, np.int64)

    def at(self, answer: Array) -> llguidance.LLMatcher:
        """The matcher after these ids, int64 [T]. Astray where the grammar does not allow one of them."""
        known = _common(self._read, answer)
        back = len(self._read) - known
        if back and not self._matcher.rollback(back):
            self._matcher, known = self._fresh.deep_copy(), 0
        new = answer[known:].tolist()
        read = self._matcher.try_consume_tokens(new)
        self._read = answer[: known + read].copy()
        if read < len(new):
            raise Astray(known + read, self._matcher.get_error())
        return self._matcher

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cursor) and other._fresh is self._fresh

    __hash__ = None  # type: ignore[assignment]

    def __copy__(self) -> Cursor:
        return Cursor(self._fresh)

    def __deepcopy__(self, memo: Any) -> Cursor:
        return Cursor(self._fresh)


class Astray(Exception):
    """The answer's token number `place` is not one that the grammar allows; `why` is the matcher's word."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(place, why)
        self.place, self.why = place, why


def _common(a: Array, b: Array) -> int:
    """How many ids the two begin with in common."""
    length = min(len(a), len(b))
    parts = np.flatnonzero(a[:length] != b[:length])
    return int(parts[0]) if len(parts) else length
