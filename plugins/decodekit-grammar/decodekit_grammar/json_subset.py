"""
What of JSON Schema can be enforced: all of a schema, or it is refused.

A keyword that is ignored is a constraint that is dropped, and so is a misspelt one. Every schema is
read here first, as draft 2020-12, and every keyword is one that the compiler enforces, or one that
constrains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from decodekit.errors import ParameterError
from decodekit.hint import hint

ENFORCED = {
    *("type", "const", "enum", "anyOf", "oneOf", "allOf", "$ref"),
    *("properties", "additionalProperties", "patternProperties", "required"),
    *("minProperties", "maxProperties", "items", "prefixItems", "minItems", "maxItems"),
    *("minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
SAYS_NOTHING = {
    *("$schema", "$id", "$anchor", "$defs", "definitions", "$comment", "title", "description"),
    *("default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator"),
    *("contentMediaType", "contentEncoding"),
}
REFUSED = {
    *("not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems"),
    *("dependentRequired", "dependentSchemas", "dependencies", "propertyNames", "additionalItems"),
    *("unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$dynamicAnchor", "$recursiveRef"),
    *("$vocabulary", "nullable", "x-guidance"),
}
FORMATS = {
    *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"),
}
ONE, MANY, NAMED = (
    {"items", "additionalProperties"},
    {"prefixItems", "anyOf", "oneOf", "allOf"},
    {"properties", "patternProperties", "$defs", "definitions"},
)
LITERAL = {"const", "enum", "required"}
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
EXACT = 2**53
MAX_DEPTH = 100
CONTROL = {*range(0x20), 0x7F} - set(map(ord, "\b\t\n\f\r"))  # what JSON could write as \\uXXXX alone
HEX = "[0-9a-fA-F]"
ESCAPE = re.compile(rf"\\(?:x({HEX}{{2}})|u({HEX}{{4}})|U({HEX}{{8}})|[xuU]\{{({HEX}+)\}}|(.))", re.DOTALL)


def check_schema(schema: Any, name: str) -> None:
    """ParameterError, naming the place, unless every constraint of the schema can be enforced."""
    for place, part in subschemas(schema, name):
        if isinstance(part, bool):
            continue
        if not isinstance(part, Mapping):
            raise ParameterError(f"{place} must be a schema, an object or true or false, got {part!r}")
        for keyword, value in part.items():
            _check_keyword(place, keyword, value)
        if "$id" in part and place != name:
            raise ParameterError(f"{place}: $id is understood at the top only; remove it")
        least, required = part.get("minProperties", 0), part.get("required", [])
        if isinstance(least, int) and isinstance(required, list) and least > len(set(map(str, required))) + 1:
            raise ParameterError(
                f"{place}: minProperties {least} cannot be enforced, since a key may come twice; "
                "list the keys in required"
            )


def subschemas(schema: Any, place: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """A schema and all in it, outer ones first, each with its place: "json_schema: schema/items"."""
    if depth > MAX_DEPTH:
        raise ParameterError(f"{place[:60]}...: nested more than {MAX_DEPTH} deep; make it flatter")
    yield place, schema
    if not isinstance(schema, Mapping):
        return
    for keyword, value in schema.items():
        inner: dict[str, Any] = {}
        if keyword in ONE:
            inner = {keyword: value}
        elif keyword in MANY and isinstance(value, list):
            inner = {f"{keyword}/{i}": part for i, part in enumerate(value)}
        elif keyword in NAMED and isinstance(value, Mapping):
            inner = {f"{keyword}/{key}": part for key, part in value.items()}
        for where, part in inner.items():
            yield from subschemas(part, f"{place}/{where}", depth + 1)


def _check_keyword(place: str, keyword: Any, value: Any) -> None:
    if keyword in REFUSED and (keyword, value) != ("uniqueItems", False):
        raise ParameterError(f"{place}: {keyword} cannot be enforced; remove it, and check the answer for it")
    if keyword not in ENFORCED | SAYS_NOTHING | REFUSED:
        way_out = hint(str(keyword), ENFORCED, "remove it")
        raise ParameterError(f"{place}: there is no keyword {keyword!r} in JSON Schema; {way_out}")
    if keyword in LITERAL | BOUNDS and any(abs(number) > EXACT for number in _numbers(value)):
        raise ParameterError(
            f"{place}: {keyword} beyond 2^53 cannot be enforced exactly; take a text instead"
        )
    texts = _keys(value) if keyword in NAMED else _texts(value) if keyword in LITERAL else ()
    if any(CONTROL & set(map(ord, text)) for text in texts):
        raise ParameterError(f"{place}: {keyword} has a control character, which no answer holds; remove it")
    patterns = _keys(value) if keyword == "patternProperties" else [value] if keyword == "pattern" else ()
    if any(isinstance(pattern, str) and _names_control(pattern) for pattern in patterns):
        raise ParameterError(
            f"{place}: a pattern names a control character, which no answer holds; write it without"
        )
    if keyword == "format" and value not in FORMATS:
        raise ParameterError(
            f"{place}: format {value!r} cannot be enforced, only {', '.join(sorted(FORMATS))}; "
            "write a pattern, or bounds"
        )


def _names_control(pattern: str) -> bool:
    """Whether an expression holds a control character or an escape of one."""
    named = {"a": 0x07, "v": 0x0B}
    codes = set(map(ord, pattern))
    for *numbers, letter in ESCAPE.findall(pattern):
        codes.add(named.get(letter, -1) if letter else int("".join(numbers), 16))
    return bool(CONTROL & codes)


def _keys(value: Any) -> list[str]:
    return [str(key) for key in value] if isinstance(value, Mapping) else []


def _texts(value: Any) -> Iterator[str]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, str))


def _numbers(value: Any) -> Iterator[float]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, int | float))


def _leaves(value: Any) -> Iterator[Any]:
    """All keys and single values in a JSON value."""
    if isinstance(value, Mapping):
        yield from _keys(value)
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part)
    else:
        yield value
