"""What a text tells about a mark: a number per place that counts, and how likely chance alone gives it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Detection:
    """What a key finds in a text.

    tokens    that count: each context once, and only where a whole one lies in the text
    score     green tokens, or the sum of -ln(1 - u)
    expected  score of a text without this mark
    z         how far above it, in standard deviations of such texts
    p_value   probability that a text without this mark scores as high or higher; exact over keys
    """

    tokens: int
    score: float
    expected: float
    z: float
    p_value: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
