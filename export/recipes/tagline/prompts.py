"""
Prompts: the ways people ask for a tagline.

A prompt names a kind and, unless the tone is neutral, a tone. It is one of the
phrasings of `phrasings.toml` with its slots filled.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from random import Random

from english import agree, sentences
from kinds import Kind
from tones import Tone

PHRASINGS = tomllib.loads((Path(__file__).parent / "phrasings.toml").read_text(encoding="utf-8"))

_USUAL = 0.7  # share of prompts with the usual name of the kind or of the tone
_WITH_ADJECTIVE = 0.6
_LOWER_CASE = 0.1


def write_prompt(kind: Kind, tone: Tone, random: Random) -> str:
    """One way to ask for a tagline for `kind` in `tone`."""
    phrasing = random.choice(PHRASINGS["any"] + PHRASINGS["toned" if tone.words else "plain"])
    name = _usual_or_other(kind.names, random)
    text = agree(phrasing, plural=kind.number == "plural").format(
        tone=_usual_or_other(tone.words, random) if tone.words else "",
        line=random.choice(PHRASINGS["lines"]),
        subject=_subject(kind, name, random),
        name=name,
    )
    prompt = sentences(text)
    return prompt.lower() if random.random() < _LOWER_CASE else prompt


def _subject(kind: Kind, name: str, random: Random) -> str:
    adjective = ""
    if random.random() < _WITH_ADJECTIVE:
        fresh = [word for word in PHRASINGS["adjectives"][kind.group] if word not in name.split()]
        adjective = random.choice(fresh)
    return random.choice(PHRASINGS["subjects"][kind.number]).format(adjective=adjective, name=name)


def _usual_or_other(words: tuple[str, ...], random: Random) -> str:
    return words[0] if random.random() < _USUAL else random.choice(words)
