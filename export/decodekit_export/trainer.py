"""
The trainer: transformers' own, with the loss and the stops that fine-tuning on completions needs.

Loss is the sum over the trained tokens of a step, however many batches it accumulates,
divided by their number. The learning rate follows the share of the run that is over, in
steps or in seconds, whichever is more, so a run that is cut by the clock still ends slowly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch.nn import functional

from decodekit.errors import NumericalError
from decodekit_export.collate import IGNORED, Batch, Collate, as_items
from decodekit_export.data import Row
from decodekit_export.progress import Bar
from decodekit_export.settings import Settings


class CompletionTrainer(transformers.Trainer):
    """Trains a causal model on batches of `Collate`; the rest is transformers.Trainer."""

    def __init__(self, settings: Settings, bar: Bar, **options: Any) -> None:
        self.clock = Clock(settings.max_seconds)
        self.tokens = 0  # seen so far, without padding
        self._bar = bar
        self._warmup = settings.warmup
        super().__init__(compute_loss_func=loss_of_trained, callbacks=[self.clock, bar], **options)
        self.remove_callback(transformers.trainer_callback.PrinterCallback)

    def fit(self) -> None:
        """Train; the bar is closed whatever happens."""
        try:
            self.train()
        finally:
            self._bar.close()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        def rate(step: int) -> float:
            share = (step + 0.5) / num_training_steps  # its middle: no step has a rate of 0
            return learning_rate(max(share, self.clock.share), self._warmup)

        optimizer = optimizer or self.optimizer
        assert optimizer is not None
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        lines = inputs.pop("lines")
        self.tokens += int(inputs["attention_mask"].sum())
        share = (self.state.global_step + 1) / self.state.max_steps
        self._bar.show(self.tokens, max(share, self.clock.share))
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            rows = ", ".join(map(str, lines[:8])) + (", ..." if len(lines) > 8 else "")
            raise NumericalError(
                f"step {self.state.global_step + 1}: loss is {loss.item()} at learning rate "
                f"{self._get_learning_rate():.2g}, in a batch of lines {rows}; lower the learning rate"
            )
        return loss


class Clock(transformers.TrainerCallback):
    """Ends training after `max_seconds` of steps; None never does.

    seconds  from the start of the first step to the end of the last
    """

    def __init__(self, max_seconds: float | None) -> None:
        self._max_seconds = max_seconds
        self._began: float | None = None
        self.seconds = 0.0

    @property
    def share(self) -> float:
        """How much of the time is used, in [0, 1]; 0 if there is no limit."""
        return min(self.seconds / self._max_seconds, 1.0) if self._max_seconds else 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        assert self._began is not None
        self.seconds = time.monotonic() - self._began
        if self.share >= 1.0:
            control.should_training_stop = True


def learning_rate(share: float, warmup: float) -> float:
    """The rate in [0, 1] when `share` of a run is over: a line up to `warmup`, then half a cosine down."""
    if share < warmup:
        return share / warmup
    return 0.5 * (1 + math.cos(math.pi * min((share - warmup) / (1 - warmup), 1.0)))


def loss_of_trained(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Cross entropy, nats, summed over the trained tokens of a batch and divided by `num_items_in_batch`.

    The logits at a place predict the token at the next, so nothing predicts the first:
    a row begins with a token of its prompt, which is not trained.
    """
    losses = token_losses(outputs.logits, labels)
    return losses.sum() / ((labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy, nats, of every place but the last, float32 [B * (T - 1)]; 0 where not trained."""
    predicted, then = logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
    return functional.cross_entropy(predicted, then, ignore_index=IGNORED, reduction="none")


@torch.no_grad()
def mean_loss(model: Any, rows: Sequence[Row], batch_size: int) -> float:
    """Cross entropy, nats, averaged over all trained tokens of `rows`."""
    model.eval()
    collate, total, count = Collate(pad_id=0), 0.0, 0
    items = sorted(as_items(rows), key=lambda item: len(item["input_ids"]))
    for start in range(0, len(items), batch_size):
        batch = collate(items[start : start + batch_size])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        total += token_losses(logits, batch["labels"]).double().sum().item()
        count += int((batch["labels"] != IGNORED).sum())
    return total / count
