"""A planted bug: one piece of a package's source, and what is put in its place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """
    name     what is wrong with it
    package  that has the piece, once
    old      the piece
    new      what takes its place
    tests    arguments of pytest; a failing test among them kills the mutant
    """

    name: str
    package: str
    old: str
    new: str
    tests: tuple[str, ...]
