"""An answer in JSON, to a schema."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from decodekit import strict_json
from decodekit.errors import ParameterError
from decodekit_grammar.grammar import Grammar
from decodekit_grammar.json_subset import check_schema, subschemas
from decodekit_grammar.notation import of_schema
from decodekit_grammar.one_of import as_any_of


@dataclass(frozen=True, repr=False)
class JsonSchema(Grammar):
    """Let through only JSON that is valid against a schema, given as an object or as its text.

    formula   keep i where answer + i begins a JSON text valid against the schema; end tokens where it is one
    boundary  the answer is one JSON value, with nothing before or behind it; where JSON lets
              whitespace stand is "none", at most one "blank", or also a line break and 40 blanks: "lines"
    ties      treated alike
    history   the answer's tokens; the prompt does not count
    neutral   none; {} is any JSON
    source    JSON Schema, draft 2020-12; engine: llguidance. Narrower than the draft: listed properties
              come in the schema's order, a character is written in one way, and what cannot be enforced
              is refused
    """

    schema: Mapping[str, Any] | str
    whitespace: str = "blank"

    field: ClassVar[str] = "schema"

    def grammar(self) -> str:
        return of_schema(read_schema(self.schema, "json_schema: schema"), self.whitespace, self.name)


def read_schema(schema: Any, name: str) -> dict[str, Any]:
    """A schema, all of which can be enforced, from an object or a text; a copy."""
    if isinstance(schema, str):
        schema = _parsed(schema, name)
    if not isinstance(schema, Mapping):
        raise ParameterError(f"{name} must be a JSON object or the text of one, got {schema!r:.80}")
    check_schema(schema, name)
    read = copy.deepcopy(dict(schema))
    for _, part in subschemas(read, name):
        if isinstance(part, dict):  # without what constrains nothing, but may change how the rest is read
            for keyword in ("$schema", "uniqueItems", "discriminator", "deprecated"):
                part.pop(keyword, None)
            as_any_of(part, read)
    return read


def _parsed(text: str, name: str) -> Any:
    try:
        return strict_json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ParameterError(f"{name} must be JSON ({exc}); mend the text") from exc
