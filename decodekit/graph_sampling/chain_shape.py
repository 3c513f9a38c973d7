"""The shape of a chain: what its graph depends on, and what goes into the graph as an input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from decodekit.graph_sampling.telling import kind_of
from decodekit.parameters import Whole, numbers
from decodekit.processors import LogitsProcessor

LIMIT = 2**53  # whole numbers up to it are float64 numbers
STATEFUL = {
    "init": "it keeps a state",
    "accept": "it learns from the tokens",
    "forced": "it forces tokens",
    "take_back": "it takes tokens back",
    "companion_prompt": "it has a prompt of its own",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A number of a processor, an input of the graph.

    place  of the processor in the chain
    whole  it is a whole number
    """

    place: int
    name: str
    whole: bool


@dataclass(frozen=True, slots=True)
class ChainShape:
    """The first processors of a chain, those that may be traced.

    processors  as many as tell what they do to a row, or have neither state nor fields that are no
                plain values
    why         the next one is not among them; "" where there is none
    key         their classes, and all fields but those that are inputs
    fields      the inputs
    values      theirs
    """

    processors: tuple[LogitsProcessor, ...]
    why: str
    key: tuple[Any, ...]
    fields: tuple[Field, ...]
    values: tuple[float, ...]

    @property
    def classes(self) -> tuple[type, ...]:
        return tuple(type(processor) for processor in self.processors)


def shape_of(processors: Sequence[LogitsProcessor]) -> ChainShape:
    """The shape of a chain."""
    why, key, fields, values = "", list[tuple[Any, ...]](), list[Field](), list[float]()
    for place, processor in enumerate(processors):
        if kind := kind_of(processor):
            key.append((type(processor), kind))
            continue
        inputs = _inputs(processor)
        rest = {name: value for name, value in _fields(processor).items() if name not in inputs}
        why = _obstacle(processor, rest)
        if why:
            processors = processors[:place]
            break
        key.append((type(processor), tuple(inputs), tuple(rest.items())))
        fields += [Field(place, name, whole) for name, whole in inputs.items()]
        values += [getattr(processor, name) for name in inputs]
    return ChainShape(tuple(processors), why, tuple(key), tuple(fields), tuple(values))


def _obstacle(processor: LogitsProcessor, fields: dict[str, Any]) -> str:
    for method, why in STATEFUL.items():
        if getattr(type(processor), method) is not getattr(LogitsProcessor, method):
            return why
    for name, value in fields.items():
        if not _is_plain(value):
            return f"its {name} is no plain value"
    return ""


def _inputs(processor: LogitsProcessor) -> dict[str, bool]:
    """Its numbers by name, and whether each is whole."""
    if not is_dataclass(processor):
        return {}
    found = {}
    for name, (number, _) in numbers(type(processor)).items():
        value, whole = getattr(processor, name), isinstance(number, Whole)
        if value is not None and not (whole and abs(value) >= LIMIT):
            found[name] = whole
    return found


def _fields(processor: LogitsProcessor) -> dict[str, Any]:
    slots = [name for kind in type(processor).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(processor, name) for name in (*getattr(processor, "__dict__", ()), *slots)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
