"""
Fine-tuning: pairs in, a checkpoint out, with the loss on the completions alone.

The order is that of the costs: settings, then files, then rows, then the model, so that a
mistake is told before anything slow begins. The target folder appears at the end, whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import transformers

from decodekit.errors import NumericalError, ParameterError
from decodekit_export.collate import Collate, as_items
from decodekit_export.data import Counts, Dataset, Row, load_both
from decodekit_export.data_options import reading_of
from decodekit_export.ending import Ending, measure_ending
from decodekit_export.faults import DataError
from decodekit_export.pretrained import Pretrained, open_pretrained
from decodekit_export.progress import Bar, Display, spell, without_bars
from decodekit_export.settings import Settings
from decodekit_export.trainer import CompletionTrainer, mean_loss
from decodekit_export.whole import whole_or_absent

RECORD = "run.json"
POINTS = 200  # of the loss curve, at most, in the record


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did; `run.json` in the folder it made.

    example       the first row as the model saw it, trained tokens between ⟦ and ⟧
    losses        (step, nats per trained token), thinned evenly
    valid_before  nats per trained token of the validation file, or None
    """

    base: str
    data: str
    data_sha256: str
    settings: dict[str, Any]
    counts: Counts
    example: str
    stop_ids: tuple[int, ...]
    parameters: int
    steps: int
    epochs: float
    seconds: float
    tokens_per_second: int
    losses: tuple[tuple[int, float], ...]
    valid_before: float | None
    valid_after: float | None
    ending: Ending
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def finetune(
    base: Path, data: Path, out: Path, settings: Settings, *, display: Display | None = None
) -> Report:
    """Train the checkpoint in `base` on the pairs of the file `data`, and save the result as `out`.

    out  a folder that does not exist, or is empty
    """
    display = display or Display()
    out = out.absolute()
    check_target(out)
    start = open_pretrained(base)
    reading = reading_of(settings, start.context_length)
    train, valid = load_both(data, settings.valid, start.chat, reading, settings.seed)

    check_rows(train.rows, start)
    display.example(train.rows[0], start.tokenizer, data.name)
    display.counts(data.name, train.counts)
    if valid and settings.valid:
        display.counts(settings.valid.name, valid.counts)
        if shared := train.overlap(valid):
            display.note(f"{shared:,} pairs are in both files, so the loss on {settings.valid.name} flatters")

    with whole_or_absent(out) as draft:
        model = start.load_model()
        trainer = _trainer(model, train, settings, draft, display.bar(), pad_id=min(start.stop_ids))
        before = mean_loss(model, valid.rows, settings.batch_size) if valid else None
        trainer.fit()
        after = mean_loss(model, valid.rows, settings.batch_size) if valid else None
        check_weights(model)
        report = Report(
            base=str(base),
            data=str(data),
            data_sha256=train.sha256,
            settings=asdict(settings) | {"valid": settings.valid and str(settings.valid)},
            counts=train.counts,
            example=spell(train.rows[0], start.tokenizer),
            stop_ids=start.stop_ids,
            parameters=model.num_parameters(),
            steps=trainer.state.global_step,
            epochs=round(trainer.state.epoch or 0.0, 3),
            seconds=round(trainer.clock.seconds, 1),
            tokens_per_second=round(trainer.tokens / max(trainer.clock.seconds, 1e-9)),
            losses=_thinned(trainer.state.log_history),
            valid_before=before,
            valid_after=after,
            ending=measure_ending(model, (valid or train).rows, start.stop_ids, start.context_length),
            versions=_versions(),
        )
        save(model, start, draft)
        record = json.dumps(report.to_json(), indent=1, ensure_ascii=False)
        (draft / RECORD).write_text(record + "\n", encoding="utf-8")
    return report


def check_target(out: Path) -> None:
    """Refuse a folder that holds something."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ParameterError(f"finetune: {out} exists and is not an empty folder; choose another --out")


def check_rows(rows: Sequence[Row], start: Pretrained) -> None:
    """Refuse rows from which a model cannot learn to stop, or that begin with the begin token twice."""
    stops = ", ".join(repr(start.tokenizer.token(i)) for i in start.stop_ids) or "none"
    for row in rows:
        if row.ids[-1] not in start.stop_ids or not row.mask[-1]:
            last = start.tokenizer.token(row.ids[-1])
            raise DataError(
                [
                    f"line {row.line}: the last trained token is {last!r} and no stop token of the model "
                    f"({stops}), so it would not learn to stop; name it in generation_config.json"
                ]
            )
        if row.ids[0] == row.ids[1] and row.ids[0] in start.tokenizer.special_ids:
            token = start.tokenizer.token(row.ids[0])
            raise DataError([f"line {row.line}: the row begins with {token!r} twice; mend the chat template"])


def check_weights(model: Any) -> None:
    """Refuse to save a model that has a weight which is no number."""
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise NumericalError(f"{name}: a weight is not finite after training; lower the learning rate")


def save(model: Any, start: Pretrained, folder: Path) -> None:
    """Write a checkpoint: weights, configurations with every stop token, tokenizer, template."""
    model.config.use_cache = True  # the trainer switches it off
    model.generation_config = transformers.GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=model.generation_config.bos_token_id,
        pad_token_id=model.generation_config.pad_token_id,
        eos_token_id=list(start.stop_ids),
    )
    with without_bars():
        model.save_pretrained(folder)
    start.save_tokenizer(folder)


def _trainer(
    model: Any, train: Dataset, settings: Settings, folder: Path, bar: Bar, *, pad_id: int
) -> CompletionTrainer:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        train_sampling_strategy={"grouped": "group_by_length", "shuffled": "random"}[settings.order],
        seed=settings.seed,
        use_cpu=True,
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    items: Any = as_items(train.rows)
    return CompletionTrainer(
        settings, bar, model=model, args=arguments, train_dataset=items, data_collator=Collate(pad_id)
    )


def _thinned(history: Sequence[dict[str, Any]]) -> tuple[tuple[int, float], ...]:
    points = [(entry["step"], round(entry["loss"], 7)) for entry in history if "loss" in entry]
    every = -(-len(points) // POINTS) or 1
    return tuple(points[every - 1 :: every])


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("decodekit", "torch", "transformers", "tokenizers")}
