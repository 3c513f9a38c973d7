"""
Adapters: a small difference to a model, trained in its place. The only module that imports peft.

LoRA: Hu et al., ICLR 2022, arXiv:2106.09685. DoRA: Liu et al., ICML 2024, arXiv:2402.09353.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

from decodekit.errors import ParameterError
from decodekit_export.errors import first_line
from decodekit_export.pretrained import Pretrained
from decodekit_export.settings import Adapter

FOLDER = "adapter"  # beside the model it was merged into


def check_installed() -> None:
    if importlib.util.find_spec("peft") is None:
        raise ParameterError(
            "finetune: method lora and dora need the package peft; pip install 'decodekit-export[lora]'"
        )


def with_adapter(model: Any, adapter: Adapter | None, start: Pretrained) -> Any:
    """The model of a checkpoint with an adapter that changes nothing yet, where one is asked for.

    Then only the adapter is trained, and it names its base by an absolute path.
    """
    if adapter is None:
        return model
    import peft

    targets: Any = list(adapter.targets) if adapter.targets else "all-linear"
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        use_dora=adapter.kind == "dora",
    )
    try:
        # peft and transformers deprecate each other's names; a reader cannot act on it.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            added = peft.get_peft_model(model, config)
    except ValueError as exc:  # a target that the model has not
        raise ParameterError(f"finetune: targets: {first_line(exc)}") from exc
    added.peft_config["default"].base_model_name_or_path = str(start.checkpoint.path.absolute())
    return added


def save_adapter(model: Any, folder: Path) -> None:
    """Write adapter_model.safetensors and adapter_config.json, as peft does."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a form to be filled in


def merge(model: Any) -> Any:
    """The base model with the adapter added to its weights."""
    return model.merge_and_unload()
