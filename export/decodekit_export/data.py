"""
Training data: the examples of a file as rows of ids with their loss mask.

`decodekit.chat` renders an example, here and at prompting alike, so the mask comes from how a
row was built and never from looking for tokens in it. This module decides which rows are fit to
train on, and counts what it did. It knows no tensors and no model.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from decodekit.chat import Chat, Rendered
from decodekit.errors import ParameterError, PromptError, TemplateError, TokenizerError
from decodekit_export.examples import Fault, text_of
from decodekit_export.faults import DataError, Problems
from decodekit_export.rendering import rows_of
from decodekit_export.row_file import Row as Row
from decodekit_export.row_file import RowFile, StoredRows
from decodekit_export.shapes import Shaper
from decodekit_export.source import Source
from decodekit_export.window import fit

# As JSON spells them: all but tab and the ends of lines.
_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\(?:u00[01]|b|f)|\x7f")
SHOWN = 5  # lines that are named of those that something befell
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file of examples is read.

    max_length      tokens a row may have
    columns         field -> the key it stands under, where that has another name; see `shapes`
    limit           records to take from the start of the file, or None for all
    window          what becomes of a longer row: "error", "left_prompt" (the oldest tokens of its
                    prompt go, those of a completion never) or "drop" (the row goes, and is counted)
    allow_empty     whether a prompt or a completion may be empty; an empty completion trains the stop token
    refuse_special  whether the text of a special token in a record is a fault; else it stays text
    skip_bad        faulty records to pass over
    bad_folder      where NAME.bad.txt lists them, if there are any
    """

    max_length: int
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    window: str = "error"
    allow_empty: bool = False
    refuse_special: bool = False
    skip_bad: int = 0
    bad_folder: Path = Path()


@dataclass(slots=True)
class Counts:
    """What became of the records of a file."""

    records: int = 0
    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    truncated: int = 0
    dropped: int = 0
    bad: int = 0  # passed over
    repeated: int = 0  # all that was written is that of an earlier record
    with_control_characters: int = 0
    ignored_keys: tuple[str, ...] = ()
    first: dict[str, tuple[int, ...]] = field(default_factory=dict)  # lines of some truncated, dropped, ...


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows to train on, what they were counted as, and the digest of the file.

    digests  of the examples, sorted, uint64
    """

    rows: StoredRows
    counts: Counts
    sha256: str
    digests: np.ndarray[Any, np.dtype[np.uint64]] = field(repr=False)

    def overlap(self, other: Dataset) -> int:
        """How many examples are in both."""
        return len(np.intersect1d(self.digests, other.digests))


def load(path: Path, chat: Chat, reading: Reading) -> Dataset:
    """Every row of a file, rendered. Raises DataError with the first faulty lines."""
    (dataset,) = _load(path, chat, reading, [Part(path.name, 0, 1)])
    return dataset


def load_both(
    path: Path, valid: Path | None, chat: Chat, reading: Reading, seed: int = 0
) -> tuple[Dataset, Dataset | None]:
    """The rows to train on and those to measure on.

    valid  a file, or a share of `path`, such as "5%"; which examples go there depends on what
           they say and on the seed, so those that say the same stay together
    """
    if valid is None:
        return load(path, chat, reading), None
    if not (share := _SHARE.fullmatch(str(valid))):
        return load(path, chat, reading), load(valid, chat, reading)
    border = float(share[1]) / 100
    if not 0 < border < 1:
        raise ParameterError(f"valid must be a file or a share in (0%, 100%), got {valid}")
    parts = [Part(path.name, border, 1), Part(f"{valid} of {path.name}", 0, border)]
    train, held_out = _load(path, chat, reading, parts, seed)
    return train, held_out


@dataclass(frozen=True, slots=True)
class Part:
    """The examples whose place, a number in [0, 1), is in [begin, end)."""

    name: str
    begin: float
    end: float


class Building:
    """A dataset as it grows."""

    def __init__(self, file: RowFile) -> None:
        self.counts = Counts()
        self._file = file
        self._digests = array("Q")
        self._lines = array("q")

    def add(self, line: int, rendered: list[Rendered], reading: Reading, text: str) -> None:
        """Take the rows of an example. Raises Fault, and then takes none."""
        fitting = [fit(row, reading.max_length, reading.window) for row in rendered]
        counts = self.counts
        counts.records += 1
        counts.with_control_characters += bool(_CONTROL.search(text))
        self._digests.append(_digest(text))
        self._lines.append(line)
        for row, parts in zip(rendered, fitting, strict=True):
            if not parts:
                self._note("dropped", line)
            elif len(parts[0].ids) < len(row.ids):
                self._note("truncated", line)
            for part in parts:
                counts.rows += 1
                counts.tokens += len(part.ids)
                counts.trained_tokens += sum(part.mask)
                self._file.append(Row(line, part.ids, part.mask))

    def _note(self, what: str, line: int) -> None:
        setattr(self.counts, what, getattr(self.counts, what) + 1)
        if len(lines := self.counts.first.get(what, ())) < SHOWN:
            self.counts.first[what] = (*lines, line)

    def finished(self, name: str, source: Source, bad: int, ignored: set[str]) -> Dataset:
        counts = self.counts
        if not counts.rows:
            why = "a row is one JSON object on one line, or one row of a table"
            if counts.dropped:
                why = f"{counts.dropped} {'was' if counts.dropped == 1 else 'were'} dropped"
            elif bad:
                why = f"{bad} records are bad"
            raise DataError([f"{name}: no row, nothing to train on; {why}"])
        digests, at = np.unique(np.frombuffer(self._digests, np.uint64), return_index=True)
        again = np.delete(np.frombuffer(self._lines, np.int64), at)
        counts.repeated = len(again)
        if len(again):
            counts.first["repeated"] = tuple(again[:SHOWN].tolist())
        counts.bad, counts.ignored_keys = bad, tuple(sorted(ignored))
        return Dataset(self._file.rows(), counts, source.sha256, digests)


def _load(path: Path, chat: Chat, reading: Reading, parts: list[Part], seed: int = 0) -> list[Dataset]:
    """The examples of a file, divided among the parts."""
    listing = reading.bad_folder / f"{path.name}.bad.txt"
    shaper = Shaper(reading.columns)
    ignored: set[str] = set()
    with ExitStack() as stack:
        problems = stack.enter_context(Problems(path.name, reading.skip_bad, listing))
        building = [(part, Building(stack.enter_context(RowFile()))) for part in parts]
        source = Source(path, problems)
        for line, record in islice(source, reading.limit):
            try:
                example = shaper(record)
                rendered = rows_of(
                    example,
                    chat,
                    allow_empty=reading.allow_empty,
                    refuse_special=reading.refuse_special,
                )
                text = text_of(example)
                place = _place(text, seed)
                into = next(into for part, into in building if part.begin <= place < part.end)
                into.add(line, rendered, reading, text)
            except RecursionError:
                problems.add(line, "nested too deeply")
            except (Fault, PromptError, TemplateError, TokenizerError) as exc:
                problems.add(line, str(exc))
            else:
                ignored |= record.keys() - shaper.used
        problems.close()
        source.check_unchanged()
        datasets = [into.finished(part.name, source, problems.count, ignored) for part, into in building]
    for other in datasets[1:]:
        other.counts.bad = 0  # they are of the file, and told with its first part
    return datasets


def _digest(text: str) -> int:
    """64 bits that stand for an example; of a hundred million, two share them by one chance in 4,000."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _place(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on the text and the seed alone."""
    drawn = hashlib.blake2b(text.encode(), digest_size=6, key=seed.to_bytes(8)).digest()
    return int.from_bytes(drawn) / 2**48
