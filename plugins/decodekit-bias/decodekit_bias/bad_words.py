"""Bad words: never complete a word, as its tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from decodekit import LogitsProcessor
from decodekit.errors import ParameterError
from decodekit.tokenizer import Tokenizer
from decodekit_bias.sequences import MAX_SEQUENCES, Ids, Written, check_sequence, push, spelt


@dataclass(frozen=True)
class BadWords(LogitsProcessor):
    """Never complete one of some words, as their tokens; [] is neutral.

    formula   l[v] = -inf where (end of the ids, v) is a word
    boundary  a word of one token is never said
    ties      none
    history   prompt and answer
    neutral   words = []
    source    transformers, `NoBadWordsLogitsProcessor`; vLLM, `bad_words`

    A word is a text, banned as it is spelt by itself and behind a space, or a list of ids. The
    same text spelt by other tokens goes through; decodekit-banned-phrases bans the text.
    """

    words: Sequence[Written]

    def __post_init__(self) -> None:
        if isinstance(self.words, str) or len(self.words) > MAX_SEQUENCES:
            raise ParameterError(
                f"bad_words: words is a list of at most {MAX_SEQUENCES} texts or lists of ids"
            )
        for i, word in enumerate(self.words):
            check_sequence(f"bad_words: words[{i}]", word)
        object.__setattr__(self, "words", tuple(self.words))

    def bind(self, tokenizer):
        bound = copy.copy(self)
        bound.__dict__["_banned"] = self._spelt(tokenizer)
        return bound

    def edits(self, row, state):
        return push(row.ids, self._banned)

    @cached_property
    def _banned(self) -> dict[Ids, float]:
        return self._spelt(None)

    def _spelt(self, tokenizer: Tokenizer | None) -> dict[Ids, float]:
        behind_space = (" " + word for word in self.words if isinstance(word, str))
        words = (*self.words, *behind_space)
        return dict.fromkeys((spelt("bad_words", word, tokenizer) for word in words), -np.inf)
