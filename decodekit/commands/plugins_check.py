"""`decodekit plugins check NAME`: every law, tried on what is installed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from decodekit.bundle import open_bundle
from decodekit.errors import InputError, ParameterError
from decodekit.plain_options import plain_options
from decodekit.plugins import Registry
from decodekit.processors import LogitsProcessor
from decodekit.schema import schema
from decodekit.testing.examination import Finding, costs, examine
from decodekit.testing.portability import portable
from decodekit.tokenizer import Tokenizer

Report = dict[str, Any]


def check(strategies: Mapping[str, Registry], written: Sequence[str]) -> Iterator[Report]:
    """A report on each strategy, made with the options that are written and plain ones where it needs more.

    strategies  where each name is registered
    written     "OPTION=VALUE", or "NAME.OPTION=VALUE" for one of several; VALUE is JSON, or a text
    """
    bundle = open_bundle("tagline")
    tokenizer = Tokenizer(bundle.tokenizer, bundle.stop_ids)
    for name, options in _chosen(strategies, written, tokenizer).items():
        registry = strategies[name]
        factory, plugin = registry.entries[name]
        make = partial(registry.create, name)
        found = examine(make, schema(factory), options, tokenizer)
        passed = all(finding.holds for finding in found)
        report = {
            "name": name,
            "from": plugin.distribution,
            "options": options,
            "passed": passed,
            "laws": found,
        }
        if passed and isinstance(strategy := make(**options).bind(tokenizer), LogitsProcessor):
            report |= {"array_api": portable(name, strategy), "microseconds": costs(strategy)}
        yield report


def plain(report: Report) -> Report:
    """A report as JSON has it: for each law true, or what happened."""
    laws: Sequence[Finding] = report["laws"]
    return report | {"laws": {finding.law: finding.holds or finding.why or False for finding in laws}}


def _chosen(
    strategies: Mapping[str, Registry], written: Sequence[str], tokenizer: Tokenizer
) -> dict[str, dict[str, Any]]:
    """The options of each strategy; InputError names all that must be given and are not."""
    chosen, wrong = {}, []
    given = _given(strategies, written)
    for name, registry in strategies.items():
        found = schema(registry.entries[name][0])
        options = {o: v for o, v in plain_options(found).items() if o not in given[name]}
        if missing := [option for option, value in options.items() if value is None]:
            wrong += [f"{name} needs {option}" for option in missing]
            continue
        chosen[name] = options | given[name]
        try:
            registry.create(name, **chosen[name]).bind(tokenizer)
        except ParameterError as exc:
            wrong.append(str(exc))
    if wrong:
        option = "OPTION" if len(strategies) == 1 else "NAME.OPTION"
        raise InputError(f"{'; '.join(wrong)}; give it with -o {option}=VALUE")
    return chosen


def _given(strategies: Mapping[str, Registry], written: Sequence[str]) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {name: {} for name in strategies}
    for text in written:
        target, equals, value = text.partition("=")
        owner, _, option = target.rpartition(".")
        if not owner and len(strategies) == 1:
            (owner,) = strategies
        if not equals or owner not in strategies:
            raise InputError(
                f"-o {text}: write OPTION=VALUE for one strategy, NAME.OPTION=VALUE for one of "
                f"{', '.join(strategies)}"
            )
        try:
            given[owner][option] = json.loads(value)
        except ValueError:
            given[owner][option] = value
    return given
