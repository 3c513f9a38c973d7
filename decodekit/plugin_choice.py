"""Which of the installed plugins are loaded: the environment decides, else a file, else all are."""

from __future__ import annotations

import json
import os
from collections.abc import Container
from pathlib import Path

from decodekit import strict_json
from decodekit.errors import InputError

ALLOWED = "DECODEKIT_PLUGINS"  # comma list of entry point names; empty: none; unset: the file
FILE = "DECODEKIT_PLUGINS_FILE"


class AllBut:
    """Every name but some."""

    def __init__(self, names: Container[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


def allowed() -> Container[str] | None:
    """The entry points to load; None: all."""
    names = os.environ.get(ALLOWED)
    if names is not None:
        return {n.strip() for n in names.split(",") if n.strip()}
    disabled = read(path())
    return AllBut(disabled) if disabled else None


def path() -> Path:
    """Where the choice is kept."""
    if named := os.environ.get(FILE):
        return Path(named)
    config = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "decodekit" / "plugins.json"


def read(file: Path) -> list[str]:
    """The names of plugins that are not to be loaded; [] where there is no file."""
    try:
        found = strict_json.loads(file.read_text(encoding="utf-8"))
        names = found["disabled"]
        if set(found) != {"disabled"} or not all(isinstance(name, str) for name in names):
            raise ValueError('it must be {"disabled": [names]}')
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as exc:
        raise InputError(f"{file}: cannot be read as a choice of plugins ({exc}); mend or remove it") from exc
    return list(names)


def choose(name: str, *, load: bool) -> Path:
    """Write that a plugin is to be loaded or not; the file it is written to."""
    file = path()
    names = set(read(file)) - {name} | (set() if load else {name})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.write_text(json.dumps({"disabled": sorted(names)}) + "\n", encoding="utf-8")
        beside.replace(file)
    except OSError as exc:
        raise InputError(f"{file}: cannot be written ({exc.strerror or exc}); check the path") from exc
    return file
