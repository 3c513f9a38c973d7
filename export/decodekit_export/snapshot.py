"""
A snapshot: tensors and plain values in a folder that is whole or absent.

Safetensors and JSON only, so that reading one runs nothing. It is written in a hidden folder, synced
to the disk, sealed with the size and SHA-256 of every file, and renamed into its place. What is
not sealed, is a link or has another digest is refused; what the seal does not list is not looked at.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from decodekit_export.errors import ResumeError, SpaceError

SEAL = "seal.json"
HIDDEN = ".unfinished-"
_SPARE = 1 << 20  # bytes beside the tensors

Tensors = Mapping[str, torch.Tensor]


def write(place: Path, tensors: Mapping[str, Tensors], documents: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a safetensors file for each of `tensors` and a JSON file for each of `documents`, by name.

    Raises SpaceError when the disk is full; then nothing is left of it.
    """
    needed = _SPARE + sum(t.numel() * t.element_size() for part in tensors.values() for t in part.values())
    draft = place.with_name(HIDDEN + place.name)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        if shutil.disk_usage(place.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        draft.mkdir()
        for name, part in tensors.items():
            save_file({key: tensor.contiguous() for key, tensor in part.items()}, draft / name)
        for name, document in documents.items():
            _write_json(draft / name, document)
        names = [*tensors, *documents]
        _write_json(draft / SEAL, {name: _fingerprint(draft / name) for name in names})
        for path in (*(draft / name for name in (*names, SEAL)), draft):
            sync(path)
        draft.rename(place)
        sync(place.parent)
    except (OSError, SafetensorError) as exc:
        shutil.rmtree(draft, ignore_errors=True)
        free = shutil.disk_usage(place.parent).free
        raise SpaceError(
            f"{place}: not written ({exc}); it needs {needed:,} bytes and {free:,} are free; "
            "what was saved before is kept, so make room and go on with --resume"
        ) from exc


def read(place: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, dict[str, Any]]]:
    """Tensors and documents of a snapshot, by file. Raises ResumeError naming a file that was altered."""
    seal = _read_json(place / SEAL)
    for name, expected in seal.items():
        if not re.fullmatch(r"\w+\.(safetensors|json)", name):
            raise ResumeError(f"{place / SEAL}: {name!r} is no file of a checkpoint; do not use it")
        if _fingerprint(place / name) != expected:
            raise ResumeError(
                f"{place / name}: not what was written; remove {place} to go on from the checkpoint before it"
            )
    try:
        tensors = {name: load_file(place / name) for name in seal if name.endswith(".safetensors")}
        return tensors, {name: _read_json(place / name) for name in seal.keys() - tensors.keys()}
    except SafetensorError as exc:
        raise ResumeError(f"{place}: {exc}; remove it to go on from the checkpoint before it") from exc


def remove(place: Path) -> None:
    """Remove a snapshot; at no moment is a part of it left in its place."""
    gone = place.with_name(HIDDEN + place.name)
    shutil.rmtree(gone, ignore_errors=True)
    place.rename(gone)
    shutil.rmtree(gone)


def sync(path: Path) -> None:
    """Have a file or folder on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fingerprint(path: Path) -> dict[str, Any]:
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise ResumeError(f"{path}: not a regular file; do not use it")
        with path.open("rb") as file:
            return {"size": found.st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as exc:
        raise ResumeError(f"{path}: cannot be read ({exc.strerror})") from exc


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values), encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    _fingerprint(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ResumeError(f"{path}: not what was written ({exc}); remove {path.parent}") from exc
    if not isinstance(values, dict):
        raise ResumeError(f"{path}: not a JSON object; remove {path.parent}")
    return values
