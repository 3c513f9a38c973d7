"""Plain options: values that go with a strategy's schema, for trying one that nobody wrote options for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_NONE = object()  # equal to nothing


def plain_options(schema: Mapping[str, Any], *, active: bool = False) -> dict[str, Any]:
    """A value for each option that must be given, not the neutral one; None where none surely does.

    active  also for those that are neutral unless they are given
    """
    return {
        name: _plain(entry)
        for name, entry in schema["properties"].items()
        if name in schema["required"] or (active and entry.get("default", _NONE) == entry.get("x-neutral"))
    }


def _plain(entry: Mapping[str, Any]) -> Any:
    if "anyOf" in entry:
        rest = {key: value for key, value in entry.items() if key != "anyOf"}
        kinds = (_plain(kind | rest) for kind in entry["anyOf"])
        return next((value for value in kinds if value is not None), None)
    if "enum" in entry:
        return entry["enum"][0]
    match entry.get("type"):
        case "number" | "integer" as kind:
            low, high = entry.get("minimum", 0), entry.get("maximum", 1)
            values = (3, 2, 1, low, high) if kind == "integer" else (0.5, 2.0, (low + high) / 2, low, high)
            return next((v for v in values if _inside(entry, v) and v != entry.get("x-neutral")), None)
        case "boolean":
            return True
        case "string":
            return "a"
        case "array":
            item = _plain(entry.get("items", {}))
            return [1, 2, 3] if isinstance(item, int) else None if item is None else [item]
        case "object":
            value = _plain(entry.get("additionalProperties") or {})
            return {} if value is None else {"1": value}
    return None


def _inside(entry: Mapping[str, Any], value: float) -> bool:
    low, high = entry.get("minimum", -math.inf), entry.get("maximum", math.inf)
    above, below = entry.get("exclusiveMinimum", -math.inf), entry.get("exclusiveMaximum", math.inf)
    return bool(low <= value <= high and above < value < below)
