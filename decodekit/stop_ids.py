"""
Stop ids: the tokens that end an answer.

Several files have a say and none is complete alone: the tokenizer names an end of text, the
generation configuration one or several ids, and the chat template the token that it puts
behind an assistant's turn. A model that was trained with any of them must stop at it, so what
counts is the union.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decodekit.tokenizer import Tokenizer


def named_ids(config: Mapping[str, Any], tokenizer: Tokenizer) -> set[int]:
    """What a configuration names: `eos_token_id`, one or several, and `eos_token`, as text.

    ValueError if an id is no int. A text that the tokenizer does not know names none.
    """
    eos = config.get("eos_token_id")
    ids = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if wrong := [id for id in ids if type(id) is not int]:
        raise ValueError(f"eos_token_id must be an int or a list of them, got {wrong[0]!r}")
    token = config.get("eos_token")
    if isinstance(token, dict):
        token = token.get("content")
    id = tokenizer.id(token) if isinstance(token, str) else None
    return {*ids} if id is None else {*ids, id}
