"""
Rows on disk: what was read, as ids and mask, in files without a name that end with the process.

In memory are 16 bytes a row, whatever the rows hold. A file that no other process can open is never
half-written for one, and nothing is left behind by a run that was killed or found the disk full.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from decodekit_export.faults import DataError

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens as the model sees them: `mask[i]` says whether `ids[i]` is trained.

    line  of the file, from 1; a line may make several rows
    """

    line: int
    ids: tuple[int, ...]
    mask: tuple[bool, ...]

    @property
    def prompt(self) -> tuple[int, ...]:
        """The ids before the first that is trained."""
        return self.ids[: self.mask.index(True)]


class RowFile:
    """Rows being written. A context; what it gave by `rows` outlives it."""

    def __init__(self) -> None:
        self._ends = array("q")
        self._lines = array("q")
        self._end = 0

    def __enter__(self) -> RowFile:
        with ExitStack() as stack:
            self._ids = stack.enter_context(tempfile.TemporaryFile())
            self._mask = stack.enter_context(tempfile.TemporaryFile())
            self._files = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            self._files.close()
        except OSError:  # what was not written is told by whoever wrote or asks for the rows
            if kind is None:
                raise

    def append(self, row: Row) -> None:
        """DataError if the disk is full."""
        try:
            self._ids.write(np.array(row.ids, np.uint32).tobytes())
            self._mask.write(bytes(row.mask))
        except OSError as exc:
            raise _full(exc) from exc
        self._end += len(row.ids)
        self._ends.append(self._end)
        self._lines.append(row.line)

    def rows(self) -> StoredRows:
        """All that was appended, at least one row."""
        try:
            self._ids.flush()
            self._mask.flush()
        except OSError as exc:
            raise _full(exc) from exc
        return StoredRows(
            np.memmap(self._ids, np.uint32, "r"),
            np.memmap(self._mask, np.bool_, "r"),
            np.frombuffer(self._ends, np.int64),
            np.frombuffer(self._lines, np.int64),
        )


class StoredRows(Sequence[Row]):
    """Rows that are read from disk when asked for."""

    def __init__(self, ids: Any, mask: Any, ends: Any, lines: Any) -> None:
        self._ids, self._mask, self._ends, self._lines = ids, mask, ends, lines

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        place = slice(int(self._ends[at - 1]) if at else 0, int(self._ends[at]))
        return Row(int(self._lines[at]), tuple(self._ids[place].tolist()), tuple(self._mask[place].tolist()))

    def at(self, line: int) -> int:
        """Where the first row of a line is. DataError if it has none."""
        places = np.flatnonzero(self._lines == line)
        if not len(places):
            raise DataError([f"line {line}: no row of it is trained; name another"])
        return int(places[0])

    @property
    def lengths(self) -> Ints:
        """Tokens of each row, int64 [rows]."""
        lengths: Ints = np.diff(self._ends, prepend=0)
        return lengths


def lengths_of(rows: Sequence[Row]) -> Ints:
    """Tokens of each row, int64 [rows]; of stored ones without reading them."""
    if isinstance(rows, StoredRows):
        return rows.lengths
    return np.array([len(row.ids) for row in rows], np.int64)


def _full(exc: OSError) -> DataError:
    where = Path(tempfile.gettempdir())
    return DataError(
        [f"{where}: no room for the tokens ({exc.strerror or exc}); name a larger place by TMPDIR"]
    )
