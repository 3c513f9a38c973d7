"""The figures of a run for TensorBoard, where the package tensorboard is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import transformers

from decodekit.errors import ParameterError


class TensorBoard(transformers.TrainerCallback):
    """Writes every figure that the trainer logs; a run that is gone on with replaces what it does again."""

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ParameterError(
                "finetune: tensorboard is not installed; pip install 'decodekit-export[tensorboard]'"
            )
        self._folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=state.global_step + 1)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, value in kwargs["logs"].items():
            self._writer.add_scalar(name, value, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._writer.close()
