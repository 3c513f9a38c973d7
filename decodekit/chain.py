"""
Chains: strategies written as text, looked up by name.

    "temperature=0.8, top_p=0.9"     the first parameter of each
    "mirostat.tau=4, mirostat.eta=0.2"   named parameters of one strategy
    "greedy"                         no parameters

Values are JSON; what is not JSON is a string. The order written is the order applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from decodekit.errors import ParameterError
from decodekit.origin import distribution
from decodekit.plugins import Registry

Written = str | Sequence[Any] | None  # text, or a sequence of texts and strategy objects


@dataclass(frozen=True, slots=True)
class Link:
    """One strategy of a chain, and how to make it again.

    name      it is registered under; the class name where it is not
    options   of the factory, plain data; None where it cannot be made from such
    origin    distribution and version
    """

    strategy: Any
    name: str
    options: Mapping[str, Any] | None
    origin: str


def parse(written: Written, registry: Registry, kind: type) -> tuple[Link, ...]:
    """The strategies of a chain, in order.

    kind  what an object must be to be taken as it is: LogitsProcessor or StoppingCriterion
    """
    if written is None:
        return ()
    if isinstance(written, str | kind):
        written = [written]
    if not isinstance(written, Iterable):
        raise ParameterError(f"a chain is a text, or texts and {kind.__name__} objects, got {written!r}")
    chain: list[Link] = []
    texts: list[str] = []
    for item in written:
        if isinstance(item, str):
            texts += _split(item)
        elif isinstance(item, kind):
            chain += [*_create(texts, registry), link(item, registry)]
            texts = []
        else:
            raise ParameterError(f"a chain holds texts and {kind.__name__} objects, got {item!r}")
    return (*chain, *_create(texts, registry))


def link(strategy: Any, registry: Registry) -> Link:
    """A link around an object; its options are its fields, where its class is registered."""
    name = next((n for n, (factory, _) in registry.entries.items() if factory is type(strategy)), None)
    options = None
    if name is not None and is_dataclass(strategy):
        options = _plain({f.name: getattr(strategy, f.name) for f in fields(strategy) if f.init})
    if name is not None:
        return Link(strategy, name, options, registry.plugin(name).distribution)
    return Link(
        strategy, type(strategy).__name__, None, distribution(type(strategy).__module__.partition(".")[0])
    )


def _create(texts: Iterable[str], registry: Registry) -> list[Link]:
    asked: dict[str, tuple[list[Any], dict[str, Any]]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        name, _, parameter = target.strip().partition(".")
        repeated = name in asked and not parameter
        args, options = asked.setdefault(name, ([], {}))
        if repeated or parameter in options:
            raise ParameterError(f"{target.strip()} is given twice; give it once")
        if parameter:
            if not equals:
                raise ParameterError(f"{target.strip()} has no value; write {target.strip()}=VALUE")
            options[parameter] = _value(value)
        elif equals:
            args.append(_value(value))
    return [_made(registry, name, args, options) for name, (args, options) in asked.items()]


def _made(registry: Registry, name: str, args: Sequence[Any], options: Mapping[str, Any]) -> Link:
    strategy = registry.create(name, *args, **options)
    made_from = _plain(registry.bound(name, *args, **options))
    return Link(strategy, name, made_from, registry.plugin(name).distribution)


def _plain(options: dict[str, Any]) -> dict[str, Any] | None:
    """The options as JSON would give them back, or None where it could not."""
    try:
        return dict(json.loads(json.dumps({k: _listed(v) for k, v in options.items()}, allow_nan=False)))
    except (TypeError, ValueError):
        return None


def _listed(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset | set) else value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _split(text: str) -> list[str]:
    """The parts between commas that are not inside brackets or quotes."""
    parts, depth, quoted, escaped, part = [], 0, False, False, ""
    for character in text:
        if character == '"' and not escaped:
            quoted = not quoted
        elif not quoted:
            depth += (character in "[{(") - (character in "]})")
        escaped = quoted and character == "\\" and not escaped
        if character == "," and not quoted and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [p.strip() for p in (*parts, part) if p.strip()]
