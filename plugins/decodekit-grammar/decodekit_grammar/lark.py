"""A context-free grammar in Lark's notation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import ClassVar

from decodekit.errors import ParameterError
from decodekit_grammar.grammar import Grammar
from decodekit_grammar.json_schema import read_schema
from decodekit_grammar.notation import written


@dataclass(frozen=True, repr=False)
class Lark(Grammar):
    """Let through only sentences of a context-free grammar in Lark's notation.

    formula   keep i where answer + i begins a sentence of `start`; end tokens where the answer is one
    boundary  the whole answer is the sentence; %ignore is allowed between its words
    ties      treated alike; an ambiguous grammar allows what any reading does
    history   the answer's tokens; the prompt does not count
    neutral   none
    source    Earley, "An Efficient Context-Free Parsing Algorithm", CACM 1970; engine and dialect:
              llguidance, where <name> is a special token and %json {...} a JSON schema
    """

    grammar_text: str
    whitespace: str = "blank"  # in the JSON of %json, see json_schema

    field: ClassVar[str] = "grammar_text"

    def grammar(self) -> str:
        if not isinstance(self.grammar_text, str) or self.grammar_text.lstrip()[:1] in ("", "{"):
            raise ParameterError(
                f"lark: grammar_text must be the text of a Lark grammar, got {self.grammar_text!r:.80}; "
                "write a rule start: ..."
            )
        return _with_checked_schemas(self.grammar_text, self.whitespace)


def _with_checked_schemas(text: str, whitespace: str) -> str:
    """The grammar with every schema in it read, checked and written as `json_schema` writes it."""
    parts, end = [], 0
    for found in re.finditer(r"%json\s*", text):
        if found.start() < end:
            continue
        where = f"lark: %json at character {found.start()}"
        try:
            _, stop = json.JSONDecoder().raw_decode(text, found.end())
        except (ValueError, RecursionError) as exc:
            raise ParameterError(f"{where} has no JSON behind it ({exc}); write a schema there") from exc
        schema = read_schema(text[found.end() : stop], where)
        parts += [text[end : found.end()], written(schema, whitespace, "lark")]
        end = stop
    return "".join([*parts, text[end:]])
