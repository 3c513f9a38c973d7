"""An examination: every law, tried on one registered strategy, as findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from decodekit.processors import LogitsProcessor
from decodekit.testing import criterion_laws, processor_laws
from decodekit.testing.bench import Bench
from decodekit.testing.obedience import obey
from decodekit.testing.option_laws import keeps_its_domains, keeps_out_where_neutral, leaves_itself_as_it_was
from decodekit.tokenizer import Tokenizer

VOCABULARIES = (32_000, 49_152, 151_936)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a law holds; `why` says what happened if it does not."""

    law: str
    holds: bool
    why: str = ""


def examine(
    make: Callable[..., Any], schema: Mapping[str, Any], options: Mapping[str, Any], tokenizer: Tokenizer
) -> list[Finding]:
    """All laws of a strategy that `make` gives for these options, and what its schema promises."""
    bound = make(**options).bind(tokenizer)
    laws = [partial(leaves_itself_as_it_was, make, options, tokenizer)]
    if isinstance(bound, LogitsProcessor):
        bench = Bench.of(bound, tokenizer.size)
        laws += [partial(law, bench) for law in processor_laws.LAWS]
    else:
        laws += [partial(law, bound, 0) for law in criterion_laws.LAWS]
    laws.append(partial(keeps_its_domains, make, schema, options, tokenizer))
    if any("x-neutral" in entry for entry in schema["properties"].values()):
        laws.append(partial(keeps_out_where_neutral, make, schema, options, tokenizer))
    return [_tried(law) for law in laws]


def costs(processor: LogitsProcessor) -> dict[int, float]:
    """Microseconds of one call for one row, by vocabulary; the median of nine."""
    found = {}
    for vocabulary in VOCABULARIES:
        bench = Bench.of(processor, vocabulary).row(0)
        state, times = processor.init(1), []
        for _ in range(9):
            began = time.perf_counter()
            bench(state)
            times.append(time.perf_counter() - began)
        found[vocabulary] = 1e6 * float(np.median(times))
    return found


def _tried(law: partial[None]) -> Finding:
    sentence = law.func.__doc__ or ""
    try:
        obey(sentence, law)
    except AssertionError as exc:
        return Finding(sentence, False, str(exc).removeprefix(sentence).removeprefix(": "))
    return Finding(sentence, True)
