"""The result of a run on disk: a checkpoint as transformers reads it, an adapter as peft does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers

from decodekit_export import adapter as adapters
from decodekit_export.pretrained import Pretrained
from decodekit_export.progress import without_bars


def save_result(model: Any, start: Pretrained, folder: Path, *, merge: bool) -> None:
    """Write what was trained: a checkpoint; of an adapter, it merged and by itself, or it only."""
    if not hasattr(model, "merge_and_unload"):
        save(model, start, folder)
        return
    place = folder / adapters.FOLDER if merge else folder
    adapters.save_adapter(model, place)
    if merge:
        save(adapters.merge(model), start, folder)
    else:
        start.save_tokenizer(folder)


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
