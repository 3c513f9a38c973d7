"""
Does the tuned model stop? The question that a loss does not answer, asked of the model itself.

The same prompts, asked by the same loop, of the model in PyTorch and of the bundle in onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from decodekit.generate import stream
from decodekit.model import Model
from decodekit.sampling import Sampler
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit_export.data import Row

LONGEST = 256  # tokens of an answer, at most

Answer = Callable[[Sequence[int], int], str]  # a prompt and room for tokens -> why the answer ended


@dataclass(frozen=True, slots=True)
class Ending:
    """Of `asked` greedy answers, `ended` came to a stop token within `within` tokens."""

    asked: int
    ended: int
    within: int

    @property
    def share(self) -> float:
        return self.ended / self.asked


def measure_ending(model: Model, rows: Sequence[Row], stop_ids: Sequence[int], asked: int) -> Ending:
    """Answer `asked` prompts of `rows` greedily, each with room for the longest completion among them."""

    def answer(prompt: Sequence[int], room: int) -> str:
        ends = (EndTokens(stop_ids), MaxNewTokens(room))
        *_, last = stream(model, prompt, Sampler((Greedy(),)), ends)
        assert last.stop
        return last.stop.reason

    return count_endings(answer, model.context_length, rows, asked)


def count_endings(answer: Answer, context_length: int, rows: Sequence[Row], asked: int) -> Ending:
    """How the answers to `asked` prompts of `rows` end."""
    some = spread(rows, asked)
    within = longest(some)
    ended = 0
    for row in some:
        room = min(within, context_length - len(row.prompt))
        ended += answer(row.prompt, room) == "stop"
    return Ending(len(some), ended, within)


def spread(rows: Sequence[Row], count: int) -> Sequence[Row]:
    """So many of the rows, evenly spread; all if there are fewer."""
    picked = np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)
    return [rows[i] for i in picked]


def longest(rows: Sequence[Row]) -> int:
    """Tokens that an answer may have: those of the longest completion, or LONGEST."""
    return min(max(sum(row.mask) for row in rows), LONGEST)
