"""
Comma- or tab-separated values, read strictly: a first row of names, then as many fields in every row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from decodekit_export.compressed import opened
from decodekit_export.faults import Problems
from decodekit_export.jsonl import MAX_LINE, lines


class CsvTable:
    """The rows of a file as names and texts, with the line numbers at which they begin."""

    def __init__(self, path: Path, problems: Problems, delimiter: str) -> None:
        self._path = path
        self._problems = problems
        self._delimiter = delimiter

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        csv.field_size_limit(MAX_LINE)
        with opened(self._path) as file:
            rows = self._rows(file)
            first, names = next(rows, (1, []))
            if twice := [name for name in names if names.count(name) > 1]:
                self._problems.stop(first, f"two columns are called {twice[0]!r}; rename one")
            for number, row in rows:
                if len(row) == len(names):
                    yield number, dict(zip(names, row, strict=True))
                else:
                    counts = f"{len(row)} fields where the first row has {len(names)}"
                    self._problems.add(number, f"{counts}; quote what holds a delimiter")

    def _rows(self, file: BinaryIO) -> Iterator[tuple[int, list[str]]]:
        # Bytes that are no UTF-8 become surrogates, so that the fault is told with its row.
        texts = (line.decode("utf-8", "surrogateescape") for line in lines(file, self._problems))
        reader = csv.reader(texts, delimiter=self._delimiter, strict=True)
        while True:
            number = reader.line_num + 1
            try:
                row = next(reader)
                "".join(row).encode()
            except StopIteration:
                return
            except csv.Error as exc:
                self._problems.add(number, f"not a row of values: {exc}; double the quotes inside a field")
            except UnicodeEncodeError:
                way_out = f"convert it, such as iconv -f LATIN1 -t UTF-8 {self._path.name}"
                self._problems.add(number, f"not UTF-8; {way_out}")
            else:
                if row:
                    yield number, row
