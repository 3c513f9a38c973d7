"""
Banned phrases: text that an answer must not contain is taken back and told in another way.

Where a banned phrase is complete, decoding goes back to the token in which it began, and that
token is not drawn there again. Banning by tokens cannot do this: a phrase can be spelt by many
sequences of tokens, and its first token alone is harmless. After the "anti-slop" sampler of
Sam Paech, 2024, github.com/sam-paech/antislop-sampler.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, hookimpl
from decodekit.edits import Edits
from decodekit.errors import ParameterError, StrategyError
from decodekit.ops import keep
from decodekit.parameters import Whole
from decodekit.stopping import overlap

MAX_PHRASES = 1000
MAX_CHARACTERS = 200  # of one


@dataclass(frozen=True)
class BannedPhrases(LogitsProcessor):
    """Take banned phrases back and go on without them; [] is neutral.

    formula   where the text first contains a phrase, cut it before the token in which the phrase begins;
              l[t] = -inf for the token t that was drawn there, at that place only; draw again
    boundary  a phrase inside a longer word counts; what came before the answer does not
    ties      of phrases that are complete together the one that began first
    history   the answer's text
    neutral   phrases = []
    source    Paech 2024, antislop-sampler

    State: for each row, the ids that are banned at a place: {position: frozenset of ids}.
    """

    phrases: Sequence[str]
    case: bool = False
    tries: Annotated[
        int, Whole("[1, inf)", "tokens banned at one place before the request ends in an error")
    ] = 64

    def __post_init__(self):
        super().__post_init__()
        phrases = [self.phrases] if isinstance(self.phrases, str) else list(self.phrases)
        if not all(isinstance(p, str) and 0 < len(p) <= MAX_CHARACTERS for p in phrases):
            raise ParameterError(
                f"banned_phrases: phrases are texts of 1 to {MAX_CHARACTERS} characters, got {self.phrases!r}"
            )
        if len(phrases) > MAX_PHRASES:
            raise ParameterError(f"banned_phrases: at most {MAX_PHRASES} phrases, got {len(phrases)}")
        object.__setattr__(self, "phrases", tuple(phrases))
        object.__setattr__(self, "_sought", tuple(dict.fromkeys(map(self._folded, phrases))))
        object.__setattr__(self, "_longest", max(map(len, phrases), default=0))

    def init(self, batch):
        return ({},) * batch

    def process(self, logits, step, state):
        banned = [ids.get(row.position, ()) for ids, row in zip(state, step.rows, strict=True)]
        if not any(banned):
            return logits
        removed = [np.isin(ids, list(there)) for ids, there in zip(step.ids, banned, strict=True)]
        return keep(logits, ~np.stack(removed))

    def edits(self, row, state):
        banned = state[0].get(row.position)
        return Edits(np.asarray(sorted(banned)), add=-np.inf) if banned else None

    def take_back(self, progress, state):
        found = self._find(progress.text, progress.start)
        if found is None:
            return None
        place, phrase = found
        index = bisect_right(progress.starts, place) - 1
        position = progress.history.asked + index
        (banned,) = state
        ids = banned.get(position, frozenset()) | {int(progress.history.generated[index])}
        if len(ids) > self.tries:
            raise StrategyError(
                f"banned_phrases: no way around {phrase!r} at token {index} in {self.tries} tries; "
                "raise tries, or ban less"
            )
        return len(progress.starts) - index, ({**banned, position: ids},)

    def pending(self, text):
        """The longest end of `text` that begins a phrase."""
        end = self._folded(text[len(text) - self._longest + 1 :] if len(text) >= self._longest else text)
        return max((overlap(end, phrase) for phrase in self._sought), default=0)

    def _find(self, text, start):
        """Where the first phrase begins that ends behind `start`, and which it is."""
        begin = max(0, start - self._longest + 1)
        window = self._folded(text[begin:])
        found = [(at, phrase) for phrase in self._sought if (at := window.find(phrase)) >= 0]
        return (begin + min(found)[0], min(found)[1]) if found else None

    def _folded(self, text):
        """Without case, character by character, so that places stay the same."""
        return text if self.case else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


@hookimpl
def register_logits_processors(register):
    register("banned_phrases", BannedPhrases)
