"""
A check of training data: what a run would train on, before there is one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from decodekit_export.checks import read_rows
from decodekit_export.data import Counts, Dataset, Row
from decodekit_export.data_options import reading_of
from decodekit_export.pretrained import Pretrained
from decodekit_export.progress import spell
from decodekit_export.settings import Settings


@dataclass(frozen=True, slots=True)
class Bin:
    """Of a histogram: `rows` rows have `begin` to `end` tokens, both counted."""

    begin: int
    end: int
    rows: int


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of training, or those held out.

    lengths  tokens of a row: least, median, 95th of a hundred, most
    """

    name: str
    sha256: str
    counts: Counts
    trained_share: float
    lengths: tuple[int, int, int, int]
    histogram: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """What a run on these files would see.

    overlap  examples that are in both parts
    example  one row as the model sees it, trained tokens between ⟦ and ⟧
    """

    window: int
    stop_tokens: tuple[str, ...]
    train: Part
    valid: Part | None
    overlap: int
    example_line: int
    example: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(path: Path, start: Pretrained, settings: Settings, line: int | None = None) -> tuple[Check, Row]:
    """Read everything as a run would; the row is the example. DataError names what is faulty.

    line  of the example; None for the first that is trained
    """
    train, valid = read_rows(path, start, settings)
    row = train.rows[train.rows.at(line)] if line else train.rows[0]
    return Check(
        window=reading_of(settings, start.context_length).max_length,
        stop_tokens=tuple(start.tokenizer.token(id) or "" for id in start.stop_ids),
        train=_part(path.name, train),
        valid=_part(settings.valid.name, valid) if valid and settings.valid else None,
        overlap=train.overlap(valid) if valid else 0,
        example_line=row.line,
        example=spell(row, start.tokenizer),
    ), row


def _part(name: str, data: Dataset) -> Part:
    lengths = data.rows.lengths
    powers = range(4, max(int(lengths.max() - 1).bit_length(), 4) + 1)
    edges = [0, *(2**k for k in powers)]
    rows, _ = np.histogram(lengths, [edge + 0.5 for edge in edges])
    places = np.percentile(lengths, [0, 50, 95, 100], method="nearest").astype(int).tolist()
    least, median, most_of, most = places
    return Part(
        name=name,
        sha256=data.sha256,
        counts=data.counts,
        trained_share=round(data.counts.trained_tokens / data.counts.tokens, 4),
        lengths=(least, median, most_of, most),
        histogram=tuple(Bin(a + 1, b, int(n)) for a, b, n in zip(edges, edges[1:], rows)),
    )
