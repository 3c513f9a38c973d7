"""What calls of a model cost, measured as they happen."""

from __future__ import annotations

MEMORY = 0.15  # weight of the newest measurement in a running mean
SURPRISE = 4.0  # times what was believed, the most that a measurement counts


class Costs:
    """Seconds that calls of a model take, measured as they happen: running means by shape."""

    def __init__(self) -> None:
        self._chunk: dict[int, float] = {}  # tokens in one row
        self._step: dict[int, float] = {}  # rows of one token

    def saw_chunk(self, tokens: int, seconds: float) -> None:
        self._chunk[tokens] = _moved(self.chunk(tokens), seconds)

    def saw_step(self, rows: int, seconds: float) -> None:
        self._step[rows] = _moved(self._step.get(rows, 0.0), seconds)

    def chunk(self, tokens: int) -> float:
        """Of one row. One not seen yet is thought as cheap as the next shorter one, to be tried; none is
        thought dearer than a longer one.
        """
        shorter = [n for n in self._chunk if n <= tokens]
        believed = self._chunk[max(shorter)] if shorter else self.step(1)
        longer = (seconds for n, seconds in self._chunk.items() if n > tokens)
        return min((seconds for seconds in (believed, *longer) if seconds), default=0.0)

    def step(self, rows: int) -> float:
        return self._step.get(rows) or self._step.get(1) or 0.0

    def rate(self, rows: int) -> float:
        """Tokens per second of `rows` rows that decode together."""
        seconds = self.step(rows)
        return rows / seconds if seconds else 0.0


def _moved(believed: float, seconds: float) -> float:
    """A running mean, which one slow call, as the first of a shape is, cannot move far."""
    return believed + MEMORY * (min(seconds, SURPRISE * believed) - believed) if believed else seconds
