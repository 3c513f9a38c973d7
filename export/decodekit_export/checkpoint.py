"""
A checkpoint: a model folder as transformers writes it, read without trusting it.

Nothing in the folder is executed, nothing outside it is read and nothing is fetched:
weights are safetensors, the configuration is reduced first, and transformers is shown a
copy of the folder that holds those two and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from decodekit.files import template_in
from decodekit.tokenizer import Tokenizer
from decodekit_export.config_keys import known_keys
from decodekit_export.errors import CheckpointError, first_line
from decodekit_export.offline import offline
from decodekit_export.plain_files import plain_file, read_json, read_text
from decodekit_export.safe_config import safe_config
from decodekit_export.weights import INDEX, Weights, find_weights, instead_of_weights

TEMPLATE = "chat_template.jinja"
_SIZE = re.compile("size|dim|heads|embd|inner")  # keys that count places of an array


@dataclass(frozen=True)
class Checkpoint:
    """A folder that may be loaded.

    config   what describes the model, as safe_config left it
    weights  the safetensors files
    """

    path: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]

    def load_model(self, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        """The model, attending with plain tensor code, ready to be asked.

        dtype  of what transformers does not keep in float32 whatever it is told
        """
        with self.safe_copy() as folder, offline():
            try:
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    folder,
                    dtype=dtype,
                    attn_implementation="eager",
                    use_safetensors=True,
                    local_files_only=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
            except Exception as exc:  # transformers, safetensors and torch each raise their own
                reason = first_line(exc)
                raise CheckpointError(f"{self.path}: transformers cannot load it: {reason}") from exc
        model, loading = loaded
        for what in ("missing_keys", "mismatched_keys"):
            if loading[what]:
                names = ", ".join(sorted(map(str, loading[what]))[:3])
                raise CheckpointError(
                    f"{self.path}: {len(loading[what])} weights {what.partition('_')[0]}, such as {names}; "
                    "the weights are not those of config.json"
                )
        if loading["unexpected_keys"]:
            names = ", ".join(sorted(map(str, loading["unexpected_keys"])))
            warnings.warn(f"{self.path}: weights that the model does not use: {names}", stacklevel=2)
        model.eval().requires_grad_(False)
        return model  # type: ignore[no-any-return]

    @cached_property
    def tokenizer(self) -> Tokenizer:
        if not (self.path / "tokenizer.json").exists():
            raise CheckpointError(
                f"{self.path}: no tokenizer.json; write one with "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        return Tokenizer(plain_file(self.path, "tokenizer.json"))

    @property
    def chat_template(self) -> str | None:
        """Jinja source, from its own file or from tokenizer_config.json; of several, the default."""
        if (self.path / TEMPLATE).exists():
            return read_text(self.path, TEMPLATE)
        return template_in(self.json("tokenizer_config.json"))

    @property
    def license(self) -> str | None:
        """Text of the licence file, if the folder has one."""
        names = sorted(p for p in self.path.iterdir() if re.fullmatch(r"(?i)licen[cs]e(\.(txt|md))?", p.name))
        return read_text(self.path, names[0].name) if names else None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; {} if there is no such file."""
        return read_json(self.path, name) if (self.path / name).exists() else {}

    @contextlib.contextmanager
    def safe_copy(self) -> Iterator[Path]:
        """A folder for the time of the block: the reduced configuration, and links to the weights."""
        with tempfile.TemporaryDirectory(prefix="decodekit-") as name:
            folder = Path(name)
            (folder / "config.json").write_text(json.dumps(dict(self.config)), encoding="utf-8")
            for file in (*self.weights, *self.path.glob(INDEX)):
                (folder / file.name).symlink_to(file.resolve())
            yield folder


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a folder, after checking what can be checked without loading weights."""
    folder = Path(path)
    if not (folder / "config.json").exists():
        raise CheckpointError(f"{folder}: {_no_checkpoint(folder)}")
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder}: holds an adapter; merge it into its base model first (merge_and_unload), "
            "or export the base with --merge or --adapter"
        )
    said = read_json(folder, "config.json")
    config, dropped = safe_config(said, known_keys(said))
    if dropped:
        warnings.warn(
            f"{folder / 'config.json'}: ignored keys that describe no model: {', '.join(dropped)}",
            stacklevel=2,
        )
    if "quantization_config" in config:
        raise CheckpointError(f"{folder}: weights are quantised; export the checkpoint they were made from")
    _check_environment()
    weights = find_weights(folder)
    _check_sizes(folder, config, weights)
    return Checkpoint(folder, config, weights.files)


def _no_checkpoint(folder: Path) -> str:
    if folder.is_file():
        what = "an archive" if folder.suffix in (".zip", ".tar", ".gz", ".tgz") else "a file"
        return f"{what}, not a folder with config.json; unpack or convert it first"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return instead_of_weights(names) or "no config.json, so no checkpoint; download it first"


def _check_sizes(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    """Refuse numbers that the weights cannot have: a model is built before they are read into it."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _check_sizes(folder, value, weights)
        elif isinstance(value, int) and value > _most(key, weights):
            raise CheckpointError(
                f"{folder / 'config.json'}: {key} is {value}, more than {weights.tensors} tensors of "
                f"{weights.elements} numbers can have; the weights are not those of config.json"
            )


def _most(key: str, weights: Weights) -> float:
    if "layer" in key:
        return max(weights.tensors, 1000)
    if "position" in key:
        return max(weights.elements, 1 << 24)
    return weights.elements if _SIZE.search(key) else math.inf


def _check_environment() -> None:
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if (4, 56) <= version < (5, 3) and importlib.util.find_spec("kernels"):
        raise CheckpointError(
            f"transformers {transformers.__version__} with the package kernels can run code named by a "
            "checkpoint (CVE-2026-4372); pip install 'transformers>=5.3', or uninstall kernels"
        )
