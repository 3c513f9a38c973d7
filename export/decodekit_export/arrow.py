"""
Tables of Apache Arrow: Parquet files, and the folders that Hugging Face's datasets are saved as.

Read with pyarrow, a piece at a time. Nothing of a folder is executed: its state.json names the files
of records, and nothing else in it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from decodekit import strict_json
from decodekit_export.errors import first_line
from decodekit_export.faults import DataError

_DAMAGED = (OSError, ValueError, OverflowError, MemoryError)  # what Python makes of damaged values
PIECE = 256  # rows in memory at a time
STATE = "state.json"
SPLITS = "dataset_dict.json"


class Parquet:
    """The rows of a Parquet file, numbered from 1."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        pyarrow = _pyarrow(self._path)
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(self._path) as file:
                yield from _numbered(file.iter_batches(PIECE))
        except (pyarrow.ArrowException, *_DAMAGED) as exc:
            raise _unreadable(self._path, exc) from exc


class ArrowFolder:
    """The rows of a folder as `Dataset.save_to_disk` writes it, numbered from 1."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def files(self) -> list[Path]:
        """The files that hold the rows, in order."""
        if (self._path / SPLITS).is_file():
            splits = ", ".join(sorted(p.name for p in self._path.iterdir() if p.is_dir()))
            raise DataError(
                [f"{self._path}: a folder of splits ({splits}); name one, as {self._path.name}/train"]
            )
        try:
            state = strict_json.loads((self._path / STATE).read_text(encoding="utf-8"))
            names = [entry["filename"] for entry in state["_data_files"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
            raise DataError(
                [f"{self._path}: not a folder that Dataset.save_to_disk wrote (no data files in {STATE})"]
            ) from exc
        files = [self._path / str(name) for name in names]
        for file in files:
            if file.parent != self._path or file.is_symlink() or not file.is_file():
                raise DataError([f"{file}: named in {STATE} and no file in the folder"])
        return files

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        pyarrow = _pyarrow(self._path)
        try:
            yield from _numbered(batch for file in self.files for batch in self._batches(file, pyarrow))
        except (pyarrow.ArrowException, *_DAMAGED) as exc:
            raise _unreadable(self._path, exc) from exc

    def _batches(self, file: Path, pyarrow: Any) -> Iterator[Any]:
        with pyarrow.memory_map(str(file)) as memory, pyarrow.ipc.open_stream(memory) as stream:
            for batch in stream:
                batch.validate(full=True)  # places in it are memory addresses; pyarrow trusts them
                yield from (batch.slice(start, PIECE) for start in range(0, batch.num_rows, PIECE))


def _numbered(batches: Iterator[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, _without_nulls(row)


def _without_nulls(value: Any) -> Any:
    """A column has one type, so what an object lacks is null in it, at every depth."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as exc:
        raise DataError([f"{path}: needs pyarrow; pip install 'decodekit-export[data]'"]) from exc
    return pyarrow


def _unreadable(path: Path, exc: Exception) -> DataError:
    reason = first_line(exc)
    return DataError([f"{path}: cannot be read ({reason}); check the path and the file"])
