"""
The weights of a checkpoint: safetensors files, held against their index before anything loads them.

A file has a short header that lists its tensors; the safetensors library checks that these
cover the file without gap or overlap. An index that points at other files, or at tensors that
a file does not have, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from decodekit_export.errors import CheckpointError
from decodekit_export.plain_files import plain_file, read_json

INDEX = "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")


@dataclass(frozen=True, slots=True)
class Weights:
    """The files, and what their headers list.

    elements  numbers in all tensors
    """

    files: tuple[Path, ...]
    tensors: int
    elements: int


def find_weights(folder: Path) -> Weights:
    """The weights of a checkpoint folder; CheckpointError if they are missing, pickled or not as indexed."""
    placed = _index(folder)
    files = tuple(folder / name for name in sorted(set(placed.values())) or ["model.safetensors"])
    if missing := [file.name for file in files if not file.exists()]:
        raise CheckpointError(f"{folder}: {_instead(folder, missing)}")
    for file in files:
        plain_file(folder, file.name)
    shapes = {file.name: _shapes(file) for file in files}
    for tensor, name in placed.items():
        if tensor not in shapes[name]:
            raise CheckpointError(
                f"{folder / INDEX}: says that {tensor!r} is in {name}, which does not have it; "
                "download index and weights again, from one revision"
            )
    all_shapes = [shape for listed in shapes.values() for shape in listed.values()]
    return Weights(files, len(all_shapes), sum(map(prod, all_shapes)))


def instead_of_weights(names: list[str]) -> str | None:
    """What is wrong with a list of files that has no safetensors, or None if nothing is known of it."""
    if pickles := sorted(name for name in names if any(Path(name).match(p) for p in PICKLES)):
        return (
            f"only pickled weights ({pickles[0]}), which run code when loaded; if you trust them, "
            "convert with AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    if ggufs := sorted(name for name in names if name.endswith(".gguf")):
        return (
            f"only weights of llama.cpp ({ggufs[0]}), most of which are rounded already; "
            "export the checkpoint that they were made from, or, if you trust the file, convert it with "
            "AutoModelForCausalLM.from_pretrained(folder, gguf_file=name).save_pretrained(new_folder)"
        )
    return None


def _index(folder: Path) -> dict[str, str]:
    """Tensor -> file, as the index says; empty if there is none."""
    if not (folder / INDEX).exists():
        return {}
    placed: Any = read_json(folder, INDEX).get("weight_map")
    if not isinstance(placed, Mapping) or not placed:
        raise CheckpointError(f"{folder / INDEX}: has no weight_map; download it again")
    for name in placed.values():
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise CheckpointError(f"{folder / INDEX}: weight file {name!r} is not a plain file name")
    return dict(placed)


def _instead(folder: Path, missing: list[str]) -> str:
    known = instead_of_weights([path.name for path in folder.iterdir()])
    return known or f"weights are missing ({', '.join(missing)}); download them"


def _shapes(file: Path) -> dict[str, list[int]]:
    try:
        with safe_open(file, "np") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as exc:
        raise CheckpointError(f"{file}: not a safetensors file ({exc}); download it again") from exc
