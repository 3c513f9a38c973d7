"""
Parity: how far a graph is from the PyTorch model it was drawn from, and whether that is near enough.

The bars and the figures. How they are measured is the gate's business. The model is always the
one in float32. What a graph in float16 may differ from it is not the same for all models, since
rounding grows from layer to layer: so it is measured, on the same tokens, by what PyTorch itself
loses in that type.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FLOAT32 = (1e-3, 1e-4)  # largest |difference|, and largest relative to the scale
TIMES = 2  # of PyTorch's own rounding: another order of sums, and a maximum over other places
MOST = 0.05  # of the scale; a model that rounding changes more is of no use in that type


@dataclass(frozen=True, slots=True)
class Parity:
    """What the gate measured.

    logits     largest |difference| of a logit, by road
    cache      largest |difference| of a key or value, by road
    scales     largest |logit| and largest |key or value| of the model
    bars       the largest differences allowed
    rounding   largest |difference| of PyTorch's own answers in the graph's type; None: it is float32
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
    rounding: dict[str, float] | None
    prompts: int
    tokens: int
    near_ties: tuple[str, ...]
    window: bool | None
    provider: str
    device: str
    onnxruntime: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    def fields(self) -> dict[str, Any]:
        """For a manifest, to three digits."""
        kinds = ("logits", "cache", "scales", "bars", "rounding")
        digits = {name: _rounded(figures) for name in kinds if (figures := getattr(self, name))}
        return {"passed": self.passed, **asdict(self), **digits}


def bars(scales: dict[str, float], rounding: dict[str, float] | None) -> dict[str, float]:
    """The largest differences allowed, so that a model of small numbers has a small bar."""
    if rounding is None:
        absolute, relative = FLOAT32
        return {name: min(absolute, relative * scale) for name, scale in scales.items()}
    return {name: min(TIMES * rounding[name], MOST * scale) for name, scale in scales.items()}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.3g}") for name, value in figures.items()}
