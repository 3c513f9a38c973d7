"""
Fine-tuning: pairs in, a checkpoint out, with the loss on the completions alone.

The order is that of the costs: settings, then files, then rows, then the model, so that a mistake is
told before anything slow begins. The target folder appears at the end, whole; until then, what was
done is in the folder beside it, from which an interrupted run goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from decodekit.errors import ParameterError
from decodekit_export import adapter as adapters
from decodekit_export.began import began
from decodekit_export.checkpoints import Checkpoint, Checkpoints
from decodekit_export.checks import check_target, check_weights, read_rows
from decodekit_export.collate import Collate, CollatePacked, Items
from decodekit_export.data import Dataset, Row
from decodekit_export.ending import measure_ending
from decodekit_export.packing import Packed, attends_apart
from decodekit_export.plot import can_plot, plot
from decodekit_export.pretrained import Pretrained, open_pretrained
from decodekit_export.progress import Display, spell
from decodekit_export.record import Report, thinned
from decodekit_export.result import save_result
from decodekit_export.run_folder import RunFolder
from decodekit_export.samples import Sampling
from decodekit_export.settings import Saving, Settings, Watching
from decodekit_export.tensorboard import TensorBoard
from decodekit_export.torch_model import TorchModel
from decodekit_export.trainer import CompletionTrainer
from decodekit_export.training_arguments import processes, rank, training_arguments
from decodekit_export.training_state import WEIGHTS, restore_weights


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before the model is loaded."""

    data: Path
    start: Pretrained
    train: Dataset
    valid: Dataset | None
    began: dict[str, Any]

    @property
    def asked(self) -> Sequence[Row]:
        """Rows whose prompts the model is asked."""
        return (self.valid or self.train).rows


def finetune(
    base: Path,
    data: Path,
    out: Path,
    settings: Settings,
    *,
    saving: Saving | None = None,
    watching: Watching | None = None,
    display: Display | None = None,
) -> Report | None:
    """Train the checkpoint in `base` on the pairs of the file `data`, and save the result as `out`.

    out  a folder that does not exist, or is empty

    Where several processes share the run, only the first gives a report; the others give None.
    """
    display = display or Display(quiet=rank() > 0)
    check_target(out)
    prepared = prepare(base, data, settings, display)
    return train(prepared, out, settings, saving or Saving(), watching or Watching(), display)


def train(
    prepared: Prepared, out: Path, settings: Settings, saving: Saving, watching: Watching, display: Display
) -> Report | None:
    """Train what is prepared; see `finetune`."""
    out = out.absolute()
    folder = RunFolder(out)
    with folder if rank() == 0 else contextlib.nullcontext():
        checkpoints = Checkpoints(folder, prepared.began, saving.keep)
        checkpoint = _to_go_on_from(checkpoints, saving, display)
        trainer = _trainer(prepared, settings, saving, watching, checkpoints, display)
        trainer.fit(checkpoint)
        chosen = _choose(trainer, checkpoints, settings)
        model = trainer.whole_model(prepared.start)
        if rank() > 0:
            return None
        check_weights(model)
        with folder.result(out) as draft:
            report = _report(prepared, trainer, model, chosen, watching)
            save_result(model, prepared.start, draft, merge=saving.merge)
            report.save(draft)
            if can_plot() and report.losses:
                curve = [(entry["step"], entry["loss"]) for entry in report.evaluations]
                plot(draft, report.losses, curve, best=chosen if curve else None)
    return report


def prepare(base: Path, data: Path, settings: Settings, display: Display) -> Prepared:
    """Read and check everything but the weights, and show it."""
    if settings.adapter:
        adapters.check_installed()
    start = open_pretrained(base)
    train, valid = read_rows(data, start, settings)
    if len(train.rows) < processes():
        raise ParameterError(f"finetune: {len(train.rows)} rows are not enough for {processes()} processes")
    display.example(train.rows[0], start.tokenizer, data.name)
    display.counts(data.name, train.counts)
    if valid and settings.valid:
        display.counts(settings.valid.name, valid.counts)
        if shared := train.overlap(valid):
            display.note(f"{shared:,} pairs are in both files, so the loss on {settings.valid.name} flatters")
    known = began(settings, start.checkpoint, train, valid, processes=processes())
    return Prepared(data, start, train, valid, known)


def _to_go_on_from(checkpoints: Checkpoints, saving: Saving, display: Display) -> Checkpoint | None:
    steps = checkpoints.folder.steps()
    if steps and not saving.resume:
        raise ParameterError(
            f"finetune: {checkpoints.folder.path} holds a run that stopped after step {steps[-1]}; go on "
            "with --resume, or remove that folder to begin anew"
        )
    if not saving.resume:
        return None
    checkpoint = checkpoints.newest(force=saving.force)
    where = f"goes on after step {checkpoint.step:,}" if checkpoint else "there is no checkpoint yet: begins"
    display.note(f"{checkpoints.folder.path}: {where}")
    return checkpoint


def _trainer(
    prepared: Prepared,
    settings: Settings,
    saving: Saving,
    watching: Watching,
    checkpoints: Checkpoints,
    display: Display,
) -> CompletionTrainer:
    start = prepared.start
    model: Any = start.load_model()
    transformers.set_seed(settings.seed)  # an adapter begins with chance
    model = adapters.with_adapter(model, settings.adapter, start)
    rows = prepared.train.rows
    items: Any = Items(rows)
    collate: type[Collate | CollatePacked] = Collate
    apart = False
    if settings.pack:
        apart = attends_apart(model, settings.pack)
        items, collate = Packed(rows, settings.pack, settings.seed), CollatePacked
    watched = watching.samples and rank() == 0
    return CompletionTrainer(
        settings,
        checkpoints,
        display.bar(),
        valid=prepared.valid.rows if prepared.valid else (),
        sampling=Sampling(prepared.asked, start, watching) if watched else None,
        save_every=saving.every,
        apart=apart,
        callbacks=[TensorBoard(watching.tensorboard)] if watching.tensorboard and rank() == 0 else [],
        model=model,
        args=training_arguments(settings, str(checkpoints.folder.path)),
        train_dataset=items,
        data_collator=collate(min(start.stop_ids)),
    )


def _choose(trainer: CompletionTrainer, checkpoints: Checkpoints, settings: Settings) -> int:
    """The step whose weights the trainer now holds: the best on the validation file, or the last."""
    best, last = trainer.notes.best_step, trainer.state.global_step
    if settings.choose == "last" or best in (None, 0, last):
        return last
    assert best is not None
    restore_weights(trainer.model, Checkpoint(checkpoints.folder, best).tensors[WEIGHTS])
    return best


def _report(
    prepared: Prepared, trainer: CompletionTrainer, model: Any, chosen: int, watching: Watching
) -> Report:
    start, notes = prepared.start, trainer.notes
    losses = {entry["step"]: entry["loss"] for entry in notes.evaluations}
    seconds, epochs = max(notes.seconds, 1e-9), trainer.state.epoch or 0.0
    asked = TorchModel(model, start.context_length)
    return Report(
        base=str(start.checkpoint.path),
        data=str(prepared.data),
        began=prepared.began,
        counts=prepared.train.counts,
        example=spell(prepared.train.rows[0], start.tokenizer),
        stop_ids=start.stop_ids,
        parameters=model.num_parameters(),
        trained_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        steps=trainer.state.global_step,
        epochs=round(epochs, 3),
        seconds=round(notes.seconds, 1),
        trained_tokens=notes.trained,
        tokens_per_second=round(prepared.train.counts.tokens * epochs / seconds),
        trained_tokens_per_second=round(notes.trained / seconds),
        losses=thinned(trainer.state.log_history),
        evaluations=notes.evaluations,
        valid_before=losses.get(0),
        valid_after=losses.get(chosen),
        valid_accuracy={e["step"]: e["accuracy"] for e in notes.evaluations}.get(chosen),
        chosen_step=chosen,
        samples=notes.samples,
        resumed=notes.resumed,
        forced=notes.forced,
        ending=measure_ending(asked, prepared.asked, start.stop_ids, watching.endings),
    )
