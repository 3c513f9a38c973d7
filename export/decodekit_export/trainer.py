"""
The trainer: transformers' own, with the loss, the order, the stops and the checkpoints of decodekit.

Loss is the sum over the trained tokens of a step, however many batches and processes it is spread
over, divided by their number. The learning rate follows the share of the run that is over, in
steps or in seconds, whichever is more, so a run that is cut by the clock still ends slowly.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import transformers
from torch.utils.data import DataLoader

from decodekit_export.adapter import with_adapter
from decodekit_export.checkpoints import STATE, TRAINER, Checkpoint, Checkpoints
from decodekit_export.clock import Clock
from decodekit_export.collate import IGNORED, Batch
from decodekit_export.data import Row
from decodekit_export.errors import TrainingError
from decodekit_export.evaluation import Evaluation, sums
from decodekit_export.interruption import Interrupted, Listener
from decodekit_export.loss import following, loss_of_trained, only_trained
from decodekit_export.notes import Notes
from decodekit_export.order import Batches, Epochs
from decodekit_export.packed_attention import rows_apart
from decodekit_export.pretrained import Pretrained
from decodekit_export.progress import Bar
from decodekit_export.samples import Sampling
from decodekit_export.schedule import learning_rate
from decodekit_export.settings import Settings
from decodekit_export.training_state import (
    GENERATORS,
    OPTIMIZER,
    WEIGHTS,
    Values,
    generators,
    generators_of,
    restore_generators,
    restore_optimizer,
    restore_weights,
    whole_weights,
)
from decodekit_export.trouble import not_a_number, out_of_memory

EVALUATIONS = 10  # of a run, where nothing else is asked for


class CompletionTrainer(transformers.Trainer):
    """Trains a causal model on batches of `Collate`; the rest is transformers.Trainer.

    valid       rows to evaluate on, or ()
    sampling    answers prompts at each evaluation, or None
    save_every  steps between two checkpoints
    apart       whether the rows of packed windows attend apart, or by a mask
    """

    def __init__(
        self,
        settings: Settings,
        checkpoints: Checkpoints,
        bar: Bar,
        *,
        valid: Sequence[Row] = (),
        sampling: Sampling | None = None,
        save_every: int = 500,
        apart: bool = False,
        callbacks: Sequence[transformers.TrainerCallback] = (),
        **options: Any,
    ) -> None:
        self.notes = Notes()
        self._clock = Clock(settings.max_seconds, self.notes)
        self._settings, self._checkpoints, self._bar = settings, checkpoints, bar
        self._valid, self._sampling, self._save_every, self._apart = valid, sampling, save_every, apart
        self._listener = Listener()
        self._from: Checkpoint | None = None
        self._visited = 0  # steps whose end was seen
        self._begun = -1  # the step that is under way, and what was before it:
        self._generators, self._counted = Values(), 0
        super().__init__(
            compute_loss_func=loss_of_trained, callbacks=[self._clock, bar, *callbacks], **options
        )
        self.remove_callback(transformers.trainer_callback.PrinterCallback)

    def fit(self, checkpoint: Checkpoint | None = None) -> None:
        """Train, from a checkpoint if there is one; the bar is closed whatever happens."""
        if checkpoint:
            self._from = checkpoint
            self.notes = self._clock.notes = checkpoint.notes
            self._visited = checkpoint.step
        try:
            if self.notes.finished:
                assert checkpoint
                self._load_from_checkpoint("")
                self.state = transformers.TrainerState.load_from_json(str(checkpoint.place / TRAINER))
            else:
                with self._listener:
                    self.train(resume_from_checkpoint=str(checkpoint.place) if checkpoint else None)
        finally:
            self._bar.close()
            self._from = None

    def whole_model(self, start: Pretrained) -> Any:
        """The trained model, neither wrapped nor sharded, in the first process; every one must ask."""
        if not self.is_fsdp_enabled:
            return self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        weights = whole_weights(self.model)
        model: Any = start.load_model()
        model = with_adapter(model, self._settings.adapter, start)
        restore_weights(model, weights)
        return model

    # Batches and their loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        items: Any = self.train_dataset
        batches = Batches(
            items.lengths.tolist(),
            self.args.per_device_train_batch_size,
            accumulate=self.args.gradient_accumulation_steps,
            grouped=self._settings.order == "grouped",
            seed=self._settings.seed,
            rank=self.args.process_index,
            world=self.args.world_size,
        )
        self.add_callback(Epochs(batches))
        return DataLoader(items, batch_sampler=batches, collate_fn=self.data_collator)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        def rate(step: int) -> float:
            share = (step + 0.5) / num_training_steps  # its middle: no step has a rate of 0
            share = max(share, self._clock.share)
            return learning_rate(share, self._settings.warmup, self._settings.schedule)

        optimizer = optimizer or self.optimizer
        assert optimizer is not None
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        step = self.state.global_step
        if first := step != self._begun:
            self._begun, self._generators = step, generators()
            self._counted = self.notes.trained
            self.notes.trained += int(num_items_in_batch)  # of all batches of the step, in all processes
        if first or self.args.world_size == 1:
            self._obey()
        lines, labels = inputs.pop("lines"), inputs["labels"]
        if not (labels != IGNORED).any():
            raise TrainingError(f"no token of lines {lines} would be trained; remove these rows")
        self._bar.show(self.notes.trained, max((step + 1) / self.state.max_steps, self._clock.share))
        inputs["labels"] = following(labels)
        try:
            with only_trained(self.model, inputs["labels"]), self._attention(inputs):
                loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError as exc:
            self.model_wrapped.zero_grad()
            self._save_last_step()
            raise out_of_memory(step, labels) from exc
        if not torch.isfinite(loss):
            raise not_a_number(step, loss, self._get_learning_rate(), lines, self.state.log_history)
        return loss

    def _attention(self, inputs: Batch) -> AbstractContextManager[None]:
        if not self._apart:
            return nullcontext()
        return rows_apart(self.model, inputs["position_ids"].to(self.args.device))

    # What happens between steps

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        step = self.state.global_step
        self.control.should_evaluate = self.control.should_save = False
        if step > self._visited:  # it comes here once more at the end of an epoch
            self._visited = step
            due = step % self._evaluate_every() == 0
            self.control.should_evaluate = due and bool(self._valid or self._sampling)
            over = self.control.should_training_stop or step >= self.state.max_steps
            self.control.should_save = over or (due and bool(self._valid)) or step % self._save_every == 0
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _evaluate_every(self) -> int:
        return self._settings.evaluate_every or max(self.state.max_steps // EVALUATIONS, 1)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Note what the model makes of the validation rows, and what it says."""
        step = self.state.global_step
        if step in [entry["step"] for entry in self.notes.evaluations]:
            return {}
        if self._valid:
            rank, world = self.args.process_index, self.args.world_size
            if self.is_fsdp_enabled:  # a sharded model answers to all at once
                rank, world = 0, 1
            found = sums(self.model, self._valid, self.args.per_device_train_batch_size, rank, world)
            evaluation = Evaluation.of(found if world == 1 else self.accelerator.reduce(found))
            self.notes.evaluated(step, evaluation)
            self.log({"eval_loss": evaluation.loss, "eval_accuracy": evaluation.accuracy})
            if self._settings.patience and self.notes.waited >= self._settings.patience:
                self.control.should_training_stop = True
        if self._sampling and self.is_world_process_zero():
            samples = self._sampling(self.model, step)
            self.notes.sampled(samples)
            self._bar.samples(samples)
        return {}

    def _obey(self) -> None:
        """Leave, with everything saved, if a signal was heard in any process."""
        heard = torch.tensor(self._listener.heard or 0, device=self.args.device)
        number = int(self.accelerator.gather(heard).max())
        if number:
            self._save_last_step()
            name = signal.Signals(number).name
            raise Interrupted(
                f"{name}: stopped after step {self.state.global_step}, all of which is saved in "
                f"{self._checkpoints.folder.path}; go on with --resume",
                number,
            )

    # Checkpoints, in the places of transformers' own

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.notes.finished = (
            self.control.should_training_stop or self.state.global_step >= self.state.max_steps
        )
        self._checkpoints.save(self, self.notes, generators())

    def _save_last_step(self) -> None:
        """As of the end of the last step, though another has begun."""
        self.notes.trained = self._counted
        self._checkpoints.save(self, self.notes, self._generators)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        assert self._from
        restore_weights(model or self.model, self._from.tensors[WEIGHTS])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._from:
            restore_optimizer(self, self._from.tensors[OPTIMIZER], self._from.documents[STATE])

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Done with the optimizer."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._from:
            tensors, values = self._from.tensors[GENERATORS], self._from.documents[STATE]
            restore_generators(generators_of(self.args.process_index, tensors, values))
