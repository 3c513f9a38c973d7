"""
Taglines: a template of the tone, filled with words of the kind.

A filled template is taken only if it passes three tests: it has a few words, no
content word stands in it by accident twice, and it would be recognised as a line
for its kind by `fits`. Lines written by hand belong to the neutral tone.
"""

from __future__ import annotations

import re
from random import Random

from english import agree, gerund, is_plural, sentences
from fitting import fits, stems
from kinds import Kind
from tones import Tone

MIN_WORDS, MAX_WORDS = 3, 9
_HAND_WRITTEN = 0.3  # share of the neutral taglines
_ROLES = {
    "unit": "units",
    "goods": "goods",
    "verb": "verbs",
    "qual": "quals",
    "feel": "feels",
    "scene": "scenes",
    "craft": "craft",
}


def write_tagline(kind: Kind, tone: Tone, random: Random) -> str:
    """One tagline for `kind` in `tone`."""
    if not tone.words and random.random() < _HAND_WRITTEN:
        return random.choice(kind.lines)
    while True:
        template = random.choice(tone.templates[kind.group])
        fills = _fills(kind, random)
        text = _filled(template, fills)
        if (
            MIN_WORDS <= len(text.split()) <= MAX_WORDS
            and not _repeats(template, fills)
            and fits(kind.name, text)
        ):
            return text


def _fills(kind: Kind, random: Random) -> dict[str, str]:
    fills = {"name": kind.name}
    for slot, role in _ROLES.items():
        fills[slot], fills[slot + "2"] = random.sample(getattr(kind, role), 2)
    return fills | {"verbing": gerund(fills["verb"])}


def _filled(template: str, fills: dict[str, str]) -> str:
    return sentences(agree(template, plural=is_plural(fills["goods"])).format(**fills))


def _repeats(template: str, fills: dict[str, str]) -> bool:
    """Whether two different parts of the template hold the same word."""
    slots = dict.fromkeys(re.findall(r"\{(\w+)\}", template))
    parts = [stems(re.sub(r"\{\w+\}", " ", template)), *(stems(fills[slot]) - {"the"} for slot in slots)]
    return sum(map(len, parts)) > len(set().union(*parts))
