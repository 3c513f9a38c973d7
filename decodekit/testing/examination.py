"""An examination: every law, tried on one registered strategy, as findings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from decodekit.errors import DecodekitError, ParameterError
from decodekit.processors import LogitsProcessor
from decodekit.schema import schema
from decodekit.stopping import StoppingCriterion
from decodekit.testing import criterion_laws, processor_laws
from decodekit.testing.processor_laws import Bench
from decodekit.tokenizer import Tokenizer

VOCABULARIES = (32_000, 49_152, 151_936)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a law holds; `why` says what happened if it does not."""

    law: str
    holds: bool
    why: str = ""


def examine(
    factory: Callable[..., Any], strategy: Any, options: Mapping[str, Any], tokenizer: Tokenizer
) -> list[Finding]:
    """All laws of a strategy that its factory made with those options, and what its schema promises."""
    bound = strategy.bind(tokenizer)
    if isinstance(bound, LogitsProcessor):
        bench = Bench.of(bound, tokenizer.size)
        found = [_tried(law.__doc__ or "", partial(law, bench)) for law in processor_laws.LAWS]
    else:
        found = [_tried(law.__doc__ or "", partial(law, bound, 0)) for law in criterion_laws.LAWS]
    found.append(_tried("parameters outside their domain are refused", partial(_bounds, factory, options)))
    if isinstance(bound, LogitsProcessor) and (neutral := _neutral(factory)):
        made = partial(factory, **{**options, **neutral})
        law = partial(_changes_nothing, made, tokenizer)
        found.append(_tried("neutral parameters change nothing", law))
    return found


def costs(processor: LogitsProcessor) -> dict[int, float]:
    """Microseconds of one call for one row, by vocabulary; the median of nine."""
    found = {}
    for vocabulary in VOCABULARIES:
        bench = Bench.of(processor, vocabulary).row(1)
        state, times = processor.init(1), []
        for _ in range(9):
            began = time.perf_counter()
            bench(state)
            times.append(time.perf_counter() - began)
        found[vocabulary] = 1e6 * float(np.median(times))
    return found


def _tried(law: str, function: Callable[[], None]) -> Finding:
    try:
        function()
    except AssertionError as exc:
        return Finding(law, False, str(exc).partition("\n")[0])
    except Exception as exc:  # what a plugin raises is its fault, and told
        return Finding(law, False, f"{type(exc).__name__}: {exc}")
    return Finding(law, True)


def _bounds(factory: Callable[..., Any], options: Mapping[str, Any]) -> None:
    for name, inside, value in _edges(factory):
        try:
            factory(**{**options, name: value})
        except ParameterError:
            assert not inside, f"{name}={value!r} is in its domain and refused"
        except DecodekitError:
            pass  # this end does not go with the other options
        else:
            assert inside, f"{name}={value!r} is outside its domain and taken"


def _edges(factory: Callable[..., Any]) -> Iterator[tuple[str, bool, float]]:
    """Values at and beyond the ends of every domain, and whether they are inside."""
    for name, found in schema(factory)["properties"].items():
        whole = found.get("type") == "integer"
        for key, away in (("minimum", -math.inf), ("maximum", math.inf)):
            if key in found:
                end = found[key]
                beyond = end + (1 if away > 0 else -1) if whole else math.nextafter(end, away)
                yield name, False, beyond
        for key in ("exclusiveMinimum", "exclusiveMaximum"):
            if key in found:
                yield name, False, found[key]
        if found.get("type") == "number":
            yield name, False, math.nan


def _neutral(factory: Callable[..., Any]) -> dict[str, Any]:
    found = schema(factory)["properties"].items()
    return {name: entry["x-neutral"] for name, entry in found if "x-neutral" in entry}


def _changes_nothing(made: Callable[[], LogitsProcessor], tokenizer: Tokenizer) -> None:
    bench = Bench.of(made().bind(tokenizer), tokenizer.size)
    bench = replace(bench, processor=bench.processor)
    assert np.array_equal(bench(), bench.logits)


def kind_of(strategy: Any) -> str:
    """What a person calls it."""
    return "stopping criterion" if isinstance(strategy, StoppingCriterion) else "logits processor"
