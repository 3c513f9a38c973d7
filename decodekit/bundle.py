"""
The bundle: a model as a folder, complete and checked, or refused.

`decodekit.json`, the manifest, is written last, so a folder that has one is whole. It names
every file with its size and sha256 and says what the graph expects. A folder that others made
gets a manifest in memory. Either way the graph is checked before anything native reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from decodekit.errors import BundleError, BundleHashError, ContextError, ParameterError
from decodekit.files import read_template, regular_file, sha256
from decodekit.foreign import describe_folder
from decodekit.graph_check import check_graph_file, external_files
from decodekit.manifest import FORMAT, MANIFEST, check_manifest, read_manifest
from decodekit.onnx_file import OnnxFile

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

    @property
    def bytes_per_token(self) -> int:
        """Of keys and values, in all layers of one row."""
        return 2 * self.layers * self.kv_heads * self.head_dim * np.dtype(self.array_dtype).itemsize

    @property
    def array_dtype(self) -> str:
        """NumPy's type of the same size: it has no bfloat16, whose bits are kept as whole numbers."""
        return "uint16" if self.dtype == "bfloat16" else self.dtype


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """Low-rank changes to a bundle's weights, as a file.

    rank  columns of its matrices, for each product it changes
    """

    path: Path
    rank: int


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model folder whose files are what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def sealed(self) -> bool:
        """Whether the manifest is a file of the folder; else it was made in memory, for what others made."""
        return (self.path / MANIFEST).exists()

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
    def positions(self) -> str:
        """Where the graph takes positions from: "input", "operator", "mask" or "unknown"."""
        return str(self.manifest["graph"].get("positions", "input"))

    @property
    def logits_dtype(self) -> str:
        return str(self.manifest["graph"].get("logits_dtype", "float32"))

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
        """Jinja source, from the file that the manifest names."""
        name = self.manifest.get("chat_template")
        return read_template(self.path / name) if name else None

    @property
    def adapters(self) -> Mapping[str, AdapterFile]:
        """By the name that a request gives."""
        entries = self.manifest.get("adapters", {})
        return {name: AdapterFile(self.path / e["file"], e["rank"]) for name, e in entries.items()}

    def check_adapter(self, name: str | None) -> None:
        """ParameterError for a name that none of them has; None is no name."""
        known = self.adapters
        if name is not None and name not in known:
            there = f"there are {', '.join(sorted(known))}" if known else "export the bundle with --adapter"
            raise ParameterError(f"adapter: {self.name} has none named {name!r}; {there}")

    @property
    def sha256(self) -> str:
        """Names the bundle's content: the hash of its manifest, which holds those of the files.

        A folder that others made has no manifest on disk: all its files are hashed, at every call.
        """
        if "origin" not in self.manifest:
            return sha256(self.path / MANIFEST)
        lines = (f"{sha256(self.path / n)} {e['size']} {n}\n" for n, e in self.manifest["files"].items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

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
    """The bundle in that folder, or the embedded one of that name, after checking every file.

    A folder without a manifest is taken for one of optimum, of onnxruntime-genai's builder or of
    the hub; of several graphs in it, one is chosen by its path: "folder/onnx/model_q4.onnx".
    """
    try:
        bundle = read_bundle(path_or_name)
        if bundle.sealed:  # what others made was checked when it was described
            check_files(bundle)
            check_graph(bundle)
        return bundle
    except OSError as exc:  # no permission, a name that is too long
        raise BundleError(f"{os.fspath(path_or_name)}: cannot be read ({exc})") from exc


def write_manifest(folder: Path, fields: Mapping[str, Any]) -> Bundle:
    """Seal a folder: add size and sha256 of every file in it to `fields`, write the manifest last."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {
        n: {"sha256": sha256(folder / n), "size": (folder / n).stat().st_size} for n in names if n != MANIFEST
    }
    manifest = {"format": FORMAT, **fields, "files": files}
    check_manifest(folder / MANIFEST, manifest)
    draft = folder / f".{MANIFEST}"
    with draft.open("w", encoding="utf-8") as f:
        json.dump(manifest, f, indent=1, ensure_ascii=False)
        f.flush()
        os.fsync(f.fileno())
    draft.replace(folder / MANIFEST)
    return Bundle(folder, manifest)


def read_bundle(path_or_name: str | os.PathLike[str]) -> Bundle:
    """The same, after checking its manifest alone."""
    path = _find(path_or_name)
    if not (path / MANIFEST).exists():
        path, manifest = describe_folder(path)
        check_manifest(path, manifest)
    else:
        regular_file(path, MANIFEST, "it is the manifest")
        manifest = read_manifest(path / MANIFEST)
    return Bundle(path, manifest)


def check_files(bundle: Bundle) -> None:
    """Raise BundleHashError unless every file has the size and the hash that the manifest says."""
    for name, expected in bundle.manifest["files"].items():
        found = regular_file(bundle.path, name, f"{MANIFEST} lists it")
        _check_file(bundle.path / name, found.st_size, expected)


def check_graph(bundle: Bundle) -> OnnxFile:
    """The graph, if a runtime may load it with files that the manifest lists and no others."""
    listed = bundle.manifest["files"].keys()
    graph = check_graph_file(bundle.graph, pinned=listed if bundle.sealed else ())
    if unlisted := {*external_files(graph)} - listed:
        raise BundleError(
            f"{bundle.graph}: keeps weights in {sorted(unlisted)}, which {MANIFEST} does not list; "
            "export the bundle again"
        )
    return graph


def _find(path_or_name: str | os.PathLike[str]) -> Path:
    name = os.fspath(path_or_name)
    if isinstance(path_or_name, str) and (EMBEDDED / name / MANIFEST).is_file() and Path(name).name == name:
        return EMBEDDED / name
    path = Path(name)
    if path.suffix == ".onnx" and (path.parent / MANIFEST).is_file():
        raise BundleError(f"{name}: a file of a bundle; give the bundle's folder, {path.parent}")
    if path.is_file() and path.suffix != ".onnx":
        raise BundleError(f"{name}: a file and no folder; archives are not unpacked here: unpack it first")
    if not path.is_dir() and path.suffix != ".onnx":
        here = ", ".join(sorted(p.name for p in EMBEDDED.glob("*") if (p / MANIFEST).is_file())) or "none"
        raise BundleError(f"{name}: no such folder, and no embedded model of that name (embedded: {here})")
    return path


def _check_file(path: Path, size: int, expected: Mapping[str, Any]) -> None:
    if size != expected["size"]:
        raise BundleHashError(
            f"{path}: {size} bytes, the manifest says {expected['size']}; copy or export it again"
        )
    if sha256(path) != expected["sha256"]:
        raise BundleHashError(f"{path}: sha256 differs from {MANIFEST}; copy or export the bundle again")
