"""
The bundle: a model as a folder, complete and checked, or refused.

`decodekit.json`, the manifest, is written last, so a folder that has one is whole.
It names every file with its size and sha256 and says what the graph expects.
This module knows files and sizes; it does not know onnxruntime or tokenizers.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodekit.errors import BundleError, BundleHashError, ContextError

MANIFEST = "decodekit.json"
FORMAT = 1
EMBEDDED = Path(__file__).parent / "models"  # bundles that come with the package, by folder name


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """Keys and values that a graph keeps between calls.

    kind  "in_place": past and present are one buffer, [B, kv_heads, capacity, head_dim];
          "concatenating": present is past with the new tokens behind it
    """

    kind: str
    layers: int
    kv_heads: int
    head_dim: int
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model folder whose files are what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def graph(self) -> Path:
        return self.path / str(self.manifest["graph"]["file"])

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self.manifest["graph"]["inputs"])

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self.manifest["graph"]["outputs"])

    @property
    def cache(self) -> CacheSpec:
        return CacheSpec(**self.manifest["graph"]["cache"])

    @property
    def vocabulary(self) -> int:
        return int(self.manifest["vocabulary"])

    @property
    def context_length(self) -> int:
        return int(self.manifest["context_length"])

    @property
    def stop_ids(self) -> frozenset[int]:
        return frozenset(self.manifest["stop_ids"])

    @property
    def tokenizer(self) -> Path:
        return self.path / str(self.manifest["tokenizer"])

    @property
    def chat_template(self) -> str | None:
        name = self.manifest.get("chat_template")
        return (self.path / name).read_text(encoding="utf-8") if name else None

    @property
    def sha256(self) -> str:
        """Names the bundle's content: the hash of its manifest, which holds those of the files."""
        return sha256(self.path / MANIFEST)

    def room(self, prompt: int, max_new_tokens: int | None) -> int:
        """How many tokens may be generated after a prompt of that many."""
        free = self.context_length - prompt
        if max_new_tokens is None and free > 0:
            return free
        if free < (max_new_tokens or 1):
            fits = f"at most {free} new tokens fit" if free > 0 else "shorten the prompt"
            raise ContextError(
                f"prompt of {prompt} tokens and max_new_tokens {max_new_tokens or 1} exceed "
                f"the context window of {self.context_length}; {fits}"
            )
        return int(max_new_tokens or 1)


def open_bundle(path_or_name: str | os.PathLike[str]) -> Bundle:
    """The bundle in that folder, or the embedded one of that name, after checking every file."""
    path = _find(path_or_name)
    manifest = _read_manifest(path / MANIFEST)
    for name, expected in manifest["files"].items():
        _check_file(path, name, expected)
    return Bundle(path, manifest)


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> Bundle:
    """Seal a folder: add size and sha256 of every file in it to `fields`, write the manifest last."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {
        n: {"sha256": sha256(folder / n), "size": (folder / n).stat().st_size} for n in names if n != MANIFEST
    }
    manifest = {"format": FORMAT, **fields, "files": files}
    _check_fields(folder / MANIFEST, manifest)
    draft = folder / f".{MANIFEST}"
    with draft.open("w", encoding="utf-8") as f:
        json.dump(manifest, f, indent=1, ensure_ascii=False)
        f.flush()
        os.fsync(f.fileno())
    draft.replace(folder / MANIFEST)
    return Bundle(folder, manifest)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _find(path_or_name: str | os.PathLike[str]) -> Path:
    name = os.fspath(path_or_name)
    if isinstance(path_or_name, str) and (EMBEDDED / name / MANIFEST).is_file() and Path(name).name == name:
        return EMBEDDED / name
    path = Path(name)
    if not path.is_dir():
        here = ", ".join(sorted(p.name for p in EMBEDDED.glob("*") if (p / MANIFEST).is_file())) or "none"
        raise BundleError(f"{name}: no such folder, and no embedded model of that name (embedded: {here})")
    if not (path / MANIFEST).is_file():
        raise BundleError(f"{name}: no bundle, it has no {MANIFEST}; write one with `decodekit export`")
    return path


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{path}: not a JSON object ({exc}); copy or export the bundle again") from exc
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise BundleError(f"{path}: no manifest of a bundle; copy or export the bundle again")
    if manifest["format"] > FORMAT:
        raise BundleError(f"{path}: format {manifest['format']} is newer than this decodekit; upgrade it")
    _check_fields(path, manifest)
    return manifest


_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "graph": dict,
    "vocabulary": int,
    "context_length": int,
    "stop_ids": list,
    "tokenizer": str,
    "files": dict,
}


def _check_fields(path: Path, manifest: Mapping[str, Any]) -> None:
    for field, kind in _FIELDS.items():
        if not isinstance(manifest.get(field), kind):
            raise BundleError(f"{path}: field {field!r} is missing or not a {kind.__name__}")  # type: ignore[union-attr]
    vocabulary = manifest["vocabulary"]
    wrong = [i for i in manifest["stop_ids"] if not isinstance(i, int) or not 0 <= i < vocabulary]
    if wrong:
        raise BundleError(f"{path}: stop_ids must be in [0, {vocabulary}), got {wrong[0]!r}")
    if not manifest["stop_ids"] and not manifest.get("allow_no_eos"):
        raise BundleError(
            f"{path}: stop_ids is empty, so no answer would end; set allow_no_eos if that is meant"
        )
    graph = manifest["graph"]
    try:
        cache = CacheSpec(**graph["cache"])
    except (KeyError, TypeError) as exc:
        raise BundleError(f"{path}: graph.cache must have {[*CacheSpec.__slots__]}") from exc
    if cache.kind not in ("in_place", "concatenating"):
        raise BundleError(
            f"{path}: graph.cache.kind must be 'in_place' or 'concatenating', got {cache.kind!r}"
        )
    for name in (
        graph.get("file"),
        manifest["tokenizer"],
        manifest.get("chat_template") or graph.get("file"),
    ):
        if name not in manifest["files"]:
            raise BundleError(f"{path}: {name!r} is used but not listed under files")


def _check_file(folder: Path, name: str, expected: Mapping[str, Any]) -> None:
    if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name or "\0" in name:
        raise BundleError(f"{folder / MANIFEST}: file name {name!r} leaves the folder")
    path = folder / name
    try:
        found = path.lstat()
    except OSError as exc:
        raise BundleError(
            f"{path}: listed in {MANIFEST} but missing; copy or export the bundle again"
        ) from exc
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(
            f"{path}: not a regular file; a bundle holds no links, folders or devices in place of files"
        )
    if found.st_size != expected["size"]:
        raise BundleHashError(
            f"{path}: {found.st_size} bytes, the manifest says {expected['size']}; copy or export it again"
        )
    if sha256(path) != expected["sha256"]:
        raise BundleHashError(f"{path}: sha256 differs from {MANIFEST}; copy or export the bundle again")
