"""A continuation: one sequence as it grows, token by token, as a criterion sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from decodekit.progress import Confidence, Progress
from decodekit.testing.table_model import histories

TOKENS = 40
PIECES = ("a", "b", "c", " ", ".", "\n", "ab", "no")
STRINGS = 4  # of the strategy's own, in whose pieces the text is told too


def continuation(strategy: Any, seed: int) -> Iterator[Progress]:
    """Random pieces of text, among them those of the strings that the strategy was given."""
    draw = np.random.default_rng(seed)
    pieces = [*PIECES, *_halves(strategy, draw)]
    tokens = draw.integers(0, len(pieces), TOKENS).tolist()
    confidence = [Confidence(*map(float, draw.exponential(size=2))) for _ in tokens]
    text = ""
    starts: list[int] = []
    for i, token in enumerate(tokens):
        starts = [*starts, len(text)]
        text += pieces[token]
        (history,) = histories([0, *tokens[: i + 1]])
        yield Progress(history, text, starts[-1], 0.1 * i, starts, confidence[: i + 1])


def fields_of(strategy: Any) -> dict[str, Any]:
    """What it holds, by name."""
    return dict(getattr(strategy, "__dict__", {}))


def _halves(strategy: Any, draw: np.random.Generator) -> Iterator[str]:
    """Each of its strings in two, at a random place."""
    for string in list(_strings(fields_of(strategy).values()))[:STRINGS]:
        at = int(draw.integers(0, len(string) + 1))
        yield from filter(None, (string[:at], string[at:]))


def _strings(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _strings(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            yield from _strings(value)
