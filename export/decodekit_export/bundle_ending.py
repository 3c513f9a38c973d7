"""Does the exported model stop? Asked of the bundle as an application does, through onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import decodekit
from decodekit_export.data import Row
from decodekit_export.ending import Ending, count_endings


def bundle_ending(bundle: Path, rows: Sequence[Row], asked: int) -> Ending:
    """The greedy answers of the bundle to the prompts that `measure_ending` picks of `rows`."""
    with decodekit.load(bundle) as decoder:

        def answer(prompt: Sequence[int], room: int) -> str:
            return decoder.generate(prompt, max_new_tokens=room).finish_reason

        return count_endings(answer, decoder.model.context_length, rows, asked)
