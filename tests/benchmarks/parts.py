"""What cases are put together from: models, prompts, turns and figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from case import Figure, Taken, Turn
from checkpoint import SHAPES
from engines import Answer

OWN, BUILT = "smol/bundle", "smol/genai-fp32"
OWN4, OWN4_64 = "smol/int4-32", "smol/int4-64"
BUILT4, BUILT4_64 = "smol/genai-int4", "smol/genai-int4-64"
F32, Q4_0 = "smol/gguf/f32.gguf", "smol/gguf/q4_0.gguf"
ROWS = 16
BYTES = 256  # ids below are single bytes, which need not be text


def random_ids(count: int, seed: int = 1) -> list[int]:
    """A prompt that every model here has the ids for."""
    rng = random.Random(seed)
    smallest = min(shape.vocabulary for shape in SHAPES.values())
    return [rng.randrange(BYTES, smallest - 1) for _ in range(count)]


def ragged(count: int) -> list[list[int]]:
    """Prompts of 40 to 200 ids, in no order of length."""
    lengths = [120] if count == 1 else [40 + 160 * i // (count - 1) for i in range(count)]
    random.Random(0).shuffle(lengths)
    return [random_ids(length, seed) for seed, length in enumerate(lengths)]


def stream(
    engine: str, model: str, prompt: Sequence[int], tokens: int, *, fresh: bool = False, **load: Any
) -> Turn:
    """One greedy stream, in tokens a second between the first and the last."""
    command = {"do": "stream", "prompt": prompt, "tokens": tokens}
    return Turn(engine, model, command, tokens_a_second(tokens), load, fresh)


def tokens_a_second(tokens: int) -> Callable[[Answer], float]:
    return lambda answer: (tokens - 1) / answer["decode"]


def step(engine: str, model: str, prompt: Sequence[int], tokens: int) -> Turn:
    """One stream, in milliseconds a token."""
    command = {"do": "stream", "prompt": prompt, "tokens": tokens}
    return Turn(engine, model, command, lambda answer: 1e3 * answer["decode"] / (tokens - 1))


def rows(engine: str, model: str, prompts: Sequence[Sequence[int]], tokens: int, **load: Any) -> Turn:
    """Streams at once, in tokens a second of all while all are decoding.

    Two tokens a row come on top, of the time in which the first streams wait for the others to begin.
    """
    command = {"do": "batch", "prompts": prompts, "tokens": tokens + 2 * len(prompts)}
    return Turn(engine, model, command, lambda answer: answer["tokens"] / answer["decode"], load)


def ratio(this: str, other: str, at_least: float | None = None) -> Figure:
    """Of two medians."""
    return Figure(f"{this} / {other}", lambda taken: taken[this].median / taken[other].median, at_least)


def median(name: str, at_most: float) -> Figure:
    return Figure(name, lambda taken: taken[name].median, at_most=at_most)


def same_ids(this: str, other: str, count: int) -> Figure:
    """How many of the first `count` ids two streams have in common before they part."""

    def common(taken: Mapping[str, Taken]) -> float:
        pairs = list(zip(taken[this].whole.ids, taken[other].whole.ids, strict=True))[:count]
        return float(next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs)))

    return Figure(f"ids of {this} that are those of {other}", common, at_least=count)
