"""
Schemas: what options a strategy takes, as JSON Schema (draft 2020-12), and what its documentation says.

Both are read off the strategy itself: the factory's signature is the option list, `Real` and
`Whole` in its annotations are the domains, the labelled lines of its docstring the definition.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from decodekit.parameters import Number, Whole, interval
from decodekit.plugins import signature, summary

LABELS = ("formula", "boundary", "ties", "history", "neutral", "source")
_PLAIN = {float: "number", int: "integer", str: "string", bool: "boolean"}


def schema(factory: Callable[..., Any]) -> dict[str, Any]:
    """Of the options of one strategy. `x-neutral` is the value at which it changes nothing."""
    parameters = signature(factory).parameters.values()
    return {
        "type": "object",
        "description": summary(factory),
        "properties": {p.name: _property(p) for p in parameters},
        "required": [p.name for p in parameters if p.default is p.empty],
        "additionalProperties": False,
    }


def labels(factory: Callable[..., Any]) -> dict[str, str]:
    """The labelled lines of a strategy's documentation, each as one line; what is not there is left out."""
    found: dict[str, str] = {}
    label = ""
    for line in (inspect.getdoc(factory) or "").splitlines()[1:]:
        if begun := re.match(rf"({'|'.join(LABELS)})\s+(.+)", line):
            label, text = begun.groups()
            found[label] = text.strip()
        elif label and line.startswith(" "):
            found[label] += " " + line.strip()
        else:
            label = ""
    return found


def _property(parameter: inspect.Parameter) -> dict[str, Any]:
    found = _type(parameter.annotation)
    if parameter.default is not parameter.empty:
        found["default"] = _jsonable(parameter.default)
    return found


def _type(annotation: Any) -> dict[str, Any]:
    """The schema of a Python type; {} for one that JSON has no word for."""
    if get_origin(annotation) is Annotated:
        kind, *notes = get_args(annotation)
        return _type(kind) | _domain(next((n for n in notes if isinstance(n, Number)), None))
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [_type(kind) for kind in get_args(annotation)]
        return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    if get_origin(annotation) is Literal:
        return {"enum": list(get_args(annotation))}
    if annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if annotation is type(None):
        return {"type": "null"}
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, Mapping):
        values = get_args(annotation)[1:]
        return {"type": "object"} | ({"additionalProperties": _type(values[0])} if values else {})
    if isinstance(kind, type) and issubclass(kind, Sequence | Collection):
        items = get_args(annotation)
        return {"type": "array"} | ({"items": _type(items[0])} if items else {})
    return {}


def _domain(number: Number | None) -> dict[str, Any]:
    if number is None:
        return {}
    low, high, from_low, to_high = interval(number.domain)
    whole = int if isinstance(number, Whole) else float
    found: dict[str, Any] = {}
    if low > float("-inf"):
        found["minimum" if from_low else "exclusiveMinimum"] = whole(low)
    if high < float("inf"):
        found["maximum" if to_high else "exclusiveMaximum"] = whole(high)
    if number.doc:
        found["description"] = number.doc
    if number.neutral is not None:
        found["x-neutral"] = number.neutral
    return found


def _jsonable(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | frozenset | set) else value
