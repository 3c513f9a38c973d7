"""Portability: whether a strategy runs on any array of the array API standard."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from decodekit.ops import Array
from decodekit.parameters import snake_case
from decodekit.processors import LogitsProcessor
from decodekit.testing.bench import Bench

Tried = Callable[[Callable[[Array], Array]], Array]  # what comes out, of arrays made by a function


def portable(name: str, processor: LogitsProcessor) -> str:
    """ "yes", or "no: " and why. Not to be portable breaks no law.

    Tried on array-api-strict is the function of the strategy's name in its module, with the arguments
    `logits`, `ids`, `counts` and what the strategy has under their names; without one, `process`.
    """
    try:
        import array_api_strict as strict
    except ImportError:
        return "not tried: pip install array-api-strict"
    bench = Bench.of(processor)
    tried = _function(name, processor, bench) or _process(processor, bench)
    expected = np.asarray(tried(np.asarray))
    try:
        found = tried(lambda array: strict.asarray(np.array(array)))
        if not isinstance(found, type(strict.asarray(0))):
            return f"no: it gives {type(found).__module__}.{type(found).__name__}"
    except Exception as exc:
        return textwrap.shorten(f"no: {type(exc).__name__}: {exc}", 120)
    same = np.allclose(expected, np.asarray(found), rtol=1e-5, atol=1e-5)
    return "yes" if same else "no: it gives other logits"


def _function(name: str, processor: LogitsProcessor, bench: Bench) -> Tried | None:
    """The strategy's function, if there is one and its arguments are known."""
    module = sys.modules[type(processor).__module__]
    places = (getattr(module, called, None) for called in (name, snake_case(type(processor).__name__)))
    function = next(filter(inspect.isfunction, places), None)
    arrays = {"logits": bench.logits, "ids": bench.step.ids, "counts": bench.step.counts()}
    takes = list(inspect.signature(function).parameters) if function else []
    if function is None or not all(name in arrays or hasattr(processor, name) for name in takes):
        return None

    def tried(make: Callable[[Array], Array]) -> Any:
        return function(*(make(arrays[n]) if n in arrays else getattr(processor, n) for n in takes))

    return tried


def _process(processor: LogitsProcessor, bench: Bench) -> Tried:
    def tried(make: Callable[[Array], Array]) -> Any:
        step = replace(bench.step, ids=make(bench.step.ids))
        return processor.process(make(bench.logits), step, processor.init(3))

    return tried
