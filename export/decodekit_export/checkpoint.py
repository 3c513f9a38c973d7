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

from decodekit.tokenizer import Tokenizer
from decodekit_export.errors import CheckpointError
from decodekit_export.safe_config import safe_config

TEMPLATE = "chat_template.jinja"
_LARGEST_JSON = 64 << 20  # bytes; an index of many weights is the largest
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


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
        with self._safe_copy() as folder, _offline():
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
                reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
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
        if not (self.path / "tokenizer.json").is_file():
            raise CheckpointError(
                f"{self.path}: no tokenizer.json; write one with "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        return Tokenizer(self.path / "tokenizer.json")

    @property
    def chat_template(self) -> str | None:
        """Jinja source, from its own file or from tokenizer_config.json; of several, the default."""
        if (own := self.path / TEMPLATE).is_file():
            return own.read_text(encoding="utf-8")
        found = self.json("tokenizer_config.json").get("chat_template")
        if isinstance(found, list):
            found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
        return found if isinstance(found, str) else None

    @property
    def license(self) -> str | None:
        """Text of the licence file, if the folder has one."""
        names = sorted(p for p in self.path.iterdir() if re.fullmatch(r"(?i)licen[cs]e(\.(txt|md))?", p.name))
        return names[0].read_text(encoding="utf-8") if names else None

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object of the folder; {} if there is no such file."""
        path = self.path / name
        return _read_json(path) if path.is_file() else {}

    @contextlib.contextmanager
    def _safe_copy(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="decodekit-") as name:
            folder = Path(name)
            (folder / "config.json").write_text(json.dumps(dict(self.config)), encoding="utf-8")
            for file in (*self.weights, *self.path.glob("model.safetensors.index.json")):
                (folder / file.name).symlink_to(file.resolve())
            yield folder


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in a folder, after checking what can be checked without loading weights."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json, so no checkpoint; download it first")
    if (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder}: holds an adapter; merge it into its base model first (merge_and_unload)"
        )
    config, dropped = safe_config(_read_json(folder / "config.json"))
    if dropped:
        warnings.warn(
            f"{folder / 'config.json'}: ignored keys that describe no model: {', '.join(dropped)}",
            stacklevel=2,
        )
    if "quantization_config" in config:
        raise CheckpointError(f"{folder}: weights are quantised; export the checkpoint they were made from")
    _check_environment()
    return Checkpoint(folder, config, _weights(folder))


def _weights(folder: Path) -> tuple[Path, ...]:
    index = folder / "model.safetensors.index.json"
    names: list[Any] = ["model.safetensors"]
    if index.is_file():
        listed = _read_json(index).get("weight_map")
        names = [*listed.values()] if isinstance(listed, dict) else []
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise CheckpointError(f"{index}: weight file {name!r} is not a plain file name")
    files = tuple(folder / name for name in sorted(set(names)))
    missing = [file.name for file in files if not file.is_file()]
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if missing and pickles:
        raise CheckpointError(
            f"{folder}: only pickled weights ({pickles[0]}), which run code when loaded; if you trust them, "
            "convert with AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    if missing or not files:
        raise CheckpointError(
            f"{folder}: weights are missing ({', '.join(missing) or index.name}); download them"
        )
    return files


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"larger than {_LARGEST_JSON} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc})") from exc
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return content


def _check_environment() -> None:
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if (4, 56) <= version < (5, 3) and importlib.util.find_spec("kernels"):
        raise CheckpointError(
            f"transformers {transformers.__version__} with the package kernels can run code named by a "
            "checkpoint (CVE-2026-4372); pip install 'transformers>=5.3', or uninstall kernels"
        )


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Nothing is fetched, and no progress bar is drawn."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
        if bars:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
