"""
Files of a checkpoint folder, read without trusting it.

A link in the place of a file could name any file of this machine, and a pipe would never end.
The hub's cache consists of links into its own folder of blobs, which are as good as files.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from decodekit_export.errors import CheckpointError

MAX_TEXT = 64 << 20  # bytes; an index of many weights is the largest


def plain_file(folder: Path, name: str) -> Path:
    """The file in the folder; CheckpointError if it is none or lies elsewhere. Nothing is opened."""
    path = folder / name
    try:
        place, found = path.resolve(strict=True), path.stat()
    except (OSError, RuntimeError) as exc:  # RuntimeError: a link to itself
        raise CheckpointError(f"{path}: cannot be read ({exc})") from exc
    if place.parent not in (folder.resolve(), _blobs(folder)):
        raise CheckpointError(
            f"{path}: a link to a place outside the folder, and those are refused; "
            f"copy the folder with links followed: cp -rL {folder} COPY"
        )
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path}: not a regular file; download it again")
    return path


def read_text(folder: Path, name: str) -> str:
    """A text of at most MAX_TEXT bytes."""
    path = plain_file(folder, name)
    try:
        if path.stat().st_size > MAX_TEXT:
            raise ValueError(f"{path.stat().st_size} bytes; at most {MAX_TEXT} are read")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc})") from exc


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object."""
    text = read_text(folder, name)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{folder / name}: cannot be read ({exc})") from exc
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder / name}: not a JSON object")
    return content


def _blobs(folder: Path) -> Path | None:
    """Where the links of a folder in the hub's cache lead: CACHE/models--x--y/snapshots/COMMIT."""
    place = folder.resolve()
    if place.parent.name == "snapshots" and place.parents[1].name.startswith("models--"):
        return place.parents[1] / "blobs"
    return None
