"""
The manifest: what a bundle says of itself, as a JSON object.

It is checked as a whole where it enters, read from `decodekit.json` or made in memory for a
folder of others; what comes behind trusts its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from decodekit.errors import BundleError
from decodekit.files import read_json

MANIFEST = "decodekit.json"
FORMAT = 1

FLOATS = ("float32", "float16")
_DOMAINS = {  # of fields that are one word of a few
    "graph.cache.kind": ("in_place", "concatenating"),
    "graph.cache.dtype": (*FLOATS, "bfloat16"),
    "graph.logits_dtype": FLOATS,
    "graph.positions": ("input", "operator", "mask", "unknown"),
}
_FIELDS: Mapping[str, type] = {
    "name": str,
    "graph": dict,
    "vocabulary": int,
    "context_length": int,
    "stop_ids": list,
    "tokenizer": str,
    "files": dict,
}
_GRAPH: Mapping[str, type] = {"file": str, "inputs": list, "outputs": list, "cache": dict}
_CACHE: Mapping[str, type] = {"kind": str, "layers": int, "kv_heads": int, "head_dim": int, "dtype": str}


_FILE: Mapping[str, type] = {"size": int, "sha256": str}
_ADAPTER: Mapping[str, type] = {"file": str, "rank": int}
MAX_RANK = 4096


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file, checked."""
    manifest = read_json(path)
    if type(manifest.get("format")) is not int:
        raise BundleError(f"{path}: no manifest of a bundle; copy or export the bundle again")
    if manifest["format"] > FORMAT:
        raise BundleError(f"{path}: format {manifest['format']} is newer than this decodekit; upgrade it")
    check_manifest(path, manifest)
    for name, entry in manifest["files"].items():
        _require(path, f"files.{name}.", entry, _FILE)
    return manifest


def check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise BundleError, naming `path`, unless every field that is read later is there and sound."""
    _require(path, "", manifest, _FIELDS)
    graph = manifest["graph"]
    _require(path, "graph.", graph, _GRAPH)
    cache = graph["cache"]
    _require(path, "graph.cache.", cache, _CACHE)
    if unknown := cache.keys() - _CACHE.keys():
        raise BundleError(f"{path}: graph.cache has unknown fields {sorted(unknown)}; upgrade decodekit")
    words = {f"graph.{key}": word for key, word in graph.items()}
    words |= {f"graph.cache.{key}": word for key, word in cache.items()}
    for field, domain in _DOMAINS.items():
        if words.get(field, domain[0]) not in domain:
            raise BundleError(f"{path}: {field} must be one of {domain}, got {words[field]!r}")
    for field in ("vocabulary", "context_length"):
        if manifest[field] < 1:
            raise BundleError(f"{path}: {field} must be in [1, inf), got {manifest[field]}")
    _check_stop_ids(path, manifest)
    _check_adapters(path, manifest)
    _check_used_files(path, manifest)


def _require(path: Path, where: str, found: Any, kinds: Mapping[str, type]) -> None:
    for field, kind in kinds.items():
        if not isinstance(found, dict) or type(found.get(field)) is not kind:
            raise BundleError(f"{path}: field {where + field!r} is missing or not a {kind.__name__}")


def _check_stop_ids(path: Path, manifest: Mapping[str, Any]) -> None:
    ids, vocabulary = manifest["stop_ids"], manifest["vocabulary"]
    if wrong := [id for id in ids if type(id) is not int or not 0 <= id < vocabulary]:
        raise BundleError(f"{path}: stop_ids must be in [0, {vocabulary}), got {wrong[0]!r}")
    if not ids and not manifest.get("allow_no_eos"):
        raise BundleError(
            f"{path}: stop_ids is empty, so no answer would end; set allow_no_eos if that is meant"
        )


def _check_adapters(path: Path, manifest: Mapping[str, Any]) -> None:
    adapters = manifest.get("adapters", {})
    if not isinstance(adapters, dict):
        raise BundleError(f"{path}: field 'adapters' is not a dict")
    for name, entry in adapters.items():
        _require(path, f"adapters.{name}.", entry, _ADAPTER)
        if not 1 <= entry["rank"] <= MAX_RANK:
            raise BundleError(f"{path}: adapters.{name}.rank must be in [1, {MAX_RANK}], got {entry['rank']}")


def _check_used_files(path: Path, manifest: Mapping[str, Any]) -> None:
    template = manifest.get("chat_template")
    names = [manifest["graph"]["file"], manifest["tokenizer"], *([] if template is None else [template])]
    names += [entry["file"] for entry in manifest.get("adapters", {}).values()]
    for name in names:
        if not isinstance(name, str) or name not in manifest["files"]:
            raise BundleError(f"{path}: {name!r} is used but not listed under files")
