"""The laws of a strategy's options: what its schema promises is so."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from decodekit.errors import ParameterError
from decodekit.processors import LogitsProcessor
from decodekit.stopping import StoppingCriterion
from decodekit.testing.bench import Bench
from decodekit.testing.continuation import continuation, fields_of
from decodekit.testing.table_model import frozen
from decodekit.tokenizer import Tokenizer

Make = Callable[..., Any]
Options = Mapping[str, Any]


def leaves_itself_as_it_was(make: Make, options: Options, tokenizer: Tokenizer) -> None:
    """bind returns what knows the tokens and leaves the strategy as it was"""
    strategy = make(**options)
    kind = LogitsProcessor if isinstance(strategy, LogitsProcessor) else StoppingCriterion
    before = fields_of(strategy)
    bound = strategy.bind(tokenizer)
    assert isinstance(bound, kind), f"bind gave {type(bound).__name__}"
    after = fields_of(strategy)
    assert before.keys() == after.keys() and all(after[name] is before[name] for name in before)


def keeps_its_domains(make: Make, schema: Mapping[str, Any], options: Options, tokenizer: Tokenizer) -> None:
    """options outside their domain are refused, and those at its ends work"""
    for name, value in _outside(schema):
        try:
            make(**{**options, name: value})
        except ParameterError:
            continue
        raise AssertionError(f"{name}={value!r} is outside its domain and taken")
    for name, value, alike in _ends(schema):
        try:
            strategy = make(**{**options, name: value})
        except ParameterError:  # it may not go with the other options
            strategy = make(**{**options, **dict.fromkeys(alike, value)})
        _use(strategy.bind(tokenizer), f"{name}={value!r}", tokenizer.size)


def keeps_out_where_neutral(
    make: Make, schema: Mapping[str, Any], options: Options, tokenizer: Tokenizer
) -> None:
    """neutral options change nothing: process returns its input as it is, check never stops"""
    neutral = {k: entry["x-neutral"] for k, entry in schema["properties"].items() if "x-neutral" in entry}
    strategy = make(**{**options, **neutral}).bind(tokenizer)
    if not isinstance(strategy, LogitsProcessor):
        assert not any(map(strategy.check, continuation(strategy, 0))), f"{neutral} stops"
        return
    bench = Bench.of(strategy, tokenizer.size)
    given = frozen(bench.logits)
    out = strategy.process(given, bench.step, strategy.init(3))
    assert np.array_equal(out, given), f"{neutral} changes the logits"
    assert out is given, f"{neutral} gives equal logits, but not the input itself"


def _use(strategy: Any, how: str, vocabulary: int) -> None:
    """One step, whose answer is such as it must be."""
    if isinstance(strategy, LogitsProcessor):
        out = Bench.of(strategy, vocabulary)()
        assert not np.isnan(out).any() and not np.isposinf(out).any(), f"{how} gives NaN or +inf"
        assert np.isfinite(out).any(axis=-1).all(), f"{how} leaves no candidate"
    else:
        for progress in continuation(strategy, 0):
            strategy.check(progress)


def _outside(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values just beyond the ends of every domain, and such of another type."""
    for name, entry in schema["properties"].items():
        kind = _number(entry)
        if kind is None:
            continue
        for key, away in (("minimum", -1), ("maximum", 1)):
            if key in entry:
                yield (
                    name,
                    entry[key] + away if kind == "integer" else math.nextafter(entry[key], away * math.inf),
                )
        for key in ("exclusiveMinimum", "exclusiveMaximum"):
            if key in entry:
                yield name, entry[key]
        yield from ((name, value) for value in (math.nan, math.inf, -math.inf, True, "1"))
        if kind == "integer":
            yield name, 1.5


def _ends(schema: Mapping[str, Any]) -> Iterator[tuple[str, float, list[str]]]:
    """Values at the closed ends of every domain, and all options whose domain ends there too."""
    properties = schema["properties"]
    for name, entry in properties.items():
        for key in ("minimum", "maximum"):
            if key in entry and _number(entry):
                alike = [other for other, of in properties.items() if of.get(key) == entry[key]]
                yield name, entry[key], alike


def _number(entry: Mapping[str, Any]) -> str | None:
    """Which kind of number an option is; None: it is none."""
    kinds = {entry.get("type"), *(kind.get("type") for kind in entry.get("anyOf", ()))}
    return next((kind for kind in ("integer", "number") if kind in kinds), None)
