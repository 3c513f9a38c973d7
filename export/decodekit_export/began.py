"""What a run begins with: all that decides which weights come of it, as flat plain data."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from decodekit.files import sha256
from decodekit.origin import version
from decodekit_export.checkpoint import Checkpoint
from decodekit_export.data import Dataset
from decodekit_export.pretrained import TOKENIZER_FILES
from decodekit_export.settings import Settings

PACKAGES = ("decodekit", "decodekit-export", "torch", "transformers", "accelerate", "tokenizers", "peft")
_FILES = ("config.json", "generation_config.json", "chat_template.jinja", *TOKENIZER_FILES)


def began(
    settings: Settings, base: Checkpoint, train: Dataset, valid: Dataset | None, *, processes: int
) -> dict[str, Any]:
    """Settings by name, digests of base and data, versions, and what it runs on."""
    flat: dict[str, Any] = asdict(settings)
    adapter = flat.pop("adapter") or {}
    return {
        **{name: _plain(value) for name, value in flat.items()},
        **{f"adapter_{name}": _plain(value) for name, value in adapter.items()},
        "base_sha256": base_sha256(base),
        "data_sha256": train.sha256,
        "valid_sha256": valid.sha256 if valid else None,
        "processes": processes,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **{f"version of {name}": found for name, found in versions().items()},
    }


def base_sha256(base: Checkpoint) -> str:
    """Digest of all files of a checkpoint that a model is made of: names and contents."""
    digest = hashlib.sha256()
    files = [*base.weights, *(base.path / name for name in _FILES)]
    for path in sorted(file for file in files if file.is_file()):
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Of the packages that compute, those that are installed."""
    return {name: found for name in PACKAGES if (found := version(name))}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
