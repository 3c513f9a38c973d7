"""One of several texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from decodekit.errors import ParameterError
from decodekit_grammar.grammar import Grammar
from decodekit_grammar.notation import of_regex

PUNCTUATION = re.compile(r"[!-/:-;=?-@\[-`{-~]")  # what may mean something in a regular expression


@dataclass(frozen=True, repr=False)
class Choice(Grammar):
    """Let through only one of the given texts, to the letter.

    formula   keep i where answer + i begins one of the texts; end tokens where the answer is one
    boundary  a text that begins another may end there or go on
    ties      treated alike: the model chooses, by the probability of the tokens, not of whole texts
    history   the answer's tokens; the prompt does not count
    neutral   none
    source    "guided choice" of vLLM; engine: llguidance
    """

    texts: Sequence[str]

    field: ClassVar[str] = "texts"

    def grammar(self) -> str:
        listed = isinstance(self.texts, Sequence) and not isinstance(self.texts, str)
        if not listed or not self.texts or not all(isinstance(text, str) and text for text in self.texts):
            raise ParameterError(
                f'choice: texts must be a list of non-empty texts, as ["yes", "no"], got {self.texts!r}'
            )
        if len(set(self.texts)) < len(self.texts):
            twice = next(text for text in self.texts if list(self.texts).count(text) > 1)
            raise ParameterError(f"choice: texts must differ, got {twice!r} twice; keep one")
        return of_regex("|".join(map(_literally, self.texts)))


def _literally(text: str) -> str:
    """A regular expression that matches this text alone."""
    return PUNCTUATION.sub(r"\\\g<0>", text)
