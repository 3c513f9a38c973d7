"""Chains: from the fields of a request to strategies. Names are looked up, options checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from decodekit.plugins import Registry
from decodekit.processors import LogitsProcessor
from decodekit.schema import labels, schema
from decodekit.stopping import StoppingCriterion
from decodekit_server.ask import Ask, Constraint, Sampling
from decodekit_server.errors import ApiError, api_error
from decodekit_server.limits import MAX_OPTIONS
from decodekit_server.params.fields import Strategy

DEFAULTS = Sampling(
    temperature=1.0, top_p=1.0, top_k=0, frequency_penalty=0.0, presence_penalty=0.0, logit_bias={}
)
NEUTRAL = {"top_p": 1, "top_k": 0, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}}


def chain(ask: Ask, registry: Registry) -> list[LogitsProcessor]:
    """Constraint first; then biases, penalties, temperature, top_k, top_p, or what `processors` says."""
    constrained = [constrain(ask.constraint, registry)] if ask.constraint else []
    if ask.extras.processors is None:
        return constrained + flat(ask.sampling, registry)
    for name, value in given(ask.sampling).items():
        if value != NEUTRAL.get(name):
            raise ApiError(
                400,
                "E_PARAMETER",
                f"{name}: decodekit.processors is the whole chain; say it there, or leave out one of both",
                name,
            )
    named = [make(one, registry, f"decodekit.processors.{i}") for i, one in enumerate(ask.extras.processors)]
    return constrained + named


def flat(sampling: Sampling, registry: Registry) -> list[LogitsProcessor]:
    """The strategies of the flat fields; those that would change nothing are left out."""
    values = effective(sampling)
    made = [
        registry.create(name, values[name])
        for name in ("logit_bias", "frequency_penalty", "presence_penalty")
        if values[name] != NEUTRAL[name]
    ]
    made.append(registry.create("temperature", float(values["temperature"])))
    if values["top_k"]:
        made.append(registry.create("top_k", values["top_k"]))
    if values["top_p"] != 1:
        made.append(registry.create("top_p", values["top_p"]))
    return made


def criteria(ask: Ask, registry: Registry) -> list[StoppingCriterion]:
    """The further stopping criteria of a request."""
    return [make(one, registry, f"decodekit.stopping.{i}") for i, one in enumerate(ask.extras.stopping)]


def given(sampling: Sampling) -> dict[str, Any]:
    """The flat fields that a client gave."""
    values = {f.name: getattr(sampling, f.name) for f in fields(sampling)}
    return {name: value for name, value in values.items() if value is not None}


def effective(sampling: Sampling) -> dict[str, Any]:
    """The values that hold, by field."""
    return {f.name: getattr(DEFAULTS, f.name) for f in fields(sampling)} | given(sampling)


def constrain(constraint: Constraint, registry: Registry) -> LogitsProcessor:
    """The strategy of a constraint; an error where it is not installed: nothing else could enforce it."""
    if constraint.strategy not in registry.entries:
        raise ApiError(
            400,
            "E_UNSUPPORTED",
            f"{constraint.field}: needs the package decodekit-grammar; install it on the server",
            constraint.field,
        )
    made: LogitsProcessor = registry.create(constraint.strategy, **constraint.options)
    return made


def make(strategy: Strategy, registry: Registry, where: str) -> Any:
    """A strategy by its name and options, both as a client wrote them."""
    if (count := _count(strategy.options)) > MAX_OPTIONS:
        raise ApiError(400, "E_LIMIT", f"{where}: {count:,} values, at most {MAX_OPTIONS:,} are taken", where)
    if strategy.name in registry.entries:
        factory, _ = registry.entries[strategy.name]
        if error := _first(_validator(factory).iter_errors(strategy.options)):
            place = ".".join((where, *map(str, error.absolute_path)))
            raise ApiError(400, "E_PARAMETER", f"{place}: {strategy.name}: {error.message:.300}", place)
    try:
        return registry.create(strategy.name, **strategy.options)
    except Exception as exc:
        told = api_error(exc)
        raise ApiError(told.status, told.code, f"{where}: {told}", where) from exc


def _count(value: Any) -> int:
    """Values in plain data, those that hold others included."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_count, children))


def _first(errors: Iterable[ValidationError]) -> ValidationError | None:
    """What to tell of them: first of all an option that there is not."""
    found = list(errors)
    unknown = [error for error in found if error.validator == "additionalProperties"]
    return next(iter(unknown), None) or best_match(found)


@lru_cache(maxsize=512)
def _validator(factory: Callable[..., Any]) -> Draft202012Validator:
    return Draft202012Validator(schema(factory))


def catalogue(registry: Registry) -> list[Mapping[str, Any]]:
    """Every strategy of a kind: name, distribution, the schema of its options, its documentation."""
    return [
        {
            "name": name,
            "distribution": plugin.distribution,
            "schema": json.loads(json.dumps(schema(factory), default=str)),
            "about": labels(factory),
        }
        for name, (factory, plugin) in sorted(registry.entries.items())
    ]


def written(links: Sequence[Any]) -> list[dict[str, Any]]:
    """A chain as `decodekit.processors` would say it."""
    return [{"name": one.name} | dict(one.options or {}) for one in links]
