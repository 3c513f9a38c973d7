"""
What a manifest says of a bundle, whoever drew its graph; and what stands beside the graph in its folder.
"""

from __future__ import annotations

import json
import re
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from decodekit.bundle import Bundle, write_manifest
from decodekit.files import sha256
from decodekit_export.canary import canary
from decodekit_export.checkpoint import TEMPLATE, Checkpoint
from decodekit_export.checkpoint_source import Source
from decodekit_export.context_length import context_length
from decodekit_export.errors import ExportError, ParityError
from decodekit_export.parity import Parity
from decodekit_export.reference import Reference
from decodekit_export.stop_ids import stop_ids

PACKAGES = ("decodekit-export", "decodekit", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")


def seal(
    folder: Path,
    found: Source,
    source: Checkpoint,
    model: PreTrainedModel,
    parity: Parity,
    *,
    name: str,
    license: str | None,
    context_length: int,
    stops: list[int],
    **own: Any,
) -> None:
    """Write the manifest of a folder that is whole but for it, with a canary.

    own  what its exporter adds
    """
    fields = {
        "name": name,
        **_describe_model(source, model),
        "context_length": context_length,
        "stop_ids": stops,
        "allow_no_eos": not stops,
        "license": source.license if license is None else license,
        "source": {file.name: sha256(file) for file in (source.path / "config.json", *source.weights)},
        "provenance": dict(found.provenance),
        "made_by": {package: version(package) for package in PACKAGES},
        "parity": parity.fields(),
        **own,
    }
    fields["canary"] = canary(Bundle(folder, fields), Reference(model), parity).to_json()
    _check_stops(write_manifest(folder, fields), source, model)


def _check_stops(written: Bundle, source: Checkpoint, model: PreTrainedModel) -> None:
    """Raise ExportError unless what was written ends answers where the checkpoint does."""
    named = stop_ids(source, model.config.vocab_size, allow_no_eos=True)
    if written.stop_ids != frozenset(named):
        raise ExportError(
            f"{source.path}: names stop ids {named}, the manifest {sorted(written.stop_ids)}; nothing written"
        )


def require(parity: Parity, what: str) -> None:
    """Raise ParityError if the gate was not passed."""
    if not parity.passed:
        reasons = "; ".join(parity.failures[:3])
        raise ParityError(f"{what} differs from the model, nothing written: {reasons}", parity)


def told_context_length(model: PreTrainedModel) -> int:
    """The tokens a graph can take, with a warning where the model promises more."""
    length, promised = context_length(model), model.config.max_position_embeddings
    if length < promised:
        warnings.warn(
            f"{type(model).__name__}: rope type longrope changes its frequencies beyond {length} tokens, "
            f"which a graph cannot; context_length is {length} instead of {promised}",
            stacklevel=3,
        )
    return length


def write_tokenizer(source: Checkpoint, folder: Path, vocabulary: int) -> None:
    """Tokenizer and chat template, as the runtime reads them."""
    if source.tokenizer.size > vocabulary:
        raise ExportError(
            f"{source.path}: the tokenizer has {source.tokenizer.size} ids, the model only {vocabulary}; "
            "they do not belong together, or the embeddings were not resized"
        )
    content = source.json("tokenizer.json")
    for setting in ("truncation", "padding"):
        if content.get(setting) is not None:
            warnings.warn(
                f"{source.path}: tokenizer.json has {setting} switched on; the bundle's has not", stacklevel=3
            )
            content[setting] = None
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    if source.chat_template is not None:
        (folder / TEMPLATE).write_text(source.chat_template, encoding="utf-8")


def checked_name(name: str) -> str:
    """A name of a bundle or an adapter."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise ExportError(
            f"name must be 1 to 128 letters, digits, '.', '_' or '-', got {name!r}; pass --name"
        )
    return name


def free_place(place: Path) -> Path:
    """A place where a bundle may come to be."""
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ExportError(
            f"{place}: already exists and is not an empty folder; give another --out, or remove it"
        )
    return place


def _describe_model(source: Checkpoint, model: PreTrainedModel) -> dict[str, Any]:
    return {
        "architecture": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": model.config.vocab_size,
        "tokenizer": "tokenizer.json",
        "chat_template": None if source.chat_template is None else TEMPLATE,
    }
