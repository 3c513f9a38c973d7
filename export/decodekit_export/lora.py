"""
A LoRA: low-rank changes to some products of a model, as peft saves them.

A product x W of module m becomes x W + s x A B, with A [in, r], B [r, out] and the scale
s = alpha / r, or alpha / sqrt(r) where rank-stabilised. Hu et al., arXiv:2106.09685, section 4.1;
Kalajdzievski, arXiv:2312.03732, section 4.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from decodekit.manifest import MAX_RANK
from decodekit_export.errors import CheckpointError
from decodekit_export.plain_files import plain_file, read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_OF_TRAINING = {  # say how it was made, or where, and not what it computes
    *("auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config"),
    *("exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern"),
    *("layers_to_transform", "loftq_config", "lora_dropout", "lora_ga_config", "megatron_config"),
    *("megatron_core", "peft_version", "qalora_group_size", "revision", "runtime_config"),
    *("target_modules", "task_type"),
}
_READ = {"alpha_pattern", "bias", "lora_alpha", "peft_type", "r", "rank_pattern", "use_rslora"}
_KEY = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class Lora:
    """Changes by module name: A [in, r] and B [r, out], the scale in B."""

    changes: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        """The largest of the changes."""
        return max(a.shape[1] for a, _ in self.changes.values())

    @property
    def parameters(self) -> int:
        return sum(a.numel() + b.numel() for a, b in self.changes.values())

    @contextmanager
    def applied(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside this context the model computes with the changes, as peft does, beside its weights."""
        with ExitStack() as stack:
            for name, (a, b) in self.changes.items():
                hook = model.get_submodule(name).register_forward_hook(_adding(a, b))
                stack.callback(hook.remove)
            yield

    def merge(self, model: PreTrainedModel) -> None:
        """Move the weights by the changes, for good."""
        shared = _shared(model)
        with torch.no_grad():
            for name, (a, b) in self.changes.items():
                module = model.get_submodule(name)
                weight: Tensor = module.weight  # type: ignore[assignment]
                if weight is shared:
                    raise CheckpointError(
                        f"adapter: {name} shares its weight with the embedding, which would change too; "
                        "merge it with peft and untie them"
                    )
                change = (a.double() @ b.double()).to(weight.dtype)
                weight += change if isinstance(module, Conv1D) else change.T


def read_lora(folder: Path, model: PreTrainedModel) -> Lora:
    """The LoRA in a folder that peft saved, checked against the model it is to change."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise CheckpointError(f"{folder}: no {name}, so no adapter; save one with peft's save_pretrained")
    config, weights = read_json(folder, CONFIG), plain_file(folder, WEIGHTS)
    _check_config(folder, config)
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _tensors(weights):
        match = _KEY.fullmatch(key)
        if match is None:
            raise CheckpointError(
                f"{folder / WEIGHTS}: {key} is no matrix of a plain LoRA; merge it with peft "
                "(merge_and_unload) and export the result"
            )
        found.setdefault(match["module"], {})[match["side"]] = tensor
    if not found:
        raise CheckpointError(f"{folder / WEIGHTS}: holds no matrices")
    return Lora({name: _change(folder, config, name, sides, model) for name, sides in sorted(found.items())})


def sizes(module: nn.Module) -> tuple[int, int]:
    """Numbers in and out of a product's module."""
    weight = cast(Tensor, module.weight)
    inputs, outputs = weight.shape if isinstance(module, Conv1D) else weight.shape[::-1]
    return inputs, outputs


def _check_config(folder: Path, config: Mapping[str, Any]) -> None:
    place = folder / CONFIG
    if config.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{place}: peft_type must be 'LORA', got {config.get('peft_type')!r}; merge it with peft "
            "(merge_and_unload) and export the result"
        )
    asks = {key: value for key, value in config.items() if key not in _READ | _OF_TRAINING and value}
    if config.get("bias", "none") != "none":
        asks["bias"] = config["bias"]
    if asks:
        key, value = next(iter(asks.items()))
        raise CheckpointError(
            f"{place}: {key} is {json.dumps(value)[:40]}, which a low-rank product cannot express; "
            "merge it with peft (merge_and_unload) and export the result"
        )


def _change(
    folder: Path, config: Mapping[str, Any], name: str, sides: Mapping[str, Tensor], model: PreTrainedModel
) -> tuple[Tensor, Tensor]:
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.Linear | Conv1D):
        raise CheckpointError(
            f"{folder}: {name} is no product of {type(model).__name__}; another base model?"
        )
    inputs, outputs = sizes(module)
    a, b = sides.get("A"), sides.get("B")
    if a is None or b is None or a.ndim != 2 or a.shape[1] != inputs or b.shape != (outputs, a.shape[0]):
        shapes = {side: tuple(tensor.shape) for side, tensor in sides.items()}
        raise CheckpointError(
            f"{folder}: {name} must have A [r, {inputs}] and B [{outputs}, r], got {shapes}; "
            "another base model?"
        )
    rank = a.shape[0]
    if not 1 <= rank <= MAX_RANK:
        raise CheckpointError(f"{folder}: {name}: rank must be in [1, {MAX_RANK}], got {rank}")
    alpha = _pattern(config.get("alpha_pattern"), name, config.get("lora_alpha"))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise CheckpointError(f"{folder / CONFIG}: lora_alpha must be a number, got {alpha!r:.40}")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return a.T.contiguous(), (b.T * scale).contiguous()


def _pattern(patterns: Any, name: str, default: Any) -> Any:
    """The entry of the first key that the name ends with, as peft finds it; expressions are not followed."""
    for key, value in (patterns or {}).items():
        if not re.fullmatch(r"[\w.]+", key):
            raise CheckpointError(
                f"{CONFIG}: alpha_pattern: {key!r:.40} must be the end of a module's name; write them out"
            )
        if f".{name}".endswith(f".{key}"):
            return value
    return default


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                yield key, file.get_tensor(key).float()
    except (SafetensorError, OSError) as exc:
        raise CheckpointError(f"{path}: cannot be read ({exc})") from exc


def _adding(a: Tensor, b: Tensor) -> Any:
    return lambda module, given, output: output + given[0] @ a @ b


def _shared(model: PreTrainedModel) -> Tensor | None:
    """The weight that makes both the first vectors and the logits."""
    head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    embedding: Any = model.get_input_embeddings()
    return head.weight if head is not None and head.weight is embedding.weight else None
