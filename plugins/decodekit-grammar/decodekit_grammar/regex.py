"""A regular expression that the whole answer matches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from decodekit.errors import ParameterError
from decodekit_grammar.grammar import Grammar
from decodekit_grammar.notation import of_regex


@dataclass(frozen=True, repr=False)
class Regex(Grammar):
    r"""Let through only answers that match a regular expression as a whole.

    formula   keep i where answer + i begins a text of L(pattern); end tokens where the answer is one
    boundary  the whole answer counts, as if the pattern stood between \A and \z; . is no line break
    ties      treated alike
    history   the answer's tokens; the prompt does not count
    neutral   none
    source    Willard and Louf, "Efficient Guided Generation for LLMs", 2023, arXiv:2307.09702;
              engine: llguidance; syntax: that of Rust's regex, Unicode-aware, in linear time,
              without look-around, back-references and word boundaries
    """

    pattern: str

    field: ClassVar[str] = "pattern"

    def grammar(self) -> str:
        if not isinstance(self.pattern, str):
            raise ParameterError(
                f"regex: pattern must be a text, got {self.pattern!r}; in a chain, write it in double quotes"
            )
        return of_regex(self.pattern)
