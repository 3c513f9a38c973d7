"""The language of llguidance: expressions and schemas written as grammars."""

from __future__ import annotations

import json
from typing import Any

from decodekit.errors import ParameterError

WHITESPACE = {  # what may stand at each place between two parts of JSON; bounded, or a model may never stop
    "none": None,
    "blank": r"\x20",
    "lines": r"\x20|\x0A[\x20\x09]{0,40}",
}


def of_regex(pattern: str) -> str:
    """The grammar of the texts that match an expression as a whole."""
    import llguidance

    return str(llguidance.LLMatcher.grammar_from_regex(pattern))


def of_schema(schema: dict[str, Any], whitespace: str, name: str) -> str:
    """The grammar of JSON valid against a schema, for the strategy of that name; see WHITESPACE."""
    return f'{{"grammars": [{{"json_schema": {written(schema, whitespace, name)}}}]}}'


def written(schema: dict[str, Any], whitespace: str, name: str) -> str:
    """A schema as JSON text, with the way in which its JSON is written.

    Without \\uXXXX each text is written in one way; with it, a key could escape its schema by
    being spelled differently.
    """
    if not isinstance(whitespace, str) or whitespace not in WHITESPACE:
        known = ", ".join(map(repr, WHITESPACE))
        raise ParameterError(f"{name}: whitespace must be one of {known}, got {whitespace!r}")
    how = {
        "whitespace_flexible": False,
        "whitespace_pattern": WHITESPACE[whitespace],
        "json_allowed_escapes": 'nrbtf\\"',
        "coerce_one_of": False,
        "lenient": False,
    }
    try:
        return json.dumps(schema | {"x-guidance": how}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ParameterError(f"{name}: schema must be JSON ({exc})") from exc
