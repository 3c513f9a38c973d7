"""Does the exported model stop? Asked of the bundle as an application does, through onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import decodekit
from decodekit_export.data import Row
from decodekit_export.ending import Ending, longest, spread


def bundle_ending(bundle: Path, rows: Sequence[Row], asked: int) -> Ending:
    """The greedy answers of the bundle to the prompts that `measure_ending` picks of `rows`."""
    some = spread(rows, asked)
    within = longest(some)
    with decodekit.load(bundle) as decoder:
        ended = 0
        for row in some:
            asking = row.prompt
            room = min(within, decoder.model.context_length - len(asking))
            ended += decoder.generate(asking, max_new_tokens=room).finish_reason == "stop"
    return Ending(len(some), ended, within)
