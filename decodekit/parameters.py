"""
Parameters: checked once, where they enter, against a domain in interval notation.

A strategy annotates its fields; the same words make the check, the message and the schema:

    @dataclass(frozen=True)
    class TopP(LogitsProcessor):
        p: Annotated[float, Real("[0, 1]", "probability mass", neutral=1)]

Elsewhere:

    real("max_time: seconds", seconds, "(0, inf)")        whole("seed", seed, "[0, inf)")
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from decodekit.errors import ParameterError


@dataclass(frozen=True)
class Number:
    """What a numeric field may be.

    domain   an interval, such as "(0, inf)"
    doc      what it is, with its unit
    neutral  the value at which the strategy changes nothing; None: there is none
    hint     the way out, said after the domain
    """

    domain: str
    doc: str = ""
    neutral: float | None = None
    hint: str = ""


class Real(Number):
    """A finite number."""

    def check(self, name: str, value: Any) -> None:
        real(name, value, self.domain, self.hint)


class Whole(Number):
    """A whole number."""

    def check(self, name: str, value: Any) -> None:
        whole(name, value, self.domain, self.hint)


def check(strategy: Any) -> None:
    """Raise ParameterError unless every annotated field of a dataclass is in its domain.

    Where the annotation admits None, None is let through.
    """
    for field, (number, optional) in numbers(strategy.__class__).items():
        value = getattr(strategy, field)
        if not (optional and value is None):
            number.check(f"{snake_case(type(strategy).__name__)}: {field}", value)


@lru_cache(maxsize=256)
def numbers(strategy: Any) -> Mapping[str, tuple[Real | Whole, bool]]:
    """The annotated fields of a dataclass, in order: what each may be, and whether None is let through."""
    hints = get_type_hints(strategy, include_extras=True)
    found = {}
    for field in fields(strategy):
        if get_origin(hints[field.name]) is not Annotated:
            continue
        kind, *notes = get_args(hints[field.name])
        for note in notes:
            if isinstance(note, Real | Whole):
                found[field.name] = (note, type(None) in get_args(kind))
    return found


def snake_case(name: str) -> str:
    """TopNSigma -> top_n_sigma"""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


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


def token_ids(name: str, ids: Any) -> None:
    """Raise ParameterError unless `ids` is a collection of whole numbers from 0."""
    if (
        isinstance(ids, str)
        or not hasattr(ids, "__iter__")
        or not all(type(i) is int and i >= 0 for i in ids)
    ):
        raise ParameterError(f"{name} must be token ids, got {ids!r}")


def known_ids(name: str, ids: Any, size: int) -> None:
    """Raise ParameterError unless every id is in a vocabulary of `size` tokens."""
    unknown = [i for i in ids if not 0 <= i < size]
    if unknown:
        raise ParameterError(f"{name}: token ids are in [0, {size}), got {unknown[0]}")


def _contains(domain: str, value: float) -> bool:
    low, high, from_low, to_high = interval(domain)
    return (low <= value if from_low else low < value) and (value <= high if to_high else value < high)


@lru_cache
def interval(domain: str) -> tuple[float, float, bool, bool]:
    """Ends of an interval, and whether each belongs to it."""
    parts = re.fullmatch(r"([\[(])([^,]+), *([^,]+)([\])])", domain)
    assert parts, f"not an interval: {domain!r}"
    return float(parts[2]), float(parts[3]), parts[1] == "[", parts[4] == "]"
