"""
Kinds: what a tagline can be for, and the words that belong to it.

A kind is a business, a product or a place. Its words are sorted by the role they
play in a sentence, so that a template can take any of them. The words are data:
they live in `lexicon/*.toml`, one table a kind, the words of a role in one string,
parted by commas. No sentence is built here.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LEXICON = Path(__file__).parent / "lexicon"
GROUPS = ("shop", "service", "product", "place", "media")
NUMBERS = ("singular", "plural", "mass")
ROLES = ("units", "goods", "verbs", "quals", "feels", "scenes", "craft")


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing to advertise, with its lexicon: two or more words for every role.

    name    as it stands in a prompt, without article
    also    other names of the same grammatical number
    group   one of GROUPS: decides which adjectives and templates suit it
    number  one of NUMBERS, of all its names
    units   singular nouns that come one at a time: "in every {unit}"
    goods   noun phrases without article: "Life is better with {goods}."
    verbs   what the customer does, one word: "Born to {verb}."
    quals   adjectives that can stand after "always"
    feels   mass nouns: "{feel} in every {unit}."
    scenes  singular noun phrases with their article, if any: "Back to {scene}."
    craft   what its makers did, in the passive: "{craft} with love."
    lines   complete taglines of this kind alone
    """

    name: str
    also: tuple[str, ...]
    group: str
    number: str
    units: tuple[str, ...]
    goods: tuple[str, ...]
    verbs: tuple[str, ...]
    quals: tuple[str, ...]
    feels: tuple[str, ...]
    scenes: tuple[str, ...]
    craft: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.also)


@cache
def load_kinds() -> dict[str, Kind]:
    """All kinds by name, in the order of the files' names and of the tables in them."""
    kinds: dict[str, Kind] = {}
    for path in sorted(LEXICON.glob("*.toml")):
        for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name in kinds:
                raise ValueError(f"{path.name}: kind {name!r} is defined twice")
            kinds[name] = _kind(name, table)
    return kinds


def _kind(name: str, table: dict[str, Any]) -> Kind:
    group, number = table["group"], table.get("number", "singular")
    if group not in GROUPS or number not in NUMBERS:
        raise ValueError(f"kind {name!r}: group must be in {GROUPS} and number in {NUMBERS}")
    roles = {role: _words(table[role]) for role in ROLES}
    if short := [role for role in ROLES if len(set(roles[role])) < 2]:
        raise ValueError(f"kind {name!r}: need two or more different words as {', '.join(short)}")
    return Kind(name, _words(table["also"]), group, number, **roles, lines=tuple(table["lines"]))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))
