"""
Which of the installed plugins are loaded: the environment decides, else a file, else all are.

    DECODEKIT_PLUGINS=mirostat,hello         these and no others; empty: none
    {"disabled": ["hello"]}                  the file: all but these
    {"allowed": ["mirostat", "stops"]}       the file: these and no others
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodekit import strict_json
from decodekit.errors import InputError

ALLOWED = "DECODEKIT_PLUGINS"  # comma list of entry point names; unset: the file
FILE = "DECODEKIT_PLUGINS_FILE"


@dataclass(frozen=True, slots=True)
class Choice:
    """Entry points by name.

    allowed   these and no others; None: all
    disabled  but not these
    """

    allowed: frozenset[str] | None = None
    disabled: frozenset[str] = frozenset()

    def why_not(self, name: str) -> str:
        """Why a plugin is not loaded; "" where it is."""
        if name in self.disabled:
            return "disabled"
        return "not allowed" if self.allowed is not None and name not in self.allowed else ""


def allowed() -> Choice:
    """The choice that holds now."""
    names = os.environ.get(ALLOWED)
    if names is not None:
        return Choice(frozenset(n.strip() for n in names.split(",") if n.strip()))
    return read(path())


def path() -> Path:
    """Where the choice is kept."""
    if named := os.environ.get(FILE):
        return Path(named)
    config = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "decodekit" / "plugins.json"


def read(file: Path) -> Choice:
    """What a file says; all plugins where there is none."""
    try:
        found = strict_json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or not found.keys() <= {"allowed", "disabled"}:
            raise ValueError('it must be {"disabled": [names]} or {"allowed": [names]}')
        listed = _names(found["allowed"]) if "allowed" in found else None
        return Choice(listed, _names(found.get("disabled", [])))
    except FileNotFoundError:
        return Choice()
    except (OSError, ValueError, RecursionError) as exc:
        raise InputError(f"{file}: cannot be read as a choice of plugins ({exc}); mend or remove it") from exc


def choose(names: set[str], *, load: bool) -> Path:
    """Write that plugins are to be loaded or not; the file it is written to."""
    file = path()
    now = read(file)
    content: dict[str, list[str]] = {
        "disabled": sorted(now.disabled - names if load else now.disabled | names)
    }
    if now.allowed is not None:
        content["allowed"] = sorted(now.allowed | names if load else now.allowed)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.write_text(json.dumps(content) + "\n", encoding="utf-8")
        beside.replace(file)
    except OSError as exc:
        raise InputError(f"{file}: cannot be written ({exc.strerror or exc}); check the path") from exc
    return file


def _names(found: Any) -> frozenset[str]:
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"names are a list of texts, got {found!r}")
    return frozenset(found)
