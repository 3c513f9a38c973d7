"""
Fitting: whether a tagline is recognisably about a kind.

A tagline fits if it holds a distinctive word of the kind, or one of the kind's
hand-written lines as a whole. A word of the lexicon is distinctive if few kinds
share it, if no template contains it, and if it is not mere praise. So a line made
of stock phrases alone fits nothing, however well it reads.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

from kinds import ROLES, Kind, load_kinds
from tones import load_tones

MAX_KINDS = 8  # of about 250: a word that more kinds share is not distinctive

# Words of the lexicon that fit everything: praise, and small words inside phrases.
GENERIC = """
a an and are as at by do for from how in into is it my non not of off on one or our out over self that the to
too up us we with you your
ahead away back b best better big clean clever deep down early easy extra fair far fast fine first full good
great happily happy honest hot last little long look lovely move new next open perfect quick quiet rare real
rich shop small strong sweet tasty ten thing time top true way worthy
"""


def fits(kind: str, text: str) -> bool:
    """Whether `text` is recognisably about the kind of this name."""
    if stems(text) & distinctive_stems()[kind]:
        return True
    spoken = f" {' '.join(words(text))} "
    return any(f" {' '.join(words(line))} " in spoken for line in load_kinds()[kind].lines)


@cache
def distinctive_stems() -> dict[str, frozenset[str]]:
    """The stems of the distinctive words of every kind."""
    lexicons = {name: _lexicon(kind) for name, kind in load_kinds().items()}
    spread = Counter(word for lexicon in lexicons.values() for word in lexicon)
    shared = {word for word, kinds in spread.items() if kinds > MAX_KINDS}
    common = shared | stems(GENERIC) | _template_stems()
    return {name: frozenset(lexicon - common) for name, lexicon in lexicons.items()}


def words(text: str) -> list[str]:
    """The words of `text` in lower case; a hyphen parts words, an apostrophe does not."""
    return re.findall(r"[a-z0-9']+", text.lower())


def stem(word: str) -> str:
    """A key that a word shares with its plural, its -ing form and its -ed form.

    Cuts one of these endings if three letters remain, then a doubled last letter
    to one, then a final e: "sipping" -> "sip", "slices" -> "slic", "slice" -> "slic".
    """
    word = word.removesuffix("'s")
    for ending, rest in (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) >= len(ending) + 3 and not word.endswith("ss"):
            word = word.removesuffix(ending) + rest
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def stems(text: str) -> set[str]:
    """The stems of the words of `text`."""
    return {stem(word) for word in words(text)}


def _lexicon(kind: Kind) -> set[str]:
    phrases = (phrase for role in ROLES for phrase in getattr(kind, role))
    return stems(" ".join((*kind.names, *phrases)))


def _template_stems() -> set[str]:
    groups = (lines for tone in load_tones().values() for lines in tone.templates.values())
    return {word for lines in groups for word in stems(re.sub(r"\{\w+\}|\|", " ", " ".join(lines)))}
