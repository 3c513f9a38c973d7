"""
Does the tuned model stop? The question that a loss does not answer, asked of the model itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from decodekit_export.data import Row

ASKED = 16  # prompts, spread over the rows
LONGEST = 256  # tokens of an answer, at most


@dataclass(frozen=True, slots=True)
class Ending:
    """Of `asked` greedy answers, `ended` came to a stop token within `within` tokens."""

    asked: int
    ended: int
    within: int


@torch.no_grad()
def measure_ending(model: Any, rows: Sequence[Row], stop_ids: Sequence[int], context: int) -> Ending:
    """Answer some prompts of `rows` greedily, each with room for the longest completion among them."""
    model.eval()
    some = rows[:: max(len(rows) // ASKED, 1)][:ASKED]
    within = min(max(sum(row.mask) for row in some), LONGEST)
    ended = 0
    for row in some:
        prompt = torch.tensor([row.prompt])
        room = min(within, context - prompt.shape[1])
        answer = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=room,
            eos_token_id=list(stop_ids),
            pad_token_id=stop_ids[0],
            use_cache=True,
        )
        ended += int(answer[0, -1]) in stop_ids
    return Ending(len(some), ended, within)
