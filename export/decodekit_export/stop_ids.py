"""
Stop ids: every token that ends an answer of a checkpoint.

What each file names is read as decodekit reads it in any folder; the union counts.
"""

from __future__ import annotations

import warnings

from decodekit.chat import Chat
from decodekit.errors import TemplateError
from decodekit.stop_ids import named_ids
from decodekit_export.checkpoint import Checkpoint
from decodekit_export.errors import CheckpointError


def stop_ids(checkpoint: Checkpoint, vocabulary: int, *, allow_no_eos: bool = False) -> list[int]:
    """The union, sorted; empty only if `allow_no_eos`.

    vocabulary  ids are in [0, vocabulary)
    """
    found = _named(checkpoint) | {*_template_end(checkpoint)}
    if outside := sorted(i for i in found if not 0 <= i < vocabulary):
        raise CheckpointError(
            f"{checkpoint.path}: stop id {outside[0]} is outside the vocabulary of {vocabulary}"
        )
    if not found and not allow_no_eos:
        raise CheckpointError(
            f"{checkpoint.path}: tokenizer, generation configuration and chat template name no token that "
            "ends a text; set eos_token_id in generation_config.json, or pass --allow-no-eos"
        )
    return sorted(found)


def _named(checkpoint: Checkpoint) -> set[int]:
    """Without a generation configuration the model's own counts, as in transformers."""
    generation = checkpoint.json("generation_config.json") or checkpoint.config
    texts = [checkpoint.json(name) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    try:
        return set().union(*(named_ids(config, checkpoint.tokenizer) for config in (generation, *texts)))
    except ValueError as exc:
        raise CheckpointError(f"{checkpoint.path}: {exc}") from exc


def _template_end(checkpoint: Checkpoint) -> tuple[int, ...]:
    try:
        return Chat(checkpoint.tokenizer, checkpoint.chat_template, stop_id=None).end
    except TemplateError as exc:
        warnings.warn(f"{checkpoint.path}: no end of turn read off the chat template: {exc}", stacklevel=2)
        return ()
