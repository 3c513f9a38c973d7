"""Detection: look for a mark in a text or its ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from decodekit.errors import ParameterError
from decodekit.parameters import token_ids
from decodekit.tokenizer import Tokenizer
from decodekit_watermark.evidence import Detection
from decodekit_watermark.gumbel import GumbelWatermark
from decodekit_watermark.kgw import Kgw


def detect(
    answer: str | Sequence[int], mark: Kgw | GumbelWatermark, tokenizer: Tokenizer | None = None
) -> Detection:
    """What a mark, with its key, left in an answer; see `Detection`.

    answer     its token ids, without end tokens; or its text
    mark       as it was in the chain
    tokenizer  of the model, for a text. Tokens of a text may differ from those that were drawn,
               which weakens the evidence and never makes any
    """
    if isinstance(answer, str):
        if tokenizer is None:
            raise ParameterError("detect: answer is a text; give the model's tokenizer too, or token ids")
        answer = tokenizer.encode_plain(answer)
    token_ids("detect: answer", answer)
    return mark.detect(np.asarray(answer, np.int64))
