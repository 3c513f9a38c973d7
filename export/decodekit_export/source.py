"""
Where rows come from: a file or folder of one of the known kinds, unchanged from first to last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from decodekit_export.arrow import SPLITS, STATE, ArrowFolder, Parquet
from decodekit_export.csv_table import CsvTable
from decodekit_export.faults import DataError, Problems
from decodekit_export.jsonl import JsonLines

DELIMITERS = {".csv": ",", ".tsv": "\t"}


class Source:
    """The records of a file or folder, each with its line or number.

    sha256  hex digest of the whole file, or of all files that hold the rows of a folder
    """

    def __init__(self, path: Path, problems: Problems) -> None:
        self._path = path
        self._records = _reader(path, problems)
        self._files = self._records.files if isinstance(self._records, ArrowFolder) else [path]
        self._state = self._now()
        self.sha256 = _digest(self._files)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from self._records

    def check_unchanged(self) -> None:
        """Refuse rows of a file that was written to while it was read."""
        if self._now() != self._state:
            raise DataError([f"{self._path}: changed while it was read; wait until it is written"])

    def _now(self) -> list[tuple[int, int, int]]:
        try:
            return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in map(Path.stat, self._files)]
        except OSError as exc:
            raise _unreadable(self._path, exc) from exc


def _reader(path: Path, problems: Problems) -> Iterable[tuple[int, dict[str, Any]]]:
    if path.is_dir():
        if not any((path / name).is_file() for name in (STATE, SPLITS)):
            raise DataError(
                [f"{path}: a folder, and none that Dataset.save_to_disk wrote; name a file in it"]
            )
        return ArrowFolder(path)
    if path.exists() and not path.is_file():
        raise DataError([f"{path}: no regular file; it is read twice, write the rows to one"])
    kind = Path(path.name.removesuffix(".gz")).suffix
    if kind in DELIMITERS:
        return CsvTable(path, problems, DELIMITERS[kind])
    return Parquet(path) if kind == ".parquet" else JsonLines(path, problems)


def _digest(files: list[Path]) -> str:
    """Of one file its own; of several that of their digests."""
    digests = []
    for path in files:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as exc:
            raise _unreadable(path, exc) from exc
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _unreadable(path: Path, exc: OSError) -> DataError:
    return DataError([f"{path}: cannot be read ({exc.strerror or exc}); check the path"])
