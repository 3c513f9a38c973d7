"""
Keyed Gumbel noise: the draw, with noise that a key makes of the context.

Aaronson, "Watermarking of Large Language Models", talk at the Simons Institute, 2023, and
"My AI Safety Lecture for UT Effective Altruism", 2022. Repeated contexts: Dathathri et al.,
"Scalable watermarking for identifying large language model outputs", Nature 634, 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from decodekit import LogitsProcessor, Step, noise
from decodekit.drawing import sample
from decodekit.ops import Array, keep
from decodekit.parameters import Whole
from decodekit.processors import State
from decodekit_watermark.context import KEYS, MOST, contexts, is_repeated, secrets
from decodekit_watermark.evidence import Detection
from decodekit_watermark.tails import gamma_tail

PURPOSE = b"decodekit.gumbel"


@dataclass(frozen=True)
class GumbelWatermark(LogitsProcessor):
    """Mark a text: draw the token with noise that a key and the h tokens before determine; write it last.

    formula   keep argmax_i l(i) - ln(-ln u(key, context, i)): over all keys, a draw from softmax(l)
    boundary  only where the whole context lies in the answer and comes up the first time there; the
              other tokens are drawn as ever, so answers to one prompt differ and none runs in circles
    ties      the first column of equals, which 52-bit noise makes unlikely
    history   the last h tokens of the answer, and whether they stood there before; the prompt does not count
    neutral   none; it changes no probability, but leaves no choice to what comes behind it
    source    Aaronson, 2022 and 2023; the noise is that of decodekit's draw. Contexts that come again
              are left alone as in Dathathri et al., Nature 634, 2024
    """

    key: Annotated[int, Whole(KEYS, "secret; the detector needs it")]
    h: Annotated[int, Whole(f"[1, {MOST}]", "tokens of the context")] = 4

    def process(self, logits: Array, step: Step, state: State) -> Array:
        kept = np.ones(logits.shape, bool)
        for i, row in enumerate(step.rows):
            if len(row.generated) >= self.h and not is_repeated(row.generated, self.h):
                keys = secrets(self.key, [row.generated[-self.h :]], PURPOSE)
                column = sample(logits[i : i + 1], keys, step.ids[i : i + 1])[0]
                kept[i] = np.arange(logits.shape[-1]) == column
        return logits if kept.all() else keep(logits, kept)

    def detect(self, ids: Array) -> Detection:
        """What this mark left in the ids of a text, int [T]: -ln(1 - u) of its tokens adds up.

        Without the mark each is exponential with mean 1. Each context counts where it comes first.
        """
        before, tokens = contexts(ids, self.h), ids[self.h :, None]
        _, places = np.unique(before, axis=0, return_index=True)
        n = len(places)
        gumbel = noise.gumbel(secrets(self.key, before[places], PURPOSE), tokens[places])
        score = float(-np.log(-np.expm1(-np.exp(-gumbel))).sum())
        return Detection(
            tokens=n,
            score=score,
            expected=float(n),
            z=(score - n) / math.sqrt(n) if n else 0.0,
            p_value=gamma_tail(score, n),
        )
