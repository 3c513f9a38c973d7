"""
Parity: how far a graph is from the PyTorch model it was drawn from, and whether that is near enough.

The bars and the figures. How they are measured is the gate's business.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

BARS = {"float32": (1e-3, 1e-4)}  # by dtype: largest |difference|, and largest relative to the scale


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate measured.

    logits     largest |difference| of a logit, by road
    cache      largest |difference| of a key or value, by road
    scales     largest |logit| and largest |key or value| of the model
    bars       the largest differences allowed
    tokens     greedy tokens compared, over all prompts
    near_ties  greedy tokens that differ although the logits agree, since the model's best
               ones are closer to each other than the bar: counted, named and allowed
    window     whether a road was longer than the attention window; None: there is none
    failures   what disagrees, as sentences; empty if the graph passed
    """

    logits: dict[str, float]
    cache: dict[str, float]
    scales: dict[str, float]
    bars: dict[str, float]
    prompts: int
    tokens: int
    near_ties: tuple[str, ...]
    window: bool | None
    provider: str
    onnxruntime: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    def fields(self) -> dict[str, Any]:
        """For a manifest, to three digits."""
        digits = {name: _rounded(getattr(self, name)) for name in ("logits", "cache", "scales", "bars")}
        return {"passed": self.passed, **asdict(self), **digits}


def bars(dtype: str, scales: dict[str, float]) -> dict[str, float]:
    """The largest differences allowed, so that a model of small numbers has a small bar."""
    absolute, relative = BARS[dtype]
    return {name: min(absolute, relative * scale) for name, scale in scales.items()}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.3g}") for name, value in figures.items()}
