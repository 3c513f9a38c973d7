"""
History: the ids of one sequence, prompt first, growing at the end.

`Sequence` owns one preallocated row and appends to it in constant time;
`History` is a read-only view of that row at one moment, which processors see.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from decodekit.ops import Array


@dataclass(frozen=True, slots=True)
class History:
    """One sequence at one step.

    ids     int64 [T], prompt and generated ids, oldest first, read-only
    asked   how many of them are the prompt
    seed    names the request's noise, in [0, 2^64)
    sample  which of the request's answers this is, from 0
    """

    ids: Array
    asked: int
    seed: int = 0
    sample: int = 0

    @property
    def prompt(self) -> Array:
        """int64 [asked]"""
        return self.ids[: self.asked]

    @property
    def generated(self) -> Array:
        """int64 [T - asked]"""
        return self.ids[self.asked :]

    @property
    def position(self) -> int:
        """The place in the sequence of the token that is chosen next."""
        return int(self.ids.shape[0])


class Sequence:
    """A row that grows. Views taken before stay as they were until it is cut below their length."""

    def __init__(self, prompt: Iterable[int], *, seed: int = 0, sample: int = 0) -> None:
        prompt = np.fromiter(prompt, np.int64)
        self.asked = len(prompt)
        self.seed = seed
        self.sample = sample
        self.length = len(prompt)
        self._reserve(max(64, 2 * len(prompt)), prompt)

    def append(self, id: int) -> None:
        if self.length == len(self._row):
            self._reserve(2 * self.length, self._row)
        self._row[self.length] = id
        self.length += 1

    def cut(self, length: int) -> None:
        """Forget what came after the first `length` ids."""
        self.length = length

    def copy(self) -> Sequence:
        """The same in memory of its own."""
        copy = Sequence(self._row[: self.length], seed=self.seed, sample=self.sample)
        copy.asked = self.asked
        return copy

    def history(self) -> History:
        """The sequence as it is now."""
        return History(self._view[: self.length], self.asked, self.seed, self.sample)

    def _reserve(self, size: int, ids: Array) -> None:
        self._row = np.empty(size, np.int64)
        self._row[: len(ids)] = ids
        self._view = self._row.view()
        self._view.flags.writeable = False
