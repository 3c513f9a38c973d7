"""A row of a file: its place and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from decodekit.errors import InputError


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a row begins.

    number  of the row, from 0
    byte    of the unpacked file; 0 where rows can only be counted
    line    lines before it
    """

    number: int = 0
    byte: int = 0
    line: int = 0


BEGIN = Mark()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, and where it begins and ends.

    fields   what it asks; an error where it is no row
    carried  what goes into its record as it is
    """

    begin: Mark
    end: Mark
    fields: dict[str, Any] | InputError
    carried: Mapping[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return self.begin.number

    @property
    def line(self) -> int:
        """From 1; of a row of several lines the last."""
        return self.end.line
