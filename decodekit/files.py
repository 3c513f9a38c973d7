"""
Files of a model folder, read without trusting it.

A folder that came from elsewhere may name files that lie outside it, put a link or a pipe in
the place of one, or hold a configuration that never ends. Every file that is opened goes
through here first.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from decodekit.errors import BundleError

MAX_JSON = 64 << 20  # bytes
MAX_TEMPLATE = 1 << 20  # bytes


def regular_file(folder: Path, name: str, why: str) -> os.stat_result:
    """What the system knows of a file in the folder; BundleError if it is none, or not in the folder.

    why  says in the error who wants it: "decodekit.json lists it"

    Nothing is opened, so a pipe in the file's place does not block.
    """
    path = folder / name
    if not _stays_inside(name):
        raise BundleError(f"{folder}: the file name {name!r} leaves the folder, though {why}; do not use it")
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode) or path.parent.resolve() != folder.resolve() / PurePath(name).parent:
            raise BundleError(f"{path}: {_link(folder, path)}")
    except OSError as exc:
        raise BundleError(f"{path}: {exc.strerror}, though {why}; copy or export the folder again") from exc
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{path}: not a regular file, though {why}; copy or export the folder again")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise ValueError(f"{path.stat().st_size} bytes; at most {MAX_JSON} are read")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("something else")
    except (OSError, ValueError, RecursionError) as exc:
        raise BundleError(f"{path}: not a JSON object ({exc}); copy or export the folder again") from exc
    return content


def read_template(path: Path) -> str | None:
    """The chat template that a file is, or that a configuration has; of several, the default one."""
    if path.suffix == ".json":
        return template_in(read_json(path))
    try:
        if path.stat().st_size > MAX_TEMPLATE:
            raise ValueError(f"{path.stat().st_size} bytes; at most {MAX_TEMPLATE} are read")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise BundleError(f"{path}: not a chat template ({exc}); copy or export the folder again") from exc


def template_in(config: Mapping[str, Any]) -> str | None:
    """The chat template of a tokenizer's configuration; of several, the default one."""
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else None


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    try:
        with path.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as exc:
        raise BundleError(f"{path}: cannot be read ({exc.strerror})") from exc


def _stays_inside(name: str) -> bool:
    """Whether a name is a plain relative path: no way up, no root, no drive, no address, no pattern.

    onnxruntime takes "*/_ORT_MEM_ADDR_/*" for a place in its own memory.
    """
    parts = PurePath(name).parts
    plain = all(c.isprintable() and c not in '\\:*?"<>|' for c in name)
    return bool(parts) and plain and parts[0] != "/" and ".." not in parts


def _link(folder: Path, path: Path) -> str:
    of_cache = path.is_symlink() and "blobs" in Path(os.readlink(path)).parts
    what = "a link into the Hugging Face cache" if of_cache else "a link, or reached by one"
    return f"{what}, and links are refused; copy the folder with links followed: cp -rL {folder} COPY"
