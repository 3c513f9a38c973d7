"""How many tokens a graph of a model may be asked to look at."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from decodekit_export.errors import ExportError


def context_length(model: PreTrainedModel) -> int:
    """Prompt and answer together, tokens.

    Rope type longrope changes its frequencies beyond the length it was first trained for, which
    a graph cannot: such a model gets that length.
    """
    longest = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(longest, int):
        raise ExportError(f"{type(model).__name__}: config.json has no max_position_embeddings; add it")
    rope: dict[str, Any] = (
        getattr(model.config, "rope_parameters", None) or getattr(model.config, "rope_scaling", None) or {}
    )
    original = getattr(model.config, "original_max_position_embeddings", None)
    original = rope.get("original_max_position_embeddings", original)
    if rope.get("rope_type", rope.get("type")) == "longrope" and original is not None:
        return min(int(original), longest)
    return longest
