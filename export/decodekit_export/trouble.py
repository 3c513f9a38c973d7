"""What went wrong in a step, in words: where, with which rows, and what helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from decodekit.errors import NumericalError
from decodekit_export.errors import TrainingError


def not_a_number(
    step: int, loss: torch.Tensor, rate: float, lines: Sequence[int], history: Sequence[Mapping[str, Any]]
) -> NumericalError:
    """The loss of the step after `step` is not finite; `history` is what the trainer logged before."""
    rows = ", ".join(map(str, lines[:8])) + (", ..." if len(lines) > 8 else "")
    norm = next((entry["grad_norm"] for entry in reversed(history) if "grad_norm" in entry), 0.0)
    return NumericalError(
        f"step {step + 1}: loss is {loss.item()} at learning rate {rate:.2g}, in a batch of lines {rows}; "
        f"the gradient before it had norm {norm:.3g}; lower the learning rate"
    )


def out_of_memory(step: int, labels: torch.Tensor) -> TrainingError:
    """The batch with these labels [B, T] did not fit."""
    rows, tokens = labels.shape
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return TrainingError(
        f"step {step + 1}: out of memory with a batch of {rows} rows, {tokens} tokens each (peak {peak:,} "
        "bytes); what was done is saved; lower --batch-size and raise --accumulate, lower --max-length, or "
        "take --recompute"
    )
