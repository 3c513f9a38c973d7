"""
Tones: how a tagline can sound, as templates.

The templates are data: a file of `templates/` is a tone. In it, `words` are the
adjectives that name the tone in a prompt, `any` lists the templates for every kind,
and every other key names the groups of kinds that its templates suit. Filling
them is the business of `taglines.py`.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kinds import GROUPS

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Tone:
    """A way to sound.

    name       the name of its file
    words      adjectives that ask for it in a prompt, the usual one first; none: neutral
    templates  group of kinds -> templates that suit it
    """

    name: str
    words: tuple[str, ...]
    templates: dict[str, tuple[str, ...]]


@cache
def load_tones() -> dict[str, Tone]:
    """All tones by name, in alphabetical order."""
    paths = sorted(TEMPLATES.glob("*.toml"))
    return {path.stem: _tone(path.stem, tomllib.loads(path.read_text(encoding="utf-8"))) for path in paths}


def _tone(name: str, table: dict[str, Any]) -> Tone:
    words = tuple(table.pop("words"))
    templates: dict[str, list[str]] = {group: [] for group in GROUPS}
    for key, lines in table.items():
        for group in GROUPS if key == "any" else key.split(", "):
            templates[group] += lines
    return Tone(name, words, {group: tuple(lines) for group, lines in templates.items()})
