"""
Chains: strategies written as text, looked up by name.

    "temperature=0.8, top_p=0.9"     the first parameter of each
    "mirostat.tau=4, mirostat.eta=0.2"   named parameters of one strategy
    "greedy"                         no parameters

Values are JSON; what is not JSON is a string. The order written is the order applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from decodekit.errors import ParameterError
from decodekit.plugins import Registry

Written = str | Sequence[Any] | None  # text, or a sequence of texts and strategy objects


def parse(written: Written, registry: Registry, kind: type) -> tuple[Any, ...]:
    """The strategies of a chain, in order.

    kind  what an object must be to be taken as it is: LogitsProcessor or StoppingCriterion
    """
    if written is None:
        return ()
    if isinstance(written, str | kind):
        written = [written]
    chain: list[Any] = []
    texts: list[str] = []
    for item in written:
        if isinstance(item, str):
            texts += _split(item)
        elif isinstance(item, kind):
            chain += [*_create(texts, registry), item]
            texts = []
        else:
            raise ParameterError(f"a chain holds texts and {kind.__name__} objects, got {item!r}")
    return (*chain, *_create(texts, registry))


def _create(texts: Iterable[str], registry: Registry) -> list[Any]:
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
    return [registry.create(name, *args, **options) for name, (args, options) in asked.items()]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def _split(text: str) -> list[str]:
    """The parts between commas that are not inside brackets or quotes."""
    parts, depth, quoted, part = [], 0, False, ""
    for character in text:
        if character == '"':
            quoted = not quoted
        elif not quoted:
            depth += (character in "[{(") - (character in "]})")
        if character == "," and not quoted and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [p.strip() for p in (*parts, part) if p.strip()]
