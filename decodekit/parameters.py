"""
Parameters: checked once, where they enter, against a domain in interval notation.

    real("top_p: p", p, "[0, 1]")        whole("top_k: k", k, "[0, inf)")

The same words make the check and the message.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any

from decodekit.errors import ParameterError


def real(name: str, value: Any, domain: str, hint: str = "") -> None:
    """Raise ParameterError unless `value` is a finite number in `domain`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParameterError(f"{name} must be a number in {domain}, got {value!r}")
    if not abs(value) <= sys.float_info.max or not _contains(domain, value):
        raise ParameterError(f"{name} must be in {domain}, got {value!r}" + (f"; {hint}" if hint else ""))


def whole(name: str, value: Any, domain: str, hint: str = "") -> None:
    """Raise ParameterError unless `value` is a whole number in `domain`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(f"{name} must be a whole number in {domain}, got {value!r}")
    if not _contains(domain, value):
        raise ParameterError(f"{name} must be in {domain}, got {value!r}" + (f"; {hint}" if hint else ""))


def _contains(domain: str, value: float) -> bool:
    low, high, from_low, to_high = _interval(domain)
    return (low <= value if from_low else low < value) and (value <= high if to_high else value < high)


@lru_cache
def _interval(domain: str) -> tuple[float, float, bool, bool]:
    parts = re.fullmatch(r"([\[(])([^,]+), *([^,]+)([\])])", domain)
    assert parts, f"not an interval: {domain!r}"
    return float(parts[2]), float(parts[3]), parts[1] == "[", parts[4] == "]"
