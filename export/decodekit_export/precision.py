"""
Precision: the type of numbers that a graph computes in, and the modules that stay in float32.

The model is loaded in that type as transformers does it, so what its code computes in float32
all the same (norms, softmax) is so in the graph too. A kept module is given float32 and answers
in the model's type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from decodekit.devices import CUDA
from decodekit_export.checkpoint import Checkpoint
from decodekit_export.errors import ExportError
from decodekit_export.patterns import kept

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Precision:
    """What a graph computes in.

    dtype  "float32", "float16", or where CUDA is "bfloat16"
    keep   patterns of modules that stay in float32, such as "lm_head" or "*.down_proj"
    """

    dtype: str = "float32"
    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.dtype == "bfloat16" and CUDA not in onnxruntime.get_available_providers():
            raise ExportError(
                "dtype bfloat16: only CUDA computes in it, and this onnxruntime has none, so the bundle "
                "would go unchecked; export where there is a card, with pip install 'decodekit[gpu]', or "
                "pass --dtype float16, or --compact, which stores weights in bfloat16 where that "
                "loses nothing"
            )
        if self.dtype not in DTYPES:
            raise ExportError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.keep and self.is_float32:
            raise ExportError(
                "keep names what stays in float32, and all does; pass --dtype or --quantize too"
            )

    @property
    def is_float32(self) -> bool:
        return self.dtype == "float32"

    def load(self, source: Checkpoint, original: PreTrainedModel) -> PreTrainedModel:
        """`original`, the checkpoint's model in float32, in this type; kept modules have its very weights."""
        model = source.load_model(getattr(torch, self.dtype))
        for parameter, exact in zip(model.parameters(), original.parameters(), strict=True):
            parameter.data.copy_(exact.data)  # it may have been moved since it was read
        modules = {name: m for name, m in model.named_modules() if _own(m)}
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        exempt = {id(p) for module in kept(modules, self.keep) for p in _own(module)}
        for name, module in modules.items():
            if any(id(p) in exempt for p in _own(module)):  # also one that shares a weight with a kept one
                for parameter, exact in zip(_own(module), _own(original.get_submodule(name)), strict=True):
                    parameter.data = exact.data
                module.register_forward_pre_hook(_widen, with_kwargs=True)
                if module is not head:  # logits leave in float32 anyway
                    module.register_forward_hook(_narrow(getattr(torch, self.dtype)))
        return model


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


def _widen(_: nn.Module, args: Any, kwargs: Any) -> Any:
    return tuple(map(_float, args)), {name: _float(value) for name, value in kwargs.items()}


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _narrow(dtype: torch.dtype) -> Any:
    return lambda module, args, output: output.to(dtype) if isinstance(output, Tensor) else output
