"""
oneOf where its alternatives exclude each other: then it is anyOf, which can be enforced.

Libraries that make schemas of types write a union as oneOf of references, told apart by a
property with one value in each. The compiler does not look behind references; this does.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

ALL = {"null", "boolean", "number", "string", "array", "object"}


def as_any_of(part: dict[str, Any], root: Mapping[str, Any]) -> None:
    """Write oneOf as anyOf, in its place, where no value can be valid against two of its alternatives."""
    options = part.get("oneOf")
    if "anyOf" in part or not isinstance(options, list):
        return
    resolved = [_resolved(option, root) for option in options]
    if all(_exclude(one, other) for one, other in combinations(resolved, 2)):
        renamed = {"anyOf" if keyword == "oneOf" else keyword: value for keyword, value in part.items()}
        part.clear()
        part.update(renamed)


def _exclude(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if not _kinds(one) & _kinds(other):
        return True
    if not _kinds(one) == _kinds(other) == {"object"}:
        return False
    for name in set(_required(one)) & set(_required(other)):
        values, others = _values(one, name), _values(other, name)
        if values and others and not values & others:
            return True
    return False


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """The kinds of values that a schema may allow, as its own type says; all where it says nothing."""
    kinds = schema.get("type")
    if not isinstance(kinds, str | list):
        return ALL
    listed = [kinds] if isinstance(kinds, str) else kinds
    return {"number" if kind == "integer" else str(kind) for kind in listed}


def _required(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required", [])
    return [name for name in required if isinstance(name, str)] if isinstance(required, list) else []


def _values(schema: Mapping[str, Any], name: str) -> set[str]:
    """The texts that a property may be, where they are listed."""
    properties = schema.get("properties", {})
    listed = properties.get(name) if isinstance(properties, Mapping) else None
    if not isinstance(listed, Mapping):
        return set()
    values = [listed["const"]] if "const" in listed else listed.get("enum", [])
    return (
        set(values) if isinstance(values, list) and all(isinstance(value, str) for value in values) else set()
    )


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a schema says itself, or what the definition says that it refers to."""
    for _ in range(10):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            break
        schema = _definition(str(schema["$ref"]), root)
    return schema if isinstance(schema, Mapping) else {}


def _definition(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith("#/") or set("~%") & set(reference):
        return None
    found: Any = root
    for step in reference.split("/")[1:]:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found
