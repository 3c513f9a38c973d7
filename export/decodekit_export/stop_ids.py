"""
Stop ids: every token that ends an answer of a checkpoint.

Three files have a say and none is complete alone: the tokenizer names an end of text, the
generation configuration one or several ids, and the chat template the token that it puts
behind an assistant's turn. A model that was trained with any of them must stop at it, so
what counts is the union.
"""

from __future__ import annotations

import warnings
from typing import Any

from decodekit.chat import Chat
from decodekit.errors import TemplateError
from decodekit_export.checkpoint import Checkpoint
from decodekit_export.errors import CheckpointError


def stop_ids(checkpoint: Checkpoint, vocabulary: int, *, allow_no_eos: bool = False) -> list[int]:
    """The union, sorted; empty only if `allow_no_eos`.

    vocabulary  ids are in [0, vocabulary)
    """
    found = {*_tokenizer_eos(checkpoint), *_generation_eos(checkpoint), *_template_end(checkpoint)}
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


def _tokenizer_eos(checkpoint: Checkpoint) -> list[int]:
    token: Any = checkpoint.json("tokenizer_config.json").get("eos_token")
    token = token or checkpoint.json("special_tokens_map.json").get("eos_token")
    if isinstance(token, dict):
        token = token.get("content")
    id = checkpoint.tokenizer.id(token) if isinstance(token, str) else None
    return [] if id is None else [id]


def _generation_eos(checkpoint: Checkpoint) -> list[int]:
    """Without a generation configuration the model's own counts, as in transformers."""
    generation = checkpoint.json("generation_config.json") or checkpoint.config
    eos = generation.get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if wrong := [i for i in ids if not isinstance(i, int) or isinstance(i, bool)]:
        raise CheckpointError(
            f"{checkpoint.path}: eos_token_id must be an int or a list of them, got {wrong[0]!r}"
        )
    return ids


def _template_end(checkpoint: Checkpoint) -> tuple[int, ...]:
    try:
        return Chat(checkpoint.tokenizer, checkpoint.chat_template, stop_id=None).end
    except TemplateError as exc:
        warnings.warn(f"{checkpoint.path}: no end of turn read off the chat template: {exc}", stacklevel=2)
        return ()
