"""What transformers.Trainer is told, and the processes that torchrun started to share a run."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import torch
import transformers

from decodekit.errors import ParameterError
from decodekit_export.settings import Settings

_NAMES = {field.name for field in fields(transformers.TrainingArguments)}
RECOMPUTE = "activation_checkpointing" if "activation_checkpointing" in _NAMES else "gradient_checkpointing"

_OLD: dict[str, Any] = {"fsdp": "full_shard auto_wrap"}
_NEW: dict[str, Any] = {"fsdp": True, "fsdp_config": {"version": 2}}
SHARDED = _OLD if transformers.__version__.startswith("4.") else _NEW


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", 0))


def processes() -> int:
    """How many processes share the run."""
    return int(os.environ.get("WORLD_SIZE", 1))


def training_arguments(settings: Settings, folder: str) -> transformers.TrainingArguments:
    """The settings in the words of transformers; nothing is saved, shown or evaluated of its own accord."""
    on_cpu = not torch.cuda.is_available()
    if settings.precision == "float16" and on_cpu:
        raise ParameterError("finetune: precision float16 needs a GPU; bfloat16 and float32 work on the CPU")
    if settings.precision == "bfloat16" and not on_cpu and not torch.cuda.is_bf16_supported():
        raise ParameterError("finetune: this GPU has no bfloat16; float16 and float32 work on it")
    named: dict[str, Any] = {
        RECOMPUTE: settings.recompute,
        f"{RECOMPUTE}_kwargs": {"use_reentrant": False},
        **(SHARDED if settings.shard else {}),
    }
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        seed=settings.seed,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and processes() > 1 else None,
        ddp_find_unused_parameters=False,
        average_tokens_across_devices=True,
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_on_start=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **named,
    )
    if processes() == 1:
        arguments._n_gpu = min(arguments.n_gpu, 1)  # one process, one device: several are torchrun's to share
    return arguments
