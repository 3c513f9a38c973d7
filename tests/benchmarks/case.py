"""
A case: turns that engines take one after the other, round by round, and figures made of them.

The machine may be noisy, but it is so for all who take a turn in the same round: what means
something is the ratio of medians within one run, and that is what figures are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engines import Answer, Engine, Failure

PAUSE = 0.2  # seconds between turns, in which the last engine's threads stop spinning


@dataclass(frozen=True)
class Turn:
    """What an engine is asked in every round.

    model    below build/bench
    command  a worker's verb under "do", and its arguments
    read     the value in the answer
    options  for loading the model
    fresh    ask a new process every time
    """

    engine: str
    model: str
    command: Mapping[str, Any]
    read: Callable[[Answer], float]
    options: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False

    @property
    def process(self) -> str:
        """Turns for which this is equal share a process."""
        return f"{self.engine} {self.model} {dict(self.options)}"


@dataclass
class Taken:
    """A turn's values, round by round, and the ids of its last answer; or why there are none.

    first  the value of the round that is not counted
    """

    values: list[float] = field(default_factory=list)
    first: float = 0.0
    ids: Sequence[Any] = ()
    failure: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.whole.values)

    @property
    def whole(self) -> Taken:
        """Itself; raises Failure where the turn failed."""
        if self.failure:
            raise Failure(self.failure)
        return self


@dataclass(frozen=True)
class Figure:
    """A number made of a case's turns, and the bar it has to reach; no bar: for information."""

    name: str
    value: Callable[[Mapping[str, Taken]], float]
    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the bar is reached. A bar is a decimal, and so is what is compared with it."""
        low, high = self.at_least, self.at_most
        return (low is None or round(value, 3) >= low) and (high is None or round(value, 3) <= high)


@dataclass(frozen=True)
class Case:
    """Turns by their names in the table, with one unit, and the figures made of them.

    rounds  where it needs a certain number of them
    """

    name: str
    title: str
    about: str
    unit: str
    turns: Mapping[str, Turn]
    figures: Sequence[Figure]
    rounds: int | None = None


class Run:
    """A case being measured: what its turns gave so far, and the processes that they need."""

    def __init__(self, case: Case) -> None:
        self.taken = {name: Taken() for name in case.turns}
        self.versions: dict[str, dict[str, str]] = {}
        self._case = case
        self._engines: dict[str, Engine] = {}
        self._rounds = 0

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        for engine in self._engines.values():
            engine.close()

    def round(self, *, counted: bool) -> None:
        """Every turn once, in turned order every other time; a turn that fails is not asked again.

        The first round should not count.
        """
        self._rounds += 1
        turns = list(self._case.turns.items())
        for name, turn in turns if self._rounds % 2 else reversed(turns):
            taken = self.taken[name]
            if taken.failure:
                continue
            try:
                answer = self._ask(turn)
            except Failure as failure:
                taken.failure = str(failure)
                continue
            if counted:
                taken.values.append(turn.read(answer))
                taken.ids = answer.get("ids", ())
            else:
                taken.first = turn.read(answer)
            time.sleep(PAUSE)

    def _ask(self, turn: Turn) -> Answer:
        key = turn.process
        if key not in self._engines:
            self._engines[key] = Engine(turn.engine, turn.model, turn.options)
            self.versions[turn.engine] = self._engines[key].versions
        answer = self._engines[key].ask(**turn.command)
        if turn.fresh:
            self._engines.pop(key).close()
        return answer
