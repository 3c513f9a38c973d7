"""What is refused: before a run, rows and places that cannot be right; after it, broken weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from decodekit.errors import NumericalError, ParameterError
from decodekit_export.data import Dataset, Row, load_both
from decodekit_export.data_options import reading_of
from decodekit_export.faults import DataError
from decodekit_export.pretrained import Pretrained
from decodekit_export.settings import Settings


def check_target(out: Path) -> None:
    """Refuse a folder that holds something."""
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise ParameterError(f"finetune: {out} exists and is not an empty folder; choose another --out")


def read_rows(path: Path, start: Pretrained, settings: Settings) -> tuple[Dataset, Dataset | None]:
    """The rows of training and those held out, read and checked."""
    reading = reading_of(settings, start.context_length)
    train, valid = load_both(path, settings.valid, start.chat, reading, settings.seed)
    for part in filter(None, (train, valid)):
        check_rows(part.rows, start)
    return train, valid


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
