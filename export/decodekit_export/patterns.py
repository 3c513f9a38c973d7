"""Patterns that name modules, such as "lm_head" or "*.down_proj"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from decodekit_export.errors import ExportError


def kept(modules: Mapping[str, nn.Module], patterns: Sequence[str]) -> list[nn.Module]:
    """The modules that `--keep` names. ExportError for a pattern that names none."""
    found: list[nn.Module] = []
    for pattern in patterns:
        named = [module for name, module in modules.items() if fnmatchcase(name, pattern)]
        if not named:
            names = ", ".join([*modules][-3:])
            raise ExportError(f"keep: no weight is called {pattern!r}; there are {names} and others")
        found += named
    return found
