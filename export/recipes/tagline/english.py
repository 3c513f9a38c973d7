"""
English: the little grammar that filling a template needs.

Everything works on plain strings and knows nothing of kinds. A template may leave
a choice of verb form open, as in "feel|feels"; `agree` closes it.
"""

from __future__ import annotations

import re

_PLURALS_WITHOUT_S = frozenset({"teeth", "feet", "jellyfish"})
_SINGULARS_WITH_S = frozenset({"news"})
_DOUBLING = frozenset({"debug", "excel", "kickflip", "rebel"})
_VOWEL_SOUND = re.compile(r"(?!one|uni|use|eu)[aeiou]|hour|honest|heir", re.IGNORECASE)


def sentences(text: str) -> str:
    """Tidy a filled template: single spaces, "a" or "an", capitals after full stops."""
    text = re.sub(r"\b([Aa]) (\S+)", _with_article, " ".join(text.split()))
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match[1] + match[2].upper(), text)


def agree(text: str, *, plural: bool) -> str:
    """Close every open choice of verb form, "plural|singular"."""
    return re.sub(r"(\w+)\|(\w+)", r"\1" if plural else r"\2", text)


def is_plural(phrase: str) -> bool:
    """Whether a noun phrase takes a plural verb, judged by its last word."""
    last = phrase.split()[-1].lower()
    if last in _PLURALS_WITHOUT_S or last in _SINGULARS_WITH_S:
        return last in _PLURALS_WITHOUT_S
    return last.endswith("s") and not last.endswith("ss")


def gerund(verb: str) -> str:
    """The -ing form of a base verb."""
    if re.search(r"[^eoy]e$", verb):
        return verb[:-1] + "ing"
    if verb in _DOUBLING or re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"


def _with_article(match: re.Match[str]) -> str:
    article, word = match.groups()
    return f"{article}n {word}" if _VOWEL_SOUND.match(word) else f"{article} {word}"
