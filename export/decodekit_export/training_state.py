"""
The state of training, as tensors and plain values: what a checkpoint holds besides the trainer's own notes.

Weights that are trained, the optimizer, the schedule, the loss scale of float16, and of every process the
random generators. Sharded models are gathered, by torch's own functions, which also serve all others.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import gather_object
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.safetensors"
GENERATORS = "generators.safetensors"

Tensors = dict[str, torch.Tensor]
Values = dict[str, Any]

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_BETWEEN = "|"  # a weight's name, then what the optimizer knows of it


def generators() -> Values:
    """The state of every random generator of this process."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [kind, keys.tolist(), *rest],  # type: ignore[union-attr]
        "torch": [torch.get_rng_state(), *_device_generators()],
    }


def restore_generators(state: Mapping[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"][0])
    if len(state["torch"]) > 1:
        torch.cuda.set_rng_state(state["torch"][1])


def capture(trainer: transformers.Trainer, at: Values) -> tuple[dict[str, Tensors], Values]:
    """Tensors by file, and values. Every process must call it, each with its generators `at` that moment.

    Only the first process gets them.
    """
    model = trainer.model_wrapped
    weights = whole_weights(model)
    knows: Any = get_optimizer_state_dict(model, _bare(trainer), options=_WHOLE)
    everyone = gather_object([at])
    if not trainer.is_world_process_zero():
        return {}, {}
    scaler = trainer.accelerator.scaler
    tensors: dict[str, Tensors] = {
        WEIGHTS: weights,
        OPTIMIZER: {
            f"{weight}{_BETWEEN}{name}": value
            for weight, state in knows["state"].items()
            for name, value in state.items()
        },
        GENERATORS: {f"{i}.{j}": t for i, one in enumerate(everyone) for j, t in enumerate(one["torch"])},
    }
    values = {
        "groups": knows["param_groups"],
        "schedule": {k: v for k, v in _schedule(trainer).state_dict().items() if k != "lr_lambdas"},
        "scaler": scaler.state_dict() if scaler else None,
        "generators": [{key: one[key] for key in ("python", "numpy")} for one in everyone],
    }
    return tensors, values


def whole_weights(model: Any) -> Tensors:
    """The weights that are trained, gathered in the first process; of tied ones the first."""
    return _untied(get_model_state_dict(model, options=_WHOLE))


def restore_weights(model: Any, weights: Tensors) -> None:
    options = StateDictOptions(full_state_dict=True, strict=False, ignore_frozen_params=True)
    set_model_state_dict(model, {**weights}, options=options)


def restore_optimizer(trainer: transformers.Trainer, tensors: Tensors, values: Values) -> None:
    """Optimizer, schedule and loss scale as they were captured."""
    state: dict[str, Tensors] = {}
    for key, value in tensors.items():
        weight, _, name = key.rpartition(_BETWEEN)
        state.setdefault(weight, {})[name] = value
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in values["groups"]]
    known: Any = {"state": state, "param_groups": groups}
    set_optimizer_state_dict(trainer.model_wrapped, _bare(trainer), known, options=_WHOLE)
    schedule = _schedule(trainer)
    schedule.load_state_dict({**schedule.state_dict(), **values["schedule"]})
    if values["scaler"] and trainer.accelerator.scaler:
        trainer.accelerator.scaler.load_state_dict(values["scaler"])


def generators_of(rank: int, tensors: Tensors, values: Values) -> Values:
    """What `generators` gave in the process `rank`."""
    mine = sorted(
        (key for key in tensors if key.startswith(f"{rank}.")), key=lambda key: int(key[len(f"{rank}.") :])
    )
    return {**values["generators"][rank], "torch": [tensors[key] for key in mine]}


def _bare(trainer: transformers.Trainer) -> torch.optim.Optimizer:
    """The optimizer, without what accelerate wraps around it."""
    optimizer: Any = trainer.optimizer
    return getattr(optimizer, "optimizer", optimizer)  # type: ignore[no-any-return]


def _schedule(trainer: transformers.Trainer) -> torch.optim.lr_scheduler.LRScheduler:
    assert trainer.lr_scheduler is not None
    return trainer.lr_scheduler


def _untied(weights: Mapping[str, Any]) -> Tensors:
    """Each memory once: the second name of a tied weight is left out."""
    seen: dict[int, str] = {}
    return {name: w for name, w in weights.items() if seen.setdefault(w.data_ptr(), name) == name}


def _device_generators() -> list[torch.Tensor]:
    return [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
